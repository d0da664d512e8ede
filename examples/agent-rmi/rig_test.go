package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// agentVariable is where an agent finds its Redis that is a process of its own: this
// program, started once more, which a test kills.
const agentVariable = "AGENT_RMI_TEST_AGENT"

func TestMain(m *testing.M) {
	if redis := os.Getenv(agentVariable); redis != "" {
		runAgentUntilKilled(redis)
	}
	fleettest.Main(m, "6")
}

// A rig is two real relays, each with a Redis, a caller at the first and the bus of an
// agent at the second.
type rig struct {
	fleet      *fleettest.Fleet
	a, b       *fleettest.Site
	busA, busB *client.Client
	work       *work
	stub       Stub // of class Work, version 1
}

func newRig(t *testing.T) *rig {
	t.Helper()
	f, a, b := fleettest.Pair(t)
	return rigOn(t, f, a, b)
}

func rigOn(t *testing.T, f *fleettest.Fleet, a, b *fleettest.Site) *rig {
	t.Helper()
	r := &rig{fleet: f, a: a, b: b, busA: openBus(t, a), busB: openBus(t, b), work: newWork()}
	caller := NewCaller(r.busA, a.ID, Exceptions{"tests.Broken": func() error { return new(broken) }})
	r.stub = Stub{Caller: caller, Agent: b.ID, ClassName: "Work", Version: "1"}
	return r
}

func openBus(t *testing.T, s *fleettest.Site) *client.Client {
	t.Helper()
	bus, err := client.Open(client.Options{Redis: s.Redis.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
	return bus
}

// runAgent runs an agent with what expose adds, until the test's end or until it is
// stopped. It returns when the relay knows of it.
func runAgent(t *testing.T, r *rig, bus *client.Client, id uint32, awaited string, expose func(*Agent)) (agent *Agent, stop func()) {
	t.Helper()
	agent = NewAgent(bus, id, client.ServerOptions{})
	expose(agent)
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	fleettest.Eventually(t, "the agent is known", func() error {
		commands, err := r.stub.Caller.Help(t.Context(), id)
		if err == nil && !slices.Contains(commands, awaited) {
			err = fmt.Errorf("it serves %v", commands)
		}
		return err
	})
	return agent, stop
}

// runWork runs an agent of class Work at twin 1002.
func (r *rig) runWork(t *testing.T) (agent *Agent, stop func()) {
	t.Helper()
	return runAgent(t, r, r.busB, r.b.ID, "Work.echo@1", r.work.expose)
}

// patient is a context for what must come.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// next waits for what comes to a channel.
func next[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-patient(t).Done():
		t.Fatalf("%s does not come", what)
		panic("unreachable")
	}
}

// begin calls a method, and does not wait.
func begin(t *testing.T, s Stub, method string, args ...any) *Pending {
	t.Helper()
	p, err := s.Go(patient(t), method, args...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// must calls a method, and wants a result.
func must[T any](t *testing.T, s Stub, method string, args ...any) T {
	t.Helper()
	var out T
	if err := s.Call(patient(t), &out, method, args...); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return out
}

func wantEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// asRejected wants an error to be a rejection.
func asRejected(t *testing.T, err error) *Rejected {
	t.Helper()
	var rejected *Rejected
	if !errors.As(err, &rejected) {
		t.Fatalf("the error is %v, want a rejection", err)
	}
	return rejected
}

// Work is the class of these tests.
type work struct {
	begun   chan *Invocation // calls of hold, as they begin
	release chan string      // what a call of hold returns

	mu   sync.Mutex
	done map[string]int // how often each key was counted; guarded by mu
	each chan string    // keys, as they are counted
}

func newWork() *work {
	return &work{begun: make(chan *Invocation, 1000), release: make(chan string), done: make(map[string]int), each: make(chan string, 1000)}
}

// finish has one call of hold return.
func (w *work) finish(t *testing.T) {
	t.Helper()
	select {
	case w.release <- "done":
	case <-patient(t).Done():
		t.Fatal("no call is held")
	}
}

// A job is one object of the class.
type job struct {
	*work
	cntr Arguments
}

func (w *work) expose(a *Agent) {
	Expose(a, "Work", "1", func(cntr Arguments) (*job, error) { return &job{w, cntr}, nil }, Methods[*job]{
		"echo": (*job).echo, "hold": (*job).hold, "steps": (*job).steps, "fail": (*job).fail, "count": (*job).count,
	})
}

// An echo is a call as its agent has seen it.
type echo struct {
	SN      string
	Version string
	Routing [2]uint32
	ReplyTo uint32
	Data    json.RawMessage
	Cntr    Arguments
	Arguments
}

func (j *job) echo(_ context.Context, call *Invocation) (any, error) {
	return echo{call.SN, call.Version, call.Routing, call.ReplyTo, call.Data, j.cntr, call.Arguments}, nil
}

func (j *job) hold(ctx context.Context, call *Invocation) (any, error) {
	j.begun <- call
	select {
	case said := <-j.release:
		return said, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (j *job) steps(ctx context.Context, call *Invocation) (any, error) {
	var n int64
	if err := call.Arg(0, "n", &n); err != nil {
		return nil, err
	}
	for i := range n {
		if err := call.Progress(ctx, n, i+1, map[string]int64{"step": i}); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (j *job) count(_ context.Context, call *Invocation) (any, error) {
	var key string
	if err := call.Arg(0, "key", &key); err != nil {
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done[key]++
	j.each <- key
	return j.done[key], nil
}

// times is how often a key was counted.
func (w *work) times(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done[key]
}

// broken is an exception that the caller of these tests knows, and unknown is none.
type broken struct {
	Part  string `json:"part"`
	Count int64  `json:"count"`
}

func (e *broken) Error() string { return "broken: " + e.Part }
func (e *broken) Exception() (module, class string, args []any) {
	return "tests", "Broken", []any{e.Part}
}

type unknown struct {
	Why string `json:"why"`
}

func (e *unknown) Error() string { return "unknown: " + e.Why }
func (e *unknown) Exception() (module, class string, args []any) {
	return "tests", "Unknown", []any{e.Why, 2}
}

func (j *job) fail(_ context.Context, call *Invocation) (any, error) {
	var how string
	if err := call.Arg(0, "how", &how); err != nil {
		return nil, err
	}
	switch how {
	case "known":
		return nil, fmt.Errorf("while working: %w", &broken{Part: "wheel", Count: 1 << 60})
	case "unknown":
		return nil, &unknown{Why: "nobody knows"}
	case "plain":
		return nil, errors.New("just a text")
	case "large":
		return nil, &unknown{Why: string(make([]byte, 1<<20))}
	default:
		panic("a test wants it so")
	}
}
