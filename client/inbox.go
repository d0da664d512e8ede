package client

import (
	"context"
	"log/slog"
	"sync"
)

// An inbox matches what comes back with the requests that wait for it. Its goroutine
// runs only while there is one.
type inbox struct {
	link link
	log  *slog.Logger
	most int             // requests that may wait
	open context.Context // ends when the inbox is closed
	shut context.CancelFunc

	mu      sync.Mutex
	waiting map[string]*exchange // by id; guarded by mu
	running bool                 // the goroutine; guarded by mu
	reading sync.WaitGroup
}

func newInbox(l link, log *slog.Logger, most int) *inbox {
	in := &inbox{link: l, log: log, most: most, waiting: make(map[string]*exchange)}
	in.open, in.shut = context.WithCancel(context.Background())
	return in
}

// expect has the answers to a request matched from now on.
func (in *inbox) expect(x *exchange) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.open.Err() != nil:
		return ErrClosed
	case len(in.waiting) >= in.most:
		return ErrTooManyWait
	}
	in.waiting[x.id] = x
	if !in.running {
		in.running = true
		in.reading.Go(in.run)
	}
	return nil
}

// forget is for a request for which nobody waits any more.
func (in *inbox) forget(x *exchange) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.remove(x)
}

// remove needs mu.
func (in *inbox) remove(x *exchange) {
	if in.waiting[x.id] == x {
		delete(in.waiting, x.id)
	}
}

// fail ends a request with an error, for all twins that have not answered.
func (in *inbox) fail(x *exchange, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.failLocked(x, err)
}

func (in *inbox) failLocked(x *exchange, err error) {
	x.endAll(func(twin uint32) *Reply { return &Reply{Twin: twin, Err: err} })
	in.remove(x)
}

// next returns what has come for a request and was not returned before.
func (in *inbox) next(x *exchange) (event, bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return x.pop()
}

// run reads until nobody waits.
func (in *inbox) run() {
	var trouble backoff
	for {
		if !in.isWanted() {
			in.link.settle() // nobody waits for that
			if in.rest() {
				return
			}
			continue
		}
		replies, err := in.link.pull()
		if err != nil {
			if wait := trouble.next(); in.open.Err() == nil {
				in.log.Warn("answers cannot be read; trying again", "err", err, "in", wait)
				pause(in.open, wait)
			}
			continue
		}
		if trouble.reset() {
			in.log.Info("answers can be read again")
		}
		for _, raw := range replies {
			in.deliver(raw)
		}
	}
}

func (in *inbox) isWanted() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.waiting) > 0
}

// rest reports whether the goroutine is to end: still nobody waits.
func (in *inbox) rest() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.running = len(in.waiting) > 0
	return !in.running
}

func (in *inbox) deliver(raw string) {
	r, err := parseReply([]byte(raw))
	if err != nil {
		in.log.Warn("a reply cannot be read", "err", err)
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	x := in.waiting[r.ext.id]
	if x == nil {
		in.log.Debug("a reply for which nobody waits", "msg_id", r.uid, "twin", r.source)
		return
	}
	x.note(r)
	if x.isDone() {
		in.remove(x)
	}
}

// close ends all requests, and reports whether that was not done before.
func (in *inbox) close() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.open.Err() != nil {
		return false
	}
	in.shut()
	for _, x := range in.waiting {
		in.failLocked(x, ErrClosed)
	}
	return true
}

// await waits for the goroutine's end.
func (in *inbox) await() { in.reading.Wait() }
