package main

import (
	"context"
	"os"
	"runtime/metrics"
	"strings"
	"time"
)

// HeartbeatEvery is how often a process tells that it lives.
const HeartbeatEvery = 10 * time.Second

// A Heart tells that a process lives: it keeps its name, and the bus tells everybody when it
// is free. What it is up to is in its heartbeats.
type Heart struct {
	bus   *Bus
	name  string
	every time.Duration
}

// NewHeart beats for a process. every is HeartbeatEvery if it is 0.
func NewHeart(b *Bus, name string, every time.Duration) *Heart {
	if every <= 0 {
		every = HeartbeatEvery
	}
	return &Heart{b, name, every}
}

// Run beats until ctx ends, at once first.
func (h *Heart) Run(ctx context.Context) error {
	presence, err := h.bus.client.Announce(ctx, h.name, Nothing{})
	if err != nil {
		return err
	}
	next := time.NewTicker(h.every)
	defer next.Stop()
	for ctx.Err() == nil {
		if err := h.beat(ctx); err != nil && ctx.Err() == nil {
			h.bus.log.Warn("a heartbeat is lost", "name", h.name, "err", err)
		}
		select {
		case <-next.C:
		case <-presence.Lost():
			h.bus.log.Warn("another process has the name", "name", h.name)
			return presence.Close()
		case <-ctx.Done():
		}
	}
	return presence.Close()
}

func (h *Heart) beat(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	host, _, _ = strings.Cut(host, ".") // one word of the key
	usage := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/cpu/classes/user:cpu-seconds"}}
	metrics.Read(usage)
	m := Heartbeat{
		Name: h.name, Host: host, PID: os.Getpid(), MemoryUsage: usage[0].Value.Uint64(), CPUUsage: usage[1].Value.Float64(),
		NextUpdate: time.Now().Add(h.every),
	}
	return h.bus.Publish(ctx, HeartBeat, m, host, h.name)
}
