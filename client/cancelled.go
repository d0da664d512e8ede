package client

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Cancellations are what apps do not want answered any more, as far as a server has heard.
// It hears of them as of events; those from before it began are in their stream.
type cancellations struct {
	c        *Client
	recalled chan struct{} // closed when what was before has been heard, or cannot be
	once     sync.Once

	mu      sync.Mutex
	heard   []heard                              // the latest; guarded by mu
	running map[*Request]context.CancelCauseFunc // guarded by mu
}

// A heard cancellation is for what its twin has asked before.
type heard struct {
	cancellation
	source uint32
	at     time.Time
}

// How much is remembered: what waits in a queue may have been cancelled long ago.
const (
	heardMost   = 1000
	heardMaxAge = time.Hour
)

func newCancellations(c *Client) *cancellations {
	return &cancellations{c: c, recalled: make(chan struct{}), running: make(map[*Request]context.CancelCauseFunc)}
}

// await waits until it is known what was cancelled before.
func (n *cancellations) await(ctx context.Context) {
	select {
	case <-n.recalled:
	case <-ctx.Done():
	}
}

// listen hears of cancellations until ctx ends.
func (n *cancellations) listen(ctx context.Context) {
	var trouble backoff
	for ctx.Err() == nil {
		err := n.hear(ctx, &trouble)
		n.once.Do(func() { close(n.recalled) })
		if ctx.Err() != nil {
			return
		}
		wait := trouble.next()
		n.c.log.Warn("cancellations cannot be heard; trying again", "err", err, "in", wait)
		pause(ctx, wait)
	}
}

func (n *cancellations) hear(ctx context.Context, trouble *backoff) error {
	s, err := n.c.Subscribe(ctx, msgbus.CancelTopic)
	if err != nil {
		return err
	}
	err = n.recall(ctx)
	n.once.Do(func() { close(n.recalled) })
	for err == nil {
		var e *Event
		if e, err = s.Next(ctx); err == nil {
			trouble.reset()
			n.note(e)
			if e.Lost != 0 {
				err = n.recall(ctx)
			}
		}
	}
	return errors.Join(err, s.Close())
}

// recall notes what is in the stream.
func (n *cancellations) recall(ctx context.Context) error {
	exchange, _ := msgbus.SplitTopic(msgbus.CancelTopic)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	kept, err := n.c.rdb.XRevRangeN(ctx, n.c.prefix+".system.stream."+exchange, "+", "-", heardMost).Result()
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(kept) {
		raw, _ := m.Values["event"].(string)
		if e, err := parseEvent([]byte(raw)); err == nil && e.Topic == msgbus.CancelTopic {
			n.note(e)
		}
	}
	return nil
}

// note ends what runs, and remembers for what comes.
func (n *cancellations) note(e *Event) {
	h := heard{source: e.Source, at: e.Time}
	if json.Unmarshal(e.Data, &h.cancellation) != nil {
		return // another library's
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for r, end := range n.running {
		if h.isFor(r) {
			end(ErrCancelled)
		}
	}
	n.heard = append(n.heard, h)
	if len(n.heard) > heardMost {
		n.heard = n.heard[1:]
	}
}

// isFor tells whether a cancellation is for a request: one that came later is not meant. Both
// times are of whole seconds, by the clock of the twin that asks.
func (h *heard) isFor(r *Request) bool {
	return h.fits(h.source, r) && !time.Unix(r.in.now, 0).After(h.at)
}

// begin returns a context for the handler of a request, which ends when that is cancelled,
// be it already, and what must be called when the handler has returned.
func (n *cancellations) begin(ctx context.Context, r *Request) (context.Context, func()) {
	ctx, end := context.WithCancelCause(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running[r] = end
	for i := range n.heard {
		if time.Since(n.heard[i].at) < heardMaxAge && n.heard[i].isFor(r) {
			end(ErrCancelled)
		}
	}
	return ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.running, r)
		end(nil)
	}
}
