package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/msgbusd/msgbusd/client"
)

// A Cancellation is the data of a request to msgbus.cancel of an agent's twin. The twin's
// relay publishes it there as a durable event, and what it says is between callers and
// agents. The library's own ([client.Client.CancelTagged]) does when equality is enough.
type Cancellation struct {
	SN        string    `json:"sn,omitempty"`       // of one call
	Criteria  *Criteria `json:"criteria,omitempty"` // of all calls of the same twin whose data they select
	Timestamp time.Time `json:"timestamp"`          // what is called later is not meant
}

// Cancel asks an agent to stop what apps of this twin have called, and returns when Redis
// has that. Methods that run see their contexts end; what waits does not begin.
func (c *Caller) Cancel(ctx context.Context, agent uint32, what Cancellation) error {
	if what.Criteria != nil {
		if err := what.Criteria.Check(); err != nil {
			return fmt.Errorf("cancel by criteria: %w", err)
		}
	} else if what.SN == "" {
		return errors.New("a cancellation needs a serial number or criteria")
	}
	what.Timestamp = time.Now().UTC()
	if err := c.bus.Notify(ctx, agent, "msgbus.cancel", what); err != nil {
		return fmt.Errorf("cancel calls of agent %d: %w", agent, err)
	}
	return nil
}

// isFor tells whether a call is meant, by a cancellation of a twin.
func (what *Cancellation) isFor(call *Invocation) bool {
	if what.SN != "" {
		return what.SN == call.SN
	}
	return !call.Timestamp.After(what.Timestamp) && what.Criteria.Selects(call.Data)
}

// Bounds of what an agent remembers, since calls that are cancelled may wait in a queue.
const (
	cancellationsMost = 1000
	cancellationsAge  = time.Hour
)

// cancellations are what an agent has heard, and what runs.
type cancellations struct {
	bus      *client.Client
	marker   string        // serial number of a cancellation of nothing
	recalled chan struct{} // closed when that was heard, and all that was before
	once     sync.Once     // closes recalled

	mu      sync.Mutex
	heard   []heard                                 // the latest; guarded by mu
	running map[*Invocation]context.CancelCauseFunc // guarded by mu
}

type heard struct {
	Cancellation
	source uint32 // the twin that cancels: its own calls, and nobody else's
	at     time.Time
}

func newCancellations(bus *client.Client) *cancellations {
	return &cancellations{
		bus: bus, marker: uuid.NewString(), recalled: make(chan struct{}), running: make(map[*Invocation]context.CancelCauseFunc),
	}
}

// recall returns when everything has been heard that was cancelled before. The agent cancels
// something itself, and when it hears of that, it has heard of the rest.
func (c *cancellations) recall(ctx context.Context, self uint32) error {
	err := c.bus.Notify(ctx, self, "msgbus.cancel", Cancellation{SN: c.marker, Timestamp: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("recall what was cancelled: %w", err)
	}
	select {
	case <-c.recalled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listen hears of cancellations until ctx ends. It begins with those that are kept, for the
// sake of what was accepted before the agent was started.
func (c *cancellations) listen(ctx context.Context) error {
	s, err := c.bus.Stream(ctx, "msgbus", client.After("0"), client.Matching("cancel"))
	if err != nil {
		return fmt.Errorf("hear of cancellations: %w", err)
	}
	for e := range s.All(ctx) {
		h := heard{source: e.Source, at: e.Time}
		if e.Decode(&h.Cancellation) != nil || time.Since(e.Time) > cancellationsAge || !h.isGood() {
			continue
		}
		if h.SN == c.marker {
			c.once.Do(func() { close(c.recalled) })
			continue
		}
		c.note(&h)
	}
	return s.Close()
}

// isGood tells whether it is one of ours: the library's are heard by the library.
func (h *heard) isGood() bool {
	return h.SN != "" || h.Criteria != nil && h.Criteria.Check() == nil
}

// note ends what runs, and remembers for what comes.
func (c *cancellations) note(h *heard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for call, end := range c.running {
		if h.source == call.Routing[0] && h.isFor(call) {
			end(ErrCancelled)
		}
	}
	c.heard = append(c.heard, *h)
	if len(c.heard) > cancellationsMost {
		c.heard = c.heard[1:]
	}
}

// begin returns the context of a method, which ends with the cause [ErrCancelled] when its
// call is cancelled, be it already, and what is called when the method has returned.
func (c *cancellations) begin(ctx context.Context, call *Invocation) (context.Context, func()) {
	ctx, end := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running[call] = end
	for i := range c.heard {
		h := &c.heard[i]
		if time.Since(h.at) < cancellationsAge && h.source == call.Routing[0] && h.isFor(call) {
			end(ErrCancelled)
		}
	}
	return ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.running, call)
		end(nil)
	}
}
