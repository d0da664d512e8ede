package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A rig is two machines with relays: the control machine is twin 1001, the rack's 1002.
type rig struct {
	*testing.T
	a, b          *fleettest.Site
	control, rack *Bus
}

func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	r := &rig{T: t, a: a, b: b}
	// A machine under load is slow, and that is not what is tested.
	r.control, r.rack = r.open(a, fleettest.Patience), r.open(b, fleettest.Patience)
	return r
}

// open joins the bus on a machine. timeout is of questions, 0 the default.
func (r *rig) open(s *fleettest.Site, timeout time.Duration) *Bus {
	r.Helper()
	other := r.a.ID + r.b.ID - s.ID
	b, err := OpenBus(Options{Redis: s.Redis.URL(), Twin: s.ID, Others: []uint32{other}, Timeout: timeout})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := b.Close(); err != nil {
			r.Error(err)
		}
	})
	return b
}

// patient is a context for what must come.
func (r *rig) patient() context.Context {
	ctx, cancel := context.WithTimeout(r.Context(), fleettest.Patience)
	r.Cleanup(cancel)
	return ctx
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// run runs a loop until the returned function is called, or the test ends.
func (r *rig) run(loop func(context.Context) error) (stop func()) {
	r.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	ended := make(chan error, 1)
	go func() { ended <- loop(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			r.Errorf("a role ended with %v", err)
		}
	})
	r.Cleanup(stop)
	return stop
}

// serve runs a service with one method, or more.
func (r *rig) serve(b *Bus, register func(*client.Server), commands ...string) {
	r.Helper()
	s := b.newServer()
	register(s)
	r.run(s.Run)
	r.must(b.awaitMethods(r.patient(), commands...))
}

// start runs a system and waits until it serves.
func (r *rig) start(o SystemOptions) *System {
	r.Helper()
	if o.Heartbeat == 0 {
		o.Heartbeat = 200 * time.Millisecond
	}
	if o.Machine == nil {
		o.Machine = warmMachine{}
	}
	s, err := NewSystem(r.patient(), r.control, r.rack, o)
	r.must(err)
	r.run(s.Run)
	r.must(s.Await(r.patient()))
	return s
}

// define has a graph of some tasks known, each of which is called by its name.
func (r *rig) define(graph string, tasks ...GraphTask) {
	r.Helper()
	for _, t := range tasks {
		_, err := request[string](r.patient(), r.rack, DefineTask, ATask{TaskDefinition{InjectableName: t.TaskName, FriendlyName: t.TaskName}})
		r.must(err)
	}
	_, err := request[string](r.patient(), r.rack, DefineTaskGraph, AGraph{GraphDefinition{InjectableName: graph, FriendlyName: graph, Tasks: tasks}})
	r.must(err)
}

func (r *rig) runGraph(name, target string) Graph {
	r.Helper()
	g, err := request[Graph](r.patient(), r.rack, RunTaskGraph, RunGraph{Name: name, Target: target, Options: map[string]string{"raid": "1"}})
	r.must(err)
	return g
}

// A box is what a listener has heard.
type box[M Message] struct {
	r    *rig
	came chan M
	stop func()
}

// hearing listens on a machine until the test ends.
func hearing[M Message](r *rig, b *Bus, e Event, words ...string) *box[M] {
	r.Helper()
	l, err := listen[M](r.patient(), b, e, words...)
	r.must(err)
	return boxed(r, l)
}

func boxed[M Message](r *rig, l *Listener[M]) *box[M] {
	x := &box[M]{r: r, came: make(chan M, 1000)}
	x.stop = r.run(func(ctx context.Context) error {
		return l.run(ctx, func(_ context.Context, m M) error {
			x.came <- m
			return nil
		})
	})
	return x
}

func (x *box[M]) next() M {
	x.r.Helper()
	select {
	case m := <-x.came:
		return m
	case <-x.r.patient().Done():
		x.r.Fatalf("no %T comes", *new(M))
		return *new(M)
	}
}

// wantNoMore wants nothing to have come that was not taken.
func (x *box[M]) wantNoMore() {
	x.r.Helper()
	select {
	case m := <-x.came:
		x.r.Errorf("one more comes: %+v", m)
	default:
	}
}

// A recorder keeps all events that a machine hears of all machines.
type recorder struct {
	r *rig

	mu     sync.Mutex
	events []*client.Event // guarded by mu
	more   chan struct{}   // closed at the next; guarded by mu
}

func (r *rig) record(b *Bus) *recorder {
	r.Helper()
	s, err := b.client.Subscribe(r.patient(), "*/#", client.From(b.others...))
	r.must(err)
	return r.recordOf(s)
}

// await waits for an event, which may have come already.
func (rec *recorder) await(ctx context.Context, what string, is func(*client.Event) bool) (*client.Event, error) {
	for seen := 0; ; {
		rec.mu.Lock()
		events, more := rec.events[seen:], rec.more
		rec.mu.Unlock()
		for _, e := range events {
			if is(e) {
				return e, nil
			}
		}
		seen += len(events)
		select {
		case <-more:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s does not come: %w", what, ctx.Err())
		}
	}
}

// classOf is the class of a service's or the bus's error, "" of others.
func classOf(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

// recordOf keeps what one subscription hears.
func (r *rig) recordOf(s *client.Subscription) *recorder {
	rec := &recorder{r: r, more: make(chan struct{})}
	r.run(func(ctx context.Context) error {
		for e := range s.All(ctx) {
			rec.mu.Lock()
			rec.events = append(rec.events, e)
			close(rec.more)
			rec.more = make(chan struct{})
			rec.mu.Unlock()
		}
		return s.Close()
	})
	return rec
}

func (rec *recorder) topics() (all []string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, e := range rec.events {
		all = append(all, e.Topic)
	}
	return all
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
