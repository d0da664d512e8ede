package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// readiness is the answer to /readyz, from before there is a relay until after.
type readiness struct {
	mu      sync.Mutex
	reason  string                      // why not; guarded by mu
	ping    func(context.Context) error // asked while there is no reason; guarded by mu
	stopped bool                        // for good; guarded by mu
}

// not says why there is nothing to be had now.
func (r *readiness) not(reason string) { r.set(reason, nil) }

// yes says that ping decides from now on.
func (r *readiness) yes(ping func(context.Context) error) { r.set("", ping) }

// stop is the last word.
func (r *readiness) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason, r.ping, r.stopped = "stopping", nil, true
}

func (r *readiness) set(reason string, ping func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.reason, r.ping = reason, ping
	}
}

func (r *readiness) check(ctx context.Context) error {
	r.mu.Lock()
	reason, ping := r.reason, r.ping
	r.mu.Unlock()
	switch {
	case reason != "":
		return errors.New(reason)
	case ping == nil:
		return errors.New("starting")
	}
	if err := ping(ctx); err != nil {
		return fmt.Errorf("the local Redis does not serve: %w", err)
	}
	return nil
}
