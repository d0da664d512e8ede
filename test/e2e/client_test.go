package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A bus is the client library on a twin's Redis.
func bus(t *testing.T, s *fleettest.Site) *client.Client {
	t.Helper()
	c, err := client.Open(client.Options{Redis: s.Redis.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func must[T any](t *testing.T, what string) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return v
	}
}

// patient is a context for what must come.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// twoBuses is two twins with relays and clients.
func twoBuses(t *testing.T) (a, b *fleettest.Site, busA, busB *client.Client) {
	t.Helper()
	f := fleettest.New(t)
	a, b = f.Site(1001), f.Site(1002)
	a.Launch()
	b.Launch()
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()
	return a, b, bus(t, a), bus(t, b)
}

func next(t *testing.T, s interface {
	Next(context.Context) (*client.Event, error)
}) *client.Event {
	t.Helper()
	e, err := s.Next(patient(t))
	if err != nil {
		t.Fatalf("no event: %v", err)
	}
	return e
}

// said is an event with text for data.
func saidBy(t *testing.T, e *client.Event) string {
	t.Helper()
	var data string
	if err := e.Decode(&data); err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%d %s %s", e.Source, e.Topic, data)
}

// An app hears what it wants, from the twins that it wants it of.
func TestAppsHearEventsOfOtherTwins(t *testing.T) {
	t.Parallel()
	_, _, a, b := twoBuses(t)
	ctx := patient(t)
	everything := must[*client.Subscription](t, "subscribe")(b.Subscribe(ctx, "#", client.From(1001)))
	finished := must[*client.Subscription](t, "subscribe")(a.Subscribe(ctx, "task.finished.*"))
	for _, e := range []struct{ topic, data string }{{"task.begun.1", "one"}, {"task.finished.1", "two"}, {"task.finished.2", "three"}} {
		if err := a.Publish(ctx, e.topic, e.data); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"1001 task.begun.1 one", "1001 task.finished.1 two", "1001 task.finished.2 three"} {
		if got := saidBy(t, next(t, everything)); got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
	}
	for _, want := range []string{"1001 task.finished.1 two", "1001 task.finished.2 three"} {
		if got := saidBy(t, next(t, finished)); got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
	}
	n, err := a.PublishCounted(ctx, "task.finished.3", "four")
	if err != nil || n != 2 {
		t.Errorf("published to %d, %v, want 2", n, err)
	}
	for _, s := range []*client.Subscription{everything, finished} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Next(ctx); !errors.Is(err, client.ErrClosed) && err != nil {
			t.Errorf("after its end: %v", err)
		}
	}
}

