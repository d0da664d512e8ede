package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// An idleness is what a pair of relays uses while nobody asks for anything.
type idleness struct {
	lasted time.Duration
	relays []idleRelay
}

type idleRelay struct {
	cpu           float64 // percent of a core
	before, after float64 // MiB of memory: as it started, and after a load and the idle time
}

// measureIdle looks at relays that have had work to do: what that made them open and
// keep is there.
func measureIdle(ctx context.Context, o options) (*idleness, error) {
	s := usual(ordinary)
	p, err := newPair(ctx, o.program, s)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	result := &idleness{lasted: o.idle, relays: make([]idleRelay, len(p.relays))}
	for i, relay := range p.relays {
		if result.relays[i].before, err = relay.memory(now); err != nil {
			return nil, err
		}
	}
	if _, err := p.measure(ctx, s, o.duration); err != nil {
		return nil, err
	}
	if err := pass(ctx, 2*time.Second); err != nil { // the load's end is none of it
		return nil, err
	}
	used := make([]time.Duration, len(p.relays))
	for i, relay := range p.relays {
		if used[i], err = relay.cpu(); err != nil {
			return nil, err
		}
	}
	if err := pass(ctx, o.idle); err != nil {
		return nil, err
	}
	for i, relay := range p.relays {
		cpu, err := relay.cpu()
		if err != nil {
			return nil, err
		}
		result.relays[i].cpu = 100 * float64(cpu-used[i]) / float64(o.idle)
		if result.relays[i].after, err = relay.memory(now); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func (i *idleness) String() string {
	var lines []string
	for n, r := range i.relays {
		lines = append(lines, fmt.Sprintf("idle for %s after a load, relay %d: %.2f %% of a core, %.1f MiB; %.1f MiB before the load",
			i.lasted, n+1, r.cpu, r.after, r.before))
	}
	return strings.Join(lines, "\n")
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
