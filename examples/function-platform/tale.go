package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// The two machines, and what is on them.
const (
	twinA = 1001 // the tron and a runner
	twinB = 1002 // a runner and the front ends
)

var (
	hello = Bundle{SHA: "4f1ab2", Path: "/hello"}
	shop  = Bundle{SHA: "c93d07", Path: "/hello/shop"}
)

// A cast is all who play on the two machines.
type cast struct {
	busA, busB *client.Client
	times      Times
	story      *Printer
	tron       *Tron
	front      *FrontEnd
	frontEnded <-chan struct{} // of the first one

	playing, presiding sync.WaitGroup          // all, but for the tron; the tron
	cancel             context.CancelCauseFunc // of all, because of an error of one
}

// tell plays the story on two buses and prints it.
func tell(ctx context.Context, redisA, redisB string, out io.Writer) (err error) {
	busA, err := client.Open(client.Options{Redis: redisA})
	if err != nil {
		return fmt.Errorf("open bus a: %w", err)
	}
	defer func() { err = errors.Join(err, busA.Close()) }()
	busB, err := client.Open(client.Options{Redis: redisB})
	if err != nil {
		return fmt.Errorf("open bus b: %w", err)
	}
	defer func() { err = errors.Join(err, busB.Close()) }()

	ctx, cancel := context.WithCancelCause(ctx)
	c := &cast{
		busA: busA, busB: busB, cancel: cancel, story: NewPrinter(out),
		times: Times{HeartbeatEvery: time.Second, CleanUpAfter: 3 * time.Second}, // a story is no day's work
	}
	// The tron is the last to end: the others take leave of it.
	reign, abdicate := context.WithCancel(context.WithoutCancel(ctx))
	defer c.presiding.Wait()
	defer abdicate()
	defer c.playing.Wait()
	defer cancel(nil)
	c.tron = NewTron(c.busA, TronOptions{Host: HostPort{"tron.example", 3000}, Bundles: []Bundle{hello}, Times: c.times, Story: c.story})
	c.play(reign, &c.presiding, c.tron.Run)
	for _, scene := range []func(context.Context) error{c.begin, c.ask, c.enable, c.replace, c.cleanUp, c.disable} {
		if err := scene(ctx); err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
	}
	c.story.Chapter("The end: all leave in order.")
	return nil
}

// play has somebody play until ctx ends. An error of one ends all.
func (c *cast) play(ctx context.Context, group *sync.WaitGroup, run func(context.Context) error) (ended <-chan struct{}) {
	done := make(chan struct{})
	group.Go(func() {
		defer close(done)
		if err := run(ctx); err != nil && !errors.Is(err, ErrReplaced) {
			c.cancel(err)
		}
	})
	return done
}

func (c *cast) begin(ctx context.Context) error {
	c.story.Chapter("A tron and runner a on twin 1001; runner b and a front end on twin 1002. Each says that it is awake.")
	c.front = c.frontEnd("first")
	functions := map[string]Function{hello.SHA: greet, shop.SHA: sell}
	c.play(ctx, &c.playing, NewRunner(c.busA, RunnerOptions{ID: "a", Twin: twinA, Tron: twinA, Functions: functions, Times: c.times, Story: c.story}).Run)
	c.play(ctx, &c.playing, NewRunner(c.busB, RunnerOptions{ID: "b", Twin: twinB, Tron: twinA, Functions: functions, Times: c.times, Story: c.story}).Run)
	c.frontEnded = c.play(ctx, &c.playing, c.front.Run)
	return c.until(ctx, "the front end has both routes", func() bool { return len(c.front.Routes()) == 2 })
}

func (c *cast) frontEnd(id string) *FrontEnd {
	return NewFrontEnd(c.busB, FrontEndOptions{ID: id, Instance: "nginx-1", Twin: twinB, Tron: twinA, Times: c.times, Story: c.story})
}

func (c *cast) ask(ctx context.Context) error {
	c.story.Chapter("Requests of the web: the runners take turns.")
	return errors.Join(c.get(ctx, "/hello/world"), c.get(ctx, "/hello/moon"))
}

func (c *cast) enable(ctx context.Context) error {
	c.story.Chapter("A second bundle, below the first one's path: each runner acknowledges it, and its routes come first.")
	if err := c.tron.Enable(ctx, shop); err != nil {
		return err
	}
	if err := c.until(ctx, "the front end has all routes", func() bool { return len(c.front.Routes()) == 4 }); err != nil {
		return err
	}
	return errors.Join(c.get(ctx, "/hello/shop/bread"), c.get(ctx, "/hello/world"))
}

func (c *cast) replace(ctx context.Context) error {
	c.story.Chapter("nginx loads its modules anew: a second front end of the same instance. The first one is told to die.")
	newer := c.frontEnd("second")
	c.play(ctx, &c.playing, newer.Run)
	select {
	case <-c.frontEnded:
	case <-ctx.Done():
		return fmt.Errorf("wait until the first front end has died: %w", ctx.Err())
	}
	c.front = newer
	return c.until(ctx, "the second front end has the routes", func() bool { return len(newer.Routes()) == 4 })
}

func (c *cast) cleanUp(ctx context.Context) error {
	c.story.Chapter("A runner that is never heard again is cleaned up (after 3 minutes, here 3 seconds).")
	awake := Awake{Header: newHeader(ActionAwake), Type: TypeRunner, From: "silent"}
	if _, err := ask(ctx, c.busB, Queue{twinA, tronQueue}, awake, c.times.HeartbeatEvery); err != nil {
		return err
	}
	return c.until(ctx, "the tron has forgotten it", func() bool { return !slices.Contains(c.tron.Runners(), "silent") })
}

func (c *cast) disable(ctx context.Context) error {
	c.story.Chapter("The second bundle is disabled: first the routes go, then the runners leave its queue.")
	if err := c.tron.Disable(ctx, shop.SHA); err != nil {
		return err
	}
	return c.get(ctx, "/hello/shop/bread") // which the first bundle answers now
}

// get asks the front end as a browser does.
func (c *cast) get(ctx context.Context, path string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the web: %w", err)
	}
	server := &http.Server{Handler: c.front, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listener.Addr().String()+path, nil)
	if err != nil {
		return err
	}
	request.Close = true // one server a request
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask the front end: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("ask the front end: %w", err)
	}
	c.story.Say("a browser", fmt.Sprintf("GET %s is answered %d %s", path, response.StatusCode, strings.TrimSpace(string(body))))
	return nil
}

// until waits for what somebody else does.
func (c *cast) until(ctx context.Context, what string, is func() bool) error {
	for !is() {
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("wait until %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// greet and sell are what the bundles do.
func greet(_ context.Context, r *ServiceRequest) (Result, error) {
	return text("hello from " + r.URI), nil
}

func sell(_ context.Context, r *ServiceRequest) (Result, error) {
	return text("sold: " + strings.TrimPrefix(r.URI, shop.Path+"/")), nil
}

func text(s string) Result {
	return Result{Headers: [][2]string{{"Content-Type", "text/plain; charset=utf-8"}}, Status: http.StatusOK, Body: []byte(s)}
}
