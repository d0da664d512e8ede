package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/client"
)

// ErrReplaced ends a front end of whose instance there is a newer one.
var ErrReplaced = errors.New("a newer front end of this instance has taken over")

// FrontEndOptions are how a [FrontEnd] works.
type FrontEndOptions struct {
	ID       string // "": a new one
	Instance string // of nginx: letters, digits, `_` and `-`. Of two with the same the newer one stays
	Twin     uint32 // whose bus it is on
	Tron     uint32 // twin of the tron
	Times    Times
	Story    Story // nil: nobody listens
}

// A FrontEnd takes requests from the web to the runners, by the tron's routes. It is an
// [net/http.Handler].
type FrontEnd struct {
	bus   *client.Client
	queue string
	opts  FrontEndOptions
	die   chan struct{} // told to

	mu    sync.Mutex
	table RouteTable // guarded by mu
	turn  uint       // of requests that several queues serve; guarded by mu
}

// NewFrontEnd returns a front end, which knows no routes before it runs.
func NewFrontEnd(bus *client.Client, opts FrontEndOptions) *FrontEnd {
	if opts.ID == "" {
		opts.ID = uuid.NewString()
	}
	opts.Times, opts.Story = opts.Times.orDefaults(), orSilence(opts.Story)
	return &FrontEnd{bus: bus, queue: frontEndQueue(opts.ID), opts: opts, die: make(chan struct{}, 1)}
}

// Run keeps the routes up to date until ctx ends. It returns [ErrReplaced] when a newer
// front end of the same instance has taken over: then it does not speak to the tron any
// more, and serves on with the routes that it has.
func (f *FrontEnd) Run(ctx context.Context) error {
	// The name is the instance's. Redis, and no clock, decides who has it, and without
	// a tron, too.
	name, err := f.bus.Announce(ctx, f.presence(), holder{ID: f.opts.ID})
	if err != nil {
		return err
	}
	g, running := errgroup.WithContext(ctx)
	in := &inbox{bus: f.bus, queue: f.queue, story: f.opts.Story, on: map[string]handler{ActionDie: on(ActionDie, f.toldToDie)}}
	contact := &contact{
		bus: f.bus, tron: Queue{f.opts.Tron, tronQueue}, queue: f.queue, times: f.opts.Times, story: f.opts.Story,
		awake: f.awake,
		heartbeat: func() Heartbeat {
			return Heartbeat{Header: newHeader(ActionHeartbeat), From: f.opts.ID}
		},
		known: f.ackTable, // an ack that came before the awake was nobody's
	}
	g.Go(func() error { return in.run(running) })
	g.Go(func() error { return contact.keep(running) })
	listener := &listener{
		bus: f.bus, tron: f.opts.Tron, pattern: topicRoute, queue: f.queue,
		times: f.opts.Times, story: f.opts.Story, handle: f.use,
	}
	g.Go(func() error { return listener.listen(running) })
	g.Go(func() error {
		select {
		case <-name.Lost():
			return ErrReplaced
		case <-f.die:
			return ErrReplaced
		case <-running.Done():
			return nil
		}
	})
	err = g.Wait()
	if !errors.Is(err, ErrReplaced) {
		contact.leave(ctx, Died{Header: newHeader(ActionDied), Type: TypeFrontEnd, From: f.opts.ID})
	}
	return errors.Join(err, name.Close())
}

// holder is what is said of who has an instance's name.
type holder struct {
	ID string `json:"id"`
}

func (f *FrontEnd) presence() string { return "frontend." + f.opts.Instance }

// awake does not speak for an instance whose name another one has: the tron would take it
// for the newer one.
func (f *FrontEnd) awake(ctx context.Context) (Awake, error) {
	info, ok, err := f.bus.Present(ctx, f.presence())
	var has holder
	if err == nil && ok && json.Unmarshal(info, &has) == nil && has.ID != f.opts.ID {
		return Awake{}, ErrReplaced
	}
	return Awake{Header: newHeader(ActionAwake), Type: TypeFrontEnd, InstanceID: f.opts.Instance, From: f.opts.ID}, nil
}

func (f *FrontEnd) toldToDie(_ context.Context, _ uint32, m Die) (any, error) {
	if m.InstanceID != f.opts.Instance {
		return nil, fmt.Errorf("told to die as instance %q, and is %q", m.InstanceID, f.opts.Instance)
	}
	select {
	case f.die <- struct{}{}:
	default: // it is told already
	}
	return nil, nil
}

// use takes a table and acknowledges it.
func (f *FrontEnd) use(ctx context.Context, raw json.RawMessage) {
	table, err := parse[RouteTable](raw, ActionRoute)
	if err != nil {
		f.opts.Story.Say(f.queue, err.Error())
		return
	}
	f.mu.Lock()
	f.table = table
	f.mu.Unlock()
	f.ackTable(ctx)
}

func (f *FrontEnd) ackTable(ctx context.Context) {
	f.mu.Lock()
	id := f.table.MsgID
	f.mu.Unlock()
	if id == "" {
		return
	}
	ack := Ack{Header: newHeader(ActionAck), From: f.opts.ID, AckID: id}
	err := f.bus.Notify(ctx, f.opts.Tron, tronQueue, ack, client.Expire(f.opts.Times.StaleAfter))
	if err != nil && ctx.Err() == nil {
		f.opts.Story.Say(f.queue, fmt.Sprintf("cannot acknowledge the routes: %v", err)) // the tron reminds
	}
}

// Routes is the table in use.
func (f *FrontEnd) Routes() []Route {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.table.Routes)
}

// route returns the queue for a request. Where several twins serve the same, they take turns.
func (f *FrontEnd) route(host, path string) (q Queue, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fit := matching(f.table.Routes, host, path)
	if len(fit) == 0 {
		return Queue{}, false
	}
	f.turn++
	return fit[f.turn%uint(len(fit))].Queue, true
}
