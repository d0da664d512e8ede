package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// readiness is the answer to /readyz, from before there is a relay.
type readiness struct {
	mu    sync.Mutex
	ready <-chan struct{}             // guarded by mu
	ping  func(context.Context) error // guarded by mu
}

func (r *readiness) set(ready <-chan struct{}, ping func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready, r.ping = ready, ping
}

func (r *readiness) check(ctx context.Context) error {
	r.mu.Lock()
	ready, ping := r.ready, r.ping
	r.mu.Unlock()
	if ready == nil {
		return errors.New("starting: waiting for Redis or the resolver of twins")
	}
	select {
	case <-ready:
	default:
		return errors.New("starting: the relay has no session yet")
	}
	if err := ping(ctx); err != nil {
		return fmt.Errorf("Redis does not serve: %w", err)
	}
	return nil
}