// A front end that starts late works without what it missed.
func TestLatecomersGetTheLatestAndWhatIsKept(t *testing.T) {
	t.Parallel()
	_, _, a, b := twoBuses(t)
	ctx := patient(t)
	for _, data := range []string{"old", "new"} {
		if err := a.Publish(ctx, "web/routes", data, client.Retain(), client.Durable()); err != nil {
			t.Fatal(err)
		}
	}
	must[int](t, "publish")(a.PublishCounted(ctx, "other", "x")) // behind the others: they are there
	for name, c := range map[string]*client.Client{"here": a, "at the other twin": b} {
		s := must[*client.Subscription](t, "subscribe")(c.Subscribe(ctx, "web/#", client.Retained(), client.From(1001)))
		if got := saidBy(t, next(t, s)); got != "1001 web/routes new" {
			t.Errorf("%s: %s", name, got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}

	kept := must[*client.Stream](t, "stream")(a.Stream(ctx, "web", client.After("0")))
	first := next(t, kept)
	if got := saidBy(t, first); got != "1001 web/routes old" {
		t.Errorf("the first that is kept is %s", got)
	}
	if err := kept.Close(); err != nil {
		t.Error(err)
	}
	resumed := must[*client.Stream](t, "stream")(a.Stream(ctx, "web", client.After(first.ID)))
	if got := saidBy(t, next(t, resumed)); got != "1001 web/routes new" {
		t.Errorf("the one behind it is %s", got)
	}
	if err := resumed.Close(); err != nil {
		t.Error(err)
	}
}

// Two workers do the same task, or a third one's work is never done.
func TestCompetingStreamsShareEvents(t *testing.T) {
	t.Parallel()
	_, _, a, b := twoBuses(t)
	ctx := patient(t)
	open := func(consumer string) *client.Stream {
		return must[*client.Stream](t, "stream")(b.Stream(ctx, "jobs", client.From(1001), client.Competing("workers", consumer)))
	}
	workers := []*client.Stream{open("one"), open("two")}
	const n = 20
	for i := range n {
		if err := a.Publish(ctx, fmt.Sprintf("jobs/do.%d", i), i, client.Durable()); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan string, 2*n)
	working, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	for _, w := range workers {
		all.Go(func() {
			for e := range w.All(working) {
				if err := w.Ack(ctx, e); err != nil {
					t.Error(err)
				}
				done <- e.Topic
			}
		})
	}
	seen := make(map[string]int)
	for range n {
		select {
		case topic := <-done:
			seen[topic]++
		case <-ctx.Done():
			t.Fatalf("only %d were done", len(seen))
		}
	}
	stop()
	all.Wait()
	if len(seen) != n || len(done) != 0 {
		t.Errorf("done: %v and %d more, want each of %d once", seen, len(done), n)
	}
	// What nobody acknowledges comes again to the one who had it.
	if err := a.Publish(ctx, "jobs/do.again", "x", client.Durable()); err != nil {
		t.Fatal(err)
	}
	third := open("three")
	if got := next(t, third); got.Topic != "jobs/do.again" {
		t.Errorf("got %s", got.Topic)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
	again := open("three")
	if got := next(t, again); got.Topic != "jobs/do.again" {
		t.Errorf("got %s", got.Topic)
	}
	for _, s := range append(workers, again) {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A group is asked, and its app has to know how many answers to wait for; or those answers are
// lost that were announced.
func TestGroupIsAskedAsOne(t *testing.T) {
	t.Parallel()
	a, b, busA, busB := twoBuses(t)
	ctx := patient(t)
	for s, c := range map[*fleettest.Site]*client.Client{a: busA, b: busB} {
		serve(t, c, func(m client.Mux) {
			client.Handle(m, "who", func(ctx context.Context, _ any) (uint32, error) {
				return s.ID, client.RequestFrom(ctx).Progress(ctx, 1, 2, nil)
			})
		})
	}
	a.RDB.SAdd(ctx, "msgbus.system.group.all", a.ID, b.ID)
	var twins, announced []uint32
	told := func(p client.Progress) { announced = append(announced, p.Twin) }
	for reply := range busA.CallGroup(ctx, "all", "who", nil, client.OnProgress(told)) {
		var twin uint32
		if err := reply.Decode(&twin); err != nil || twin != reply.Twin {
			t.Errorf("twin %d answers %d, %v", reply.Twin, twin, err)
		}
		twins = append(twins, twin)
	}
	if slices.Sort(twins); !slices.Equal(twins, []uint32{1001, 1002}) {
		t.Errorf("answers of %v", twins)
	}
	if slices.Sort(announced); !slices.Equal(slices.Compact(announced), []uint32{1001, 1002}) {
		t.Errorf("announced by %v", announced)
	}
	for reply := range busA.CallGroup(ctx, "nobody", "who", nil) {
		var e *client.Error
		if !errors.As(reply.Err, &e) || e.Reason() != "missing_destination" {
			t.Errorf("an empty group answers %v", reply.Err)
		}
	}
}

// serve runs a server until the test's end.
func serve(t *testing.T, c *client.Client, register func(client.Mux)) {
	t.Helper()
	s := client.NewServer(c, client.ServerOptions{})
	register(s)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A service works for an hour on what nobody wants any more.
func TestCancelEndsWhatIsAskedAndWhatWaits(t *testing.T) {
	t.Parallel()
	_, b, busA, busB := twoBuses(t)
	ctx := patient(t)
	begun := make(chan struct{}, 10)
	work := func(ctx context.Context, _ any) (string, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return "", context.Cause(ctx)
	}
	// What waits is cancelled before its service is there.
	waits := busA.Go(ctx, b.ID, "later", nil, client.Tag(map[string]any{"job": 4, "of": "x"}))
	other := busA.Go(ctx, b.ID, "later", nil, client.Tag(map[string]any{"job": 5, "of": "x"}))
	if err := busA.CancelTagged(ctx, b.ID, "later", map[string]any{"job": 4}); err != nil {
		t.Fatal(err)
	}
	fleettest.Eventually(t, "the other twin has heard of it", func() error {
		if n := b.RDB.XLen(ctx, "msgbus.system.stream.msgbus").Val(); n != 1 {
			return fmt.Errorf("%d cancellations are kept there", n)
		}
		return nil
	})
	serve(t, busB, func(m client.Mux) {
		client.Handle(m, "work", work)
		client.Handle(m, "later", func(ctx context.Context, _ any) (string, error) { return "done", context.Cause(ctx) })
	})
	runs := busA.Go(ctx, b.ID, "work", nil)
	select {
	case <-begun:
	case <-ctx.Done():
		t.Fatal("it does not begin")
	}
	if err := runs.Cancel(ctx); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*client.Pending{"what runs": runs, "what waits": waits} {
		var e *client.Error
		if err := p.Reply().Err; !errors.As(err, &e) || e.Class != "msgbus.cancelled" {
			t.Errorf("%s is answered %v", name, err)
		}
	}
	var got string
	if err := other.Reply().Decode(&got); err != nil || got != "done" {
		t.Errorf("another request is answered %q, %v", got, err)
	}
}

// Two instances of one thing work against each other, or the older one never hears of it.
func TestTheNewerOneHasTheName(t *testing.T) {
	t.Parallel()
	_, _, a, b := twoBuses(t)
	ctx := patient(t)
	hears := must[*client.Subscription](t, "subscribe")(b.Subscribe(ctx, "msgbus/presence.#", client.From(1001)))
	older := must[*client.Presence](t, "announce")(a.Announce(ctx, "nginx.7", "older"))
	newer := must[*client.Presence](t, "announce")(a.Announce(ctx, "nginx.7", "newer"))
	for _, want := range []string{"1001 msgbus/presence.up.nginx.7 older", "1001 msgbus/presence.replaced.nginx.7 newer"} {
		if got := saidBy(t, next(t, hears)); got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
	}
	select {
	case <-older.Lost():
	case <-ctx.Done():
		t.Fatal("the older one is not told")
	}
	if err := older.Close(); err != nil {
		t.Error(err)
	}
	if info, ok, err := a.Present(ctx, "nginx.7"); err != nil || !ok || string(info) != `"newer"` {
		t.Errorf("the name has %s, %v, %v", info, ok, err)
	}
	if err := newer.Close(); err != nil {
		t.Error(err)
	}
	if got := saidBy(t, next(t, hears)); got != "1001 msgbus/presence.down.nginx.7 newer" {
		t.Errorf("heard %s", got)
	}
	if err := hears.Close(); err != nil {
		t.Error(err)
	}
}
