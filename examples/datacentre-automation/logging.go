package main

import (
	"context"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// A Logger writes to the log of the system.
type Logger struct {
	bus    *Bus
	module string
}

// NewLogger writes as a module, such as dhcp.
func NewLogger(b *Bus, module string) *Logger { return &Logger{b, module} }

// Log writes an entry. subject is a node, or `server`.
func (l *Logger) Log(ctx context.Context, level Level, subject, message string) error {
	e := LogEvent{Level: level, Module: l.module, Subject: subject, Message: message, Timestamp: time.Now()}
	return l.bus.Publish(ctx, LogEntries(level), e)
}

// A LogReader reads the log, of all machines.
type LogReader struct{ entries *Listener[LogEvent] }

// NewLogReader reads one level, or all with "*", from the oldest entry on that this machine
// keeps. Entries of other machines are kept here from when the first reader was there.
func NewLogReader(ctx context.Context, b *Bus, level Level) (*LogReader, error) {
	e := LogEntries(level)
	l, err := hear[LogEvent](ctx, b, e, e.Key, client.After("0"))
	if err != nil {
		return nil, err
	}
	return &LogReader{l}, nil
}

// Run calls f for each entry until ctx ends.
func (r *LogReader) Run(ctx context.Context, f func(LogEvent)) error {
	return r.entries.run(ctx, func(_ context.Context, e LogEvent) error {
		f(e)
		return nil
	})
}
