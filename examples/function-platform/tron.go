package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/client"
)

// TronOptions are how a [Tron] works. The zero value is good.
type TronOptions struct {
	Host    HostPort // told to all
	Bundles []Bundle // enabled from the beginning
	Times   Times
	Story   Story // nil: nobody listens
}

// A Tron knows who is there, what is enabled, and which queue serves which path. It keeps
// all of it in memory: one that begins anew asks everybody to awake again.
type Tron struct {
	bus    *client.Client
	id     string
	opts   TronOptions
	orders sync.WaitGroup

	// publishing is held while a table is made and published: an older one must not come
	// after a newer one.
	publishing sync.Mutex

	mu        sync.Mutex
	running   context.Context      // of Run; guarded by mu
	opened    time.Time            // when Run began; guarded by mu
	bundles   map[string]Bundle    // by SHA, those that are enabled; guarded by mu
	runners   map[string]*runner   // by id; guarded by mu
	frontEnds map[string]*frontEnd // by id; guarded by mu
	table     RouteTable           // the latest that was published; guarded by mu
	published time.Time            // when; guarded by mu
	acked     chan struct{}        // closed at the next ack of a table; guarded by mu
}

// runner is what the tron knows of one.
type runner struct {
	id    string
	queue Queue
	heard time.Time           // when it last was
	serve map[string]struct{} // SHAs that it has acknowledged
	gone  context.CancelFunc  // ends orders to it
	live  context.Context
}

// frontEnd is what the tron knows of one.
type frontEnd struct {
	id, instance string
	queue        Queue
	heard        time.Time
	table        string // msg-id of the latest table that it has acknowledged
}

// NewTron returns a tron of the twin whose bus this is.
func NewTron(bus *client.Client, opts TronOptions) *Tron {
	opts.Times, opts.Story = opts.Times.orDefaults(), orSilence(opts.Story)
	t := &Tron{
		bus: bus, id: uuid.NewString(), opts: opts, bundles: make(map[string]Bundle),
		runners: make(map[string]*runner), frontEnds: make(map[string]*frontEnd), acked: make(chan struct{}),
	}
	for _, b := range opts.Bundles {
		t.bundles[b.SHA] = b
	}
	return t
}

// Run serves until ctx ends.
func (t *Tron) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	t.mu.Lock()
	t.running, t.opened = ctx, time.Now()
	t.mu.Unlock()
	if err := errors.Join(t.publishInfo(ctx), t.publishBundles(ctx)); err != nil {
		return err
	}
	in := &inbox{bus: t.bus, queue: tronQueue, story: t.opts.Story, on: map[string]handler{
		ActionAwake:     on(ActionAwake, t.awake),
		ActionHeartbeat: on(ActionHeartbeat, t.heartbeat),
		ActionDied:      on(ActionDied, t.died),
		ActionAck:       on(ActionAck, t.ack),
	}}
	g.Go(func() error { return in.run(ctx) })
	g.Go(func() error { return t.keepHouse(ctx) })
	err := g.Wait()
	t.orders.Wait() // their contexts have ended
	return err
}

func (t *Tron) say(format string, args ...any) {
	t.opts.Story.Say(tronQueue, fmt.Sprintf(format, args...))
}

// awake adds somebody who is there, and answers where the tron is. A runner is told then
// what it is to serve; of two front ends of one instance the older one is told to die.
func (t *Tron) awake(ctx context.Context, from uint32, m Awake) (any, error) {
	switch {
	case m.Type == TypeRunner:
		t.orders.Go(t.enableAll(t.addRunner(m.From, from)))
	case m.Type == TypeFrontEnd && m.InstanceID != "":
		for _, older := range t.addFrontEnd(m.From, m.InstanceID, from) {
			t.say("%s is older than %s, and dies", older, frontEndQueue(m.From))
			if err := t.notify(ctx, older, Die{Header: newHeader(ActionDie), InstanceID: m.InstanceID}); err != nil {
				return nil, err
			}
		}
	default:
		return nil, &client.Error{Class: "bad_type", Message: fmt.Sprintf("who is awake? a %q of instance %q is none that is known", m.Type, m.InstanceID)}
	}
	return t.info(), nil
}

