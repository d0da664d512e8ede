package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// quick is for tests: nobody waits three minutes.
var quick = Times{HeartbeatEvery: 500 * time.Millisecond, CleanUpAfter: time.Minute}

// A platform is two machines with relays. What passes on each is recorded there.
type platform struct {
	*testing.T
	a, b       *fleettest.Site
	busA, busB *client.Client
	seenA      *recorder // by those on twin 1001
	seenB      *recorder
	times      Times

	trons, others []*actor // that were started
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	p := &platform{T: t, a: a, b: b, seenA: newRecorder(), seenB: newRecorder(), times: quick}
	p.busA, p.busB = p.open(a), p.open(b)
	t.Cleanup(func() { // all at once, and the tron last: the others take leave of it
		end(p.others)
		end(p.trons)
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("twin 1001 saw:\n%s\ntwin 1002 saw:\n%s", p.seenA, p.seenB)
		}
	})
	return p
}

func (p *platform) open(s *fleettest.Site) *client.Client {
	p.Helper()
	c, err := client.Open(client.Options{Redis: s.Redis.URL()})
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		if err := c.Close(); err != nil {
			p.Error(err)
		}
	})
	return c
}

// patient is a context for what must come.
func (p *platform) patient() context.Context {
	ctx, cancel := context.WithTimeout(p.Context(), fleettest.Patience)
	p.Cleanup(cancel)
	return ctx
}

// An actor is somebody that runs.
type actor struct {
	p     *platform
	stop  context.CancelFunc
	ended chan struct{}
	err   error // to be read when it has ended
}

// start runs somebody until the test's end, at the latest.
func (p *platform) start(run func(context.Context) error) *actor {
	a := p.launch(run)
	p.others = append(p.others, a)
	return a
}

func (p *platform) launch(run func(context.Context) error) *actor {
	ctx, stop := context.WithCancel(context.Background())
	a := &actor{p: p, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		a.err = run(ctx)
	}()
	return a
}

func end(actors []*actor) {
	for _, a := range actors {
		a.stop()
	}
	for _, a := range actors {
		if err := a.wait(); err != nil && !errors.Is(err, ErrReplaced) {
			a.p.Errorf("somebody ended with %v", err)
		}
	}
}

// wait returns how it ended.
func (a *actor) wait() error {
	over := time.NewTimer(fleettest.Patience)
	defer over.Stop()
	select {
	case <-a.ended:
		return a.err
	case <-over.C:
		a.p.Errorf("somebody does not end")
		return nil
	}
}

// leave has it end in order.
func (a *actor) leave() {
	a.p.Helper()
	a.stop()
	if err := a.wait(); err != nil {
		a.p.Errorf("it leaves with %v", err)
	}
}

func (p *platform) bus(twin uint32) (*client.Client, *recorder) {
	if twin == p.a.ID {
		return p.busA, p.seenA
	}
	return p.busB, p.seenB
}

// tron is on twin 1001 and runs.
func (p *platform) tron(bundles ...Bundle) (*Tron, *actor) {
	p.Helper()
	t := NewTron(p.busA, TronOptions{Host: HostPort{"tron.example", 3000}, Bundles: bundles, Times: p.times, Story: p.seenA})
	a := p.launch(t.Run)
	p.trons = append(p.trons, a)
	return t, a
}

// runner runs on a twin.
func (p *platform) runner(twin uint32, functions map[string]Function) (*Runner, *actor) {
	p.Helper()
	bus, seen := p.bus(twin)
	r := NewRunner(bus, RunnerOptions{Twin: twin, Tron: p.a.ID, Functions: functions, Times: p.times, Story: seen})
	return r, p.start(r.Run)
}

// frontEnd runs on a twin.
func (p *platform) frontEnd(twin uint32, instance string) (*FrontEnd, *actor) {
	p.Helper()
	bus, seen := p.bus(twin)
	f := NewFrontEnd(bus, FrontEndOptions{Instance: instance, Twin: twin, Tron: p.a.ID, Times: p.times, Story: seen})
	return f, p.start(f.Run)
}

