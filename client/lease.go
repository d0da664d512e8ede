package client

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A lease is for how long the relay leaves a consumer's requests with it. It is held by
// this machine's monotonic clock, from before Redis was asked: never longer than Redis holds it.
type lease struct {
	consumer *consumer
	log      *slog.Logger

	mu      sync.Mutex
	until   time.Time     // guarded by mu
	lapsed  bool          // and that is said; guarded by mu
	ahead   time.Duration // of Redis's clock before this machine's; guarded by mu
	renewed chan struct{} // closed at the next renewal; guarded by mu
}

func newLease(c *consumer, log *slog.Logger) *lease {
	return &lease{consumer: c, log: log, renewed: make(chan struct{})}
}

// keep renews the lease, three times before it ends, until ctx ends.
func (l *lease) keep(ctx context.Context) {
	var trouble backoff
	for {
		wait := l.consumer.lease / 3
		if err := l.renew(ctx); err != nil {
			wait = min(wait, trouble.next())
			if ctx.Err() == nil {
				l.log.Warn("the lease cannot be renewed; trying again", "err", err, "in", wait)
			}
		} else if trouble.reset() {
			l.log.Info("the lease is renewed again")
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

func (l *lease) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	start := time.Now()
	clock, err := l.consumer.announce(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = start.Add(l.consumer.lease)
	l.ahead = clock.Sub(start.Add(time.Since(start) / 2).Round(0))
	l.lapsed = false
	close(l.renewed)
	l.renewed = make(chan struct{})
	return nil
}

// await waits until the lease holds for longer than a take may last, and reports whether
// it does: ctx may end first.
func (l *lease) await(ctx context.Context) bool {
	for {
		held, renewed := l.look()
		if ctx.Err() != nil || held {
			return ctx.Err() == nil
		}
		select {
		case <-renewed:
		case <-ctx.Done():
		}
	}
}

// look tells whether the lease holds for long enough, and what is closed when it is renewed.
func (l *lease) look() (held bool, renewed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held = time.Until(l.until) > takeBlock
	if !held && !l.lapsed && !l.until.IsZero() {
		l.lapsed = true
		l.log.Warn("the lease ends; nothing is taken until it is renewed")
	}
	return held, l.renewed
}

// now is Redis's clock: requests have their deadlines by it.
func (l *lease) now() time.Time { return time.Now().Add(l.offset()) }

// here is a time of Redis's clock by this machine's.
func (l *lease) here(t time.Time) time.Time { return t.Add(-l.offset()) }

func (l *lease) offset() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ahead
}
