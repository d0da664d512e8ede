package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/client"
)

// A Function is what a bundle does with a request. An error is answered as such, which the
// front end makes a 502 of.
type Function func(ctx context.Context, r *ServiceRequest) (Result, error)

// RunnerOptions are how a [Runner] works.
type RunnerOptions struct {
	ID        string              // "": a new one
	Twin      uint32              // whose bus it is on
	Tron      uint32              // twin of the tron
	Functions map[string]Function // by SHA of the bundle, those that it can run
	Times     Times
	Story     Story // nil: nobody listens
}

// A Runner runs functions of the bundles that the tron enables on it.
type Runner struct {
	bus   *client.Client
	queue string
	opts  RunnerOptions

	requests, errors atomic.Int64

	mu      sync.Mutex
	known   []Bundle            // as the tron has told; guarded by mu
	serving map[string]*service // by SHA; guarded by mu
}

// service is a bundle's queue that a runner serves.
type service struct {
	stop  context.CancelFunc
	ended chan error
}

// NewRunner returns a runner.
func NewRunner(bus *client.Client, opts RunnerOptions) *Runner {
	if opts.ID == "" {
		opts.ID = uuid.NewString()
	}
	opts.Times, opts.Story = opts.Times.orDefaults(), orSilence(opts.Story)
	return &Runner{bus: bus, queue: runnerQueue(opts.ID), opts: opts, serving: make(map[string]*service)}
}

// Run serves until ctx ends. Then it tells the tron, which takes it off the routes, and
// finishes what it works on.
func (r *Runner) Run(ctx context.Context) error {
	g, running := errgroup.WithContext(ctx)
	in := &inbox{bus: r.bus, queue: r.queue, story: r.opts.Story, on: map[string]handler{
		ActionEnable:  on(ActionEnable, r.enable),
		ActionDisable: on(ActionDisable, r.disable),
	}}
	contact := &contact{
		bus: r.bus, tron: Queue{r.opts.Tron, tronQueue}, queue: r.queue, times: r.opts.Times, story: r.opts.Story,
		awake: func(context.Context) (Awake, error) {
			return Awake{Header: newHeader(ActionAwake), Type: TypeRunner, From: r.opts.ID}, nil
		},
		heartbeat: func() Heartbeat {
			return Heartbeat{Header: newHeader(ActionHeartbeat), From: r.opts.ID, Statistics: r.statistics()}
		},
	}
	g.Go(func() error { return in.run(running) })
	g.Go(func() error { return contact.keep(running) })
	listener := &listener{
		bus: r.bus, tron: r.opts.Tron, pattern: topicsOfRunners, queue: r.queue,
		times: r.opts.Times, story: r.opts.Story, handle: r.told,
	}
	g.Go(func() error { return listener.listen(running) })
	err := g.Wait()
	contact.leave(ctx, Died{Header: newHeader(ActionDied), From: r.opts.ID})
	return errors.Join(err, r.stopAll())
}

func (r *Runner) statistics() *Statistics {
	return &Statistics{Requests: r.requests.Load(), Errors: r.errors.Load()}
}

// Known is all bundles that the tron has told of.
func (r *Runner) Known() []Bundle {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.known)
}

// told takes in what the tron tells all. Where the tron is, a runner that downloads its
// bundles would note, too.
func (r *Runner) told(_ context.Context, raw json.RawMessage) {
	all, err := parse[AllBundles](raw, ActionAllBundles)
	if err != nil {
		return // for others
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = all.Bundles
}

// enable serves a bundle's queue. Its ack promises that requests are taken from now on.
func (r *Runner) enable(ctx context.Context, _ uint32, m Enable) (any, error) {
	f, ok := r.opts.Functions[m.SHA]
	if !ok {
		return nil, &client.Error{Class: "unknown_bundle", Message: fmt.Sprintf("%s has no bundle %s", r.queue, m.SHA)}
	}
	r.mu.Lock()
	if r.serving[m.SHA] == nil { // it may come twice
		r.serving[m.SHA] = r.serve(bundleQueue(m.SHA), f)
	}
	r.mu.Unlock()
	if err := r.awaitServed(ctx, bundleQueue(m.SHA)); err != nil {
		return nil, err
	}
	return r.ack(m.Header), nil
}

// disable leaves a bundle's queue. Its ack promises that nothing is worked on any more.
func (r *Runner) disable(_ context.Context, _ uint32, m Disable) (any, error) {
	r.mu.Lock()
	s := r.serving[m.SHA]
	delete(r.serving, m.SHA)
	r.mu.Unlock()
	if s != nil {
		if err := s.end(); err != nil {
			return nil, err
		}
	}
	return r.ack(m.Header), nil
}

func (r *Runner) ack(of Header) Ack {
	return Ack{Header: newHeader(ActionAck), From: r.opts.ID, AckID: of.MsgID}
}

// serve has a server of its own for each bundle: they begin and end one by one.
func (r *Runner) serve(queue string, f Function) *service {
	server := client.NewServer(r.bus, client.ServerOptions{})
	client.Handle(server, queue, func(ctx context.Context, raw json.RawMessage) (Answer, error) {
		r.opts.Story.Saw(Message{To: queue, From: client.RequestFrom(ctx).Source, Raw: raw})
		return r.answer(ctx, f, raw)
	})
	ctx, stop := context.WithCancel(context.Background())
	s := &service{stop: stop, ended: make(chan error, 1)}
	go func() { s.ended <- server.Run(ctx) }()
	return s
}

// end returns when nothing is worked on any more.
func (s *service) end() error {
	s.stop()
	return <-s.ended
}

func (r *Runner) stopAll() error {
	r.mu.Lock()
	all := r.serving
	r.serving = make(map[string]*service)
	r.mu.Unlock()
	var errs []error
	for _, s := range all {
		s.stop() // all at once
	}
	for _, s := range all {
		errs = append(errs, s.end())
	}
	return errors.Join(errs...)
}

// awaitServed waits until the relay counts a service for a queue: until then it refuses
// requests that insist on one.
func (r *Runner) awaitServed(ctx context.Context, queue string) error {
	for {
		var served struct {
			Commands []struct {
				Name     string `json:"name"`
				Services int    `json:"services"`
			} `json:"commands"`
		}
		if err := r.bus.Call(ctx, r.opts.Twin, "msgbus.commands", nil, &served); err != nil {
			return fmt.Errorf("ask who serves %s: %w", queue, err)
		}
		for _, c := range served.Commands {
			if c.Name == queue && c.Services > 0 {
				return nil
			}
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("wait for %s to be served: %w", queue, ctx.Err())
		}
	}
}

func (r *Runner) answer(ctx context.Context, f Function, raw json.RawMessage) (Answer, error) {
	r.requests.Add(1)
	request, err := parse[ServiceRequest](raw, ActionService)
	if err == nil {
		var result Result
		if result, err = f(ctx, &request); err == nil {
			return Answer{Header: newHeader(ActionAnswer), RequestID: request.RequestID, Answer: result}, nil
		}
	}
	r.errors.Add(1)
	return Answer{}, err
}
