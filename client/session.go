package client

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// A session is one run of a server, under a name of its own.
type session struct {
	c        *Client
	consumer *consumer
	lease    *lease
	log      *slog.Logger
	grace    time.Duration
	handlers registry
	unwanted *cancellations
	slots    chan struct{} // holds something for each worker

	work    context.Context // of all handlers
	endWork context.CancelFunc
	workers sync.WaitGroup

	mu     sync.Mutex
	inHand map[string]int // requests that were taken, as they came; guarded by mu
	astray time.Time      // until when a request may come that nobody waits for; guarded by mu
	gone   bool           // what is not finished is given back; guarded by mu
}

func newSession(s *Server, c *consumer) *session {
	handlers := make(registry, len(s.handlers))
	for cmd, h := range s.handlers {
		handlers[cmd] = wrap(h, s.opts.Middleware)
	}
	v := &session{
		c: s.c, consumer: c, lease: newLease(c, s.c.log), log: s.c.log, grace: s.opts.Grace,
		handlers: handlers, unwanted: newCancellations(s.c), slots: make(chan struct{}, s.opts.Workers), inHand: make(map[string]int),
	}
	v.work, v.endWork = context.WithCancel(context.Background())
	return v
}

// After their contexts have ended, handlers have so long to return.
const abandonAfter = 2 * time.Second

// serve starts in one order and stops in the reverse:
//   - The name is registered before anything is taken: what nobody is known to have
//     taken, nobody gives back.
//   - Takers end before workers are waited for, since they make more work.
//   - The lease is kept until all that is not finished has been given back, or the relay
//     would do so at the same time.
func (v *session) serve(ctx context.Context) error {
	// What must finish after ctx has ended has contexts of its own.
	leased, release := context.WithCancel(context.Background())
	var keeping, taking sync.WaitGroup
	keeping.Go(func() { v.lease.keep(leased) })
	keeping.Go(func() { v.unwanted.listen(leased) })
	for cmd := range v.handlers {
		taking.Go(func() {
			v.unwanted.await(ctx)
			v.takeAll(ctx, cmd)
		})
	}

	<-ctx.Done()
	taking.Wait()
	v.stopWork()
	release()
	keeping.Wait()
	return v.leave()
}

// stopWork waits for the workers, and no longer than it may.
func (v *session) stopWork() {
	defer v.endWork()
	done := make(chan struct{})
	go func() {
		v.workers.Wait()
		close(done)
	}()
	if endsWithin(done, v.grace) {
		return
	}
	v.endWork()
	if !endsWithin(done, abandonAfter) {
		v.log.Error("handlers do not heed their contexts; their requests are given back", "working", len(v.slots))
	}
}

func endsWithin(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// leave gives back what is not finished and signs off.
func (v *session) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	v.mu.Lock()
	v.gone = true
	wait := time.Until(v.astray)
	v.mu.Unlock()
	pause(ctx, wait)
	var errs []error
	for _, cmd := range v.consumer.commands {
		n, err := v.consumer.giveBack(ctx, cmd)
		if n > 0 {
			v.log.Info("gave back requests that are not finished", "cmd", cmd, "requests", n)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err // the relay must still know the name, to give back the rest
	}
	return v.consumer.leave(ctx)
}
