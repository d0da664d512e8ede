package main

import (
	"context"
	"errors"
	"iter"

	"github.com/msgbusd/msgbusd/client"
)

// A Listener hears the messages of a pattern. It is its own queue: what one takes, or is too
// slow for, is nothing to the others. It must be run, or closed.
type Listener[M Message] struct {
	bus    *Bus
	source source
	done   func(context.Context, *client.Event) error // acknowledges
}

// A source is a subscription or a stream of the client library.
type source interface {
	All(ctx context.Context) iter.Seq[*client.Event]
	Close() error
}

// listen hears an event of all machines from now on. words are those of the key's brackets,
// `*` for any; without words all messages of the key come. Nothing of a durable event is
// missed while a relay or Redis is away.
func listen[M Message](ctx context.Context, b *Bus, e Event, words ...string) (*Listener[M], error) {
	if len(words) == 0 {
		return hear[M](ctx, b, e, e.anyKey())
	}
	return hear[M](ctx, b, e, fill(e.Key, words))
}

func hear[M Message](ctx context.Context, b *Bus, e Event, key string, more ...client.SubscribeOption) (*Listener[M], error) {
	l := &Listener[M]{bus: b}
	var err error
	if e.Durable {
		more = append(more, client.From(b.others...), client.Matching(key))
		l.source, err = b.client.Stream(ctx, e.Exchange, more...)
	} else {
		l.source, err = b.client.Subscribe(ctx, e.Exchange+"/"+key, client.From(b.others...))
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// compete shares the messages of a durable event, of all machines, with the other workers of
// a domain on this machine: each goes to one of them. One that a worker has not finished when
// it ends comes to it again when it is back under its name, or to another one after a minute.
func compete[M Message](ctx context.Context, b *Bus, e Event, domain, worker string) (*Listener[M], error) {
	s, err := b.client.Stream(ctx, e.Exchange, client.From(b.others...), client.Matching(e.anyKey()), client.Competing(domain, worker))
	if err != nil {
		return nil, err
	}
	return &Listener[M]{bus: b, source: s, done: s.Ack}, nil
}

// run calls f for each message until ctx ends, and closes the listener. A message that is not
// an M as it must be is dropped, since it would be no better the next time. The error of f is
// logged; a worker's message comes again if ctx has ended meanwhile.
func (l *Listener[M]) run(ctx context.Context, f func(ctx context.Context, m M) error) error {
	for e := range l.source.All(ctx) {
		var m M
		err := check(e.Schema, e.Decode, &m)
		if err == nil {
			err = f(ctx, m)
		}
		if ctx.Err() != nil && err != nil {
			break
		}
		if err != nil {
			l.bus.log.Warn("a message could not be dealt with", "topic", e.Topic, "twin", e.Source, "err", err)
		}
		if e.Lost != 0 {
			l.bus.log.Warn("messages were lost", "topic", e.Topic, "lost", e.Lost)
		}
		if err := l.ack(ctx, e); err != nil {
			l.bus.log.Warn("a message could not be acknowledged; it comes again", "topic", e.Topic, "err", err)
		}
	}
	return l.source.Close()
}

// ack says that a message has been dealt with, be it that ctx has just ended.
func (l *Listener[M]) ack(ctx context.Context, e *client.Event) error {
	if l.done == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), RequestTimeout)
	defer cancel()
	return l.done(ctx, e)
}

// together runs loops until ctx ends or one of them fails, which ends the others, and waits
// for all.
func together(ctx context.Context, loops ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(loops))
	for _, loop := range loops {
		go func() { ended <- loop(ctx) }()
	}
	var all error
	for range loops {
		if err := <-ended; err != nil {
			all = errors.Join(all, err)
			cancel()
		}
	}
	return all
}