// awaitRoutes waits until a front end is told of exactly these routes, as `path queue`.
func (p *platform) awaitRoutes(f *FrontEnd, want ...string) {
	p.Helper()
	_, seen := p.bus(f.opts.Twin)
	seen.await(p, fmt.Sprintf("%s gets the routes %q", f.queue, want), func(m Message) bool {
		return m.To == f.queue && slices.Equal(routesIn(m), want)
	})
	// It uses them a moment after it has seen them.
	fleettest.Eventually(p, "the routes are used", func() error {
		if got := shown(f.Routes()); !slices.Equal(got, want) {
			return fmt.Errorf("it has %q, not %q", got, want)
		}
		return nil
	})
}

// routesIn is the routes of a message, nil if it has none.
func routesIn(m Message) []string {
	table, err := parse[RouteTable](m.Raw, ActionRoute)
	if err != nil {
		return nil
	}
	return shown(table.Routes)
}

func shown(routes []Route) []string {
	all := []string{}
	for _, r := range routes {
		all = append(all, r.Host+r.Path+" "+r.Queue.String())
	}
	return all
}

// get asks a front end.
func get(ctx context.Context, f *FrontEnd, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "http://web.example"+path, nil))
	return w
}

// wantGet wants an answer.
func (p *platform) wantGet(f *FrontEnd, path string, status int, body string) {
	p.Helper()
	w := get(p.patient(), f, path)
	if w.Code != status || !strings.Contains(w.Body.String(), body) {
		p.Errorf("GET %s is answered %d %q, want %d %q", path, w.Code, w.Body, status, body)
	}
}

// A recorder is a story that tests wait for.
type recorder struct {
	mu       sync.Mutex
	messages []Message     // guarded by mu
	said     []string      // guarded by mu
	more     chan struct{} // closed at the next of either; guarded by mu
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{})} }

func (r *recorder) Saw(m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, m)
	close(r.more)
	r.more = make(chan struct{})
}

func (r *recorder) Say(who, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, who+": "+what)
	close(r.more)
	r.more = make(chan struct{})
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all strings.Builder
	for _, m := range r.messages {
		fmt.Fprintf(&all, "%d → %s %s\n", m.From, m.To, m.Raw)
	}
	return all.String() + strings.Join(r.said, "\n")
}

// all is the messages so far.
func (r *recorder) all() []Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// await waits for a message, which may have come already.
func (r *recorder) await(t testing.TB, what string, is func(Message) bool) Message {
	t.Helper()
	return r.awaitAfter(t, 0, what, is)
}

// awaitAfter waits for a message that is not one of the first n.
func (r *recorder) awaitAfter(t testing.TB, n int, what string, is func(Message) bool) (found Message) {
	t.Helper()
	r.wait(t, what, func() bool {
		i := slices.IndexFunc(r.messages[n:], is)
		if i >= 0 {
			found = r.messages[n+i]
		}
		return i >= 0
	})
	return found
}

// awaitSaid waits for words.
func (r *recorder) awaitSaid(t testing.TB, words ...string) {
	t.Helper()
	r.wait(t, fmt.Sprintf("somebody says %q", words), func() bool {
		return slices.ContainsFunc(r.said, func(said string) bool {
			return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(said, w) })
		})
	})
}

// wait calls is, with mu held, after each thing that comes.
func (r *recorder) wait(t testing.TB, what string, is func() bool) {
	t.Helper()
	over := time.NewTimer(fleettest.Patience)
	defer over.Stop()
	for {
		r.mu.Lock()
		found, more := is(), r.more
		r.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-over.C:
			t.Fatalf("it does not happen that %s", what)
		}
	}
}

// isTo tells whether a message is for a queue and about an action.
func isTo(queue, action string) func(Message) bool {
	return func(m Message) bool { return m.To == queue && header(m.Raw).Action == action }
}

// echo answers with the path.
func echo(_ context.Context, r *ServiceRequest) (Result, error) { return text(r.URI), nil }
