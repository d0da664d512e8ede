package client

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// An outbox hands requests to the link, one push at a time: what comes while one is on
// its way leaves with the next, so batches grow by themselves under load and a lone
// request waits for nothing.
type outbox struct {
	link link

	mu      sync.Mutex
	queue   []*parcel // guarded by mu
	running bool      // a goroutine pushes; guarded by mu
	closed  bool      // guarded by mu
	pushing sync.WaitGroup
}

// A parcel is a request on its way to Redis. done is called once, unless the parcel is
// withdrawn.
type parcel struct {
	raw  string
	done func(error)
}

// Bounds of one push.
const (
	maxPushed      = 256
	maxPushedBytes = 1 << 20 // a larger request goes alone
)

func (o *outbox) put(p *parcel) {
	if !o.accept(p) {
		p.done(ErrClosed)
	}
}

func (o *outbox) accept(p *parcel) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.queue = append(o.queue, p)
	if !o.running {
		o.running = true
		o.pushing.Go(o.run)
	}
	return true
}

// withdraw takes a parcel back, and reports whether that was in time: nothing of it was
// sent.
func (o *outbox) withdraw(p *parcel) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.Index(o.queue, p)
	if i < 0 {
		return false
	}
	o.queue = slices.Delete(o.queue, i, i+1)
	return true
}

func (o *outbox) run() {
	for {
		batch := o.take()
		if len(batch) == 0 {
			return
		}
		raw := make([]string, len(batch))
		for i, p := range batch {
			raw[i] = p.raw
		}
		err := o.link.push(context.Background(), raw)
		if err != nil {
			err = fmt.Errorf("push request: %w", err)
		}
		for _, p := range batch {
			p.done(err)
		}
	}
}

// take returns what goes next. Nothing means that the goroutine that asked is to end.
func (o *outbox) take() []*parcel {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, size := 0, 0
	for n < len(o.queue) && n < maxPushed {
		size += len(o.queue[n].raw)
		if n > 0 && size > maxPushedBytes {
			break
		}
		n++
	}
	batch := slices.Clone(o.queue[:n])
	o.queue = slices.Delete(o.queue, 0, n)
	o.running = n > 0
	return batch
}

// close takes nothing more, and returns when nothing is on its way.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.pushing.Wait()
}