func (t *Tron) addRunner(id string, twin uint32) *runner {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.runners[id]
	if !ok {
		r = &runner{id: id, queue: Queue{twin, runnerQueue(id)}, serve: make(map[string]struct{})}
		r.live, r.gone = context.WithCancel(t.running)
		t.runners[id] = r
	}
	r.heard = time.Now()
	return r
}

// addFrontEnd returns those that it takes the place of.
func (t *Tron) addFrontEnd(id, instance string, twin uint32) (older []Queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.frontEnds {
		if f.instance == instance && f.id != id {
			older = append(older, f.queue)
			delete(t.frontEnds, f.id)
		}
	}
	f, ok := t.frontEnds[id]
	if !ok {
		f = &frontEnd{id: id, instance: instance, queue: Queue{twin, frontEndQueue(id)}}
		t.frontEnds[id] = f
	}
	f.heard = time.Now()
	return older
}

// heartbeat answers those that are known where the tron is. Others are asked to awake again.
func (t *Tron) heartbeat(_ context.Context, _ uint32, m Heartbeat) (any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, ok := t.runners[m.From]; ok {
		r.heard = time.Now()
		return t.info(), nil
	}
	if f, ok := t.frontEnds[m.From]; ok {
		f.heard = time.Now()
		return t.info(), nil
	}
	return newHeader(ActionResendAwake), nil
}

// died forgets somebody. When it answers, the table without him is on its way.
func (t *Tron) died(ctx context.Context, _ uint32, m Died) (any, error) {
	t.mu.Lock()
	t.forget(m.From)
	t.mu.Unlock()
	return t.info(), t.publishRoutes(ctx)
}

// forget needs mu.
func (t *Tron) forget(id string) {
	if r, ok := t.runners[id]; ok {
		r.gone()
		delete(t.runners, id)
	}
	delete(t.frontEnds, id)
}

// ack notes which table a front end uses.
func (t *Tron) ack(_ context.Context, _ uint32, m Ack) (any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f, ok := t.frontEnds[m.From]; ok {
		f.table = m.AckID
		close(t.acked)
		t.acked = make(chan struct{})
	}
	return nil, nil
}

// Runners is the ids of those that are there.
func (t *Tron) Runners() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.runners))
}

func (t *Tron) info() TronInfo {
	return TronInfo{Header: newHeader(ActionTronInfo), TronHost: t.opts.Host}
}

// keepHouse cleans up and mends what was lost, once in the time of a heartbeat.
func (t *Tron) keepHouse(ctx context.Context) error {
	for wait := t.settling(); pause(ctx, wait); wait = t.opts.Times.HeartbeatEvery {
		t.cleanUp()
		if err := errors.Join(t.publishRoutes(ctx), t.remindFrontEnds(ctx)); err != nil && ctx.Err() == nil {
			t.say("%v; trying again", err)
		}
	}
	return nil
}

// cleanUp forgets those that have been silent for too long.
func (t *Tron) cleanUp() {
	t.mu.Lock()
	defer t.mu.Unlock()
	heard := make(map[string]time.Time)
	for id, r := range t.runners {
		heard[id] = r.heard
	}
	for id, f := range t.frontEnds {
		heard[id] = f.heard
	}
	for _, id := range slices.Sorted(maps.Keys(heard)) {
		if silent := time.Since(heard[id]); silent > t.opts.Times.CleanUpAfter {
			t.say("%s has been silent for %s and is cleaned up", id, silent.Round(time.Millisecond))
			t.forget(id)
		}
	}
}

// notify sends a message that is not answered.
func (t *Tron) notify(ctx context.Context, to Queue, message any) error {
	err := t.bus.Notify(ctx, to.Twin, to.Name, message, client.Expire(t.opts.Times.StaleAfter))
	if err != nil {
		return fmt.Errorf("tell %s: %w", to, err)
	}
	return nil
}

func (t *Tron) publishInfo(ctx context.Context) error {
	return t.publish(ctx, topicTronInfo, t.info())
}

// publish tells all. The event waits for twins that are away, and its topic's latest is
// kept for those that come later.
func (t *Tron) publish(ctx context.Context, topic string, message any) error {
	raw, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode %s: %w", topic, err)
	}
	if err := t.bus.Publish(ctx, topic, raw, client.Durable(), client.Retain()); err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}
