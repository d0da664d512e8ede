package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A run is a server that serves, and the way to its end.
type run struct {
	*rig
	end   context.CancelFunc
	ended chan error
	once  sync.Once
}

// serve runs a server until the test ends, or stop is called.
func (r *rig) serve(s *client.Server) *run {
	r.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v := &run{rig: r, end: cancel, ended: make(chan error, 1)}
	go func() { v.ended <- s.Run(ctx) }()
	r.Cleanup(v.stop)
	return v
}

// stop wants the server to stop well.
func (v *run) stop() {
	v.Helper()
	v.once.Do(func() {
		v.end()
		if err := await(v, v.ended, "the end of Run"); err != nil {
			v.Errorf("Run: %v", err)
		}
	})
}

// request is what the relay gives a service.
func request(cmd, data string) fleettest.Message {
	return fleettest.Request(cmd, data, 1002).With("uid", "1002.7").With("src", 1001).With("ret", "msgbus.system.reply")
}

// consumer waits for a service to be registered, and returns its name.
func (r *rig) consumer() string {
	r.Helper()
	var name string
	fleettest.Eventually(r, "a consumer", func() error {
		all, err := r.rdb.ZRange(r.Context(), "msgbus.system.consumers", 0, -1).Result()
		if err != nil || len(all) == 0 {
			return fmt.Errorf("there are %v, %w", all, err)
		}
		name, _, _ = strings.Cut(all[0], " ")
		return nil
	})
	return name
}

func add(_ context.Context, in []int) (int, error) {
	sum := 0
	for _, n := range in {
		sum += n
	}
	return sum, nil
}

// What a service does, and each way in which it may fail, as the app sees it.
func TestAServiceAnswers(t *testing.T) {
	r := newRig(t)
	r.runRelay()
	s := client.NewServer(r.c, client.ServerOptions{})
	client.Handle(s, "add", add)
	client.Handle(s, "add@2", func(ctx context.Context, in []int) (string, error) {
		sum, err := add(ctx, in)
		return fmt.Sprint("it is ", sum), err
	})
	client.Handle(s, "fail", func(context.Context, any) (any, error) {
		return nil, fmt.Errorf("deep down: %w", &client.Error{Code: 17, Class: strings.Repeat("é", 200), Message: "broken", Data: []byte(`{"at":"disk"}`)})
	})
	client.Handle(s, "plain", func(context.Context, any) (any, error) { return nil, errors.New("no more paper") })
	client.Handle(s, "ask", func(ctx context.Context, _ any) (any, error) {
		return nil, &client.Error{Twin: 7, Class: "msgbus.expired", Message: "request timeout"}
	})
	client.Handle(s, "panic", func(context.Context, any) (any, error) { panic("secret of the service") })
	client.Handle(s, "unsayable", func(context.Context, any) (any, error) { return make(chan int), nil })
	r.serve(s)

	sum, err := client.Call[int](r.context(), r.c, 1002, "add", []int{20, 22})
	r.must(err)
	wantEqual(t, "sum", sum, 42)
	text, err := client.Call[string](r.context(), r.c, 1002, "add@2", []int{20, 22})
	r.must(err)
	wantEqual(t, "the other version", text, "it is 42")

	fail := func(cmd string, in any) *client.Error {
		t.Helper()
		return asError(t, r.c.Call(r.context(), 1002, cmd, in, nil))
	}
	e := fail("fail", nil)
	wantEqual(t, "failure", fmt.Sprintf("%d %s %s", e.Code, e.Message, e.Data), `17 deep down: broken {"at":"disk"}`)
	wantEqual(t, "class, cut", e.Class, strings.Repeat("é", 128))
	e = fail("plain", nil)
	wantEqual(t, "plain", fmt.Sprintf("%d %q %s", e.Code, e.Class, e.Message), `0 "" no more paper`)
	e = fail("ask", nil)
	wantEqual(t, "what another bus said to the service", fmt.Sprintf("%q %s", e.Reason(), e.Message), `"" twin 7: request timeout`)
	e = fail("panic", nil)
	wantEqual(t, "panic", fmt.Sprint(e.Class, ": ", e.Message), "panic: the service failed at this request")
	r.awaitSaid("secret of the service")
	wantEqual(t, "no numbers", fail("add", "twenty").Class, "bad_request")
	if e = fail("unsayable", nil); !strings.Contains(e.Message, "chan int") {
		t.Errorf("what cannot be encoded: %v", e)
	}
}

// An app of the specification asks, which knows nothing of what may be added.
func TestAServiceAnswersAsTheSpecificationSays(t *testing.T) {
	r := newRig(t)
	s := client.NewServer(r.c, client.ServerOptions{})
	client.Handle(s, "add", add)
	r.serve(s)
	m := request("add", "[1,2]").With("traceparent", "00-aa").With("epoch", "51").With("sig", "stale")
	r.push("msgbus.add", m)
	reply := r.pop("msgbus.system.reply")
	want := m.Without("sig").With("src", 1002).With("dst", []int{1001}).With("dat", fleettest.Encode("3")).With("now", reply["now"])
	wantEqual(t, "reply", reply.String(), compact(t, want))

	r.push("msgbus.add", m.With("dat", "bm8="))
	reply = r.pop("msgbus.system.reply")
	wantEqual(t, "error", reply.Text("err") != "" && reply.Data() == "", true)
}

// Some middleware is left out, or comes in an order that nobody said.
func TestMiddlewareIsAroundEachHandler(t *testing.T) {
	r := newRig(t)
	r.runRelay()
	note := func(word string) client.Middleware {
		return func(next client.Handler) client.Handler {
			return func(ctx context.Context, q *client.Request) (any, error) {
				out, err := next(ctx, q)
				return fmt.Sprint(word, "(", out, ")"), err
			}
		}
	}
	s := client.NewServer(r.c, client.ServerOptions{Middleware: []client.Middleware{note("outer"), note("inner")}})
	client.Handle(s, "add", add)
	r.serve(s)
	got, err := client.Call[string](r.context(), r.c, 1002, "add", []int{1})
	r.must(err)
	wantEqual(t, "answer", got, "outer(inner(1))")
}

// A burst of requests takes all memory of the machine.
func TestOnlySoManyRequestsAreHandledAtOnce(t *testing.T) {
	r := newRig(t)
	var now, most atomic.Int64
	full := make(chan struct{})
	s := client.NewServer(r.c, client.ServerOptions{Workers: 3})
	for _, cmd := range []string{"a", "b"} {
		s.HandleFunc(cmd, func(context.Context, *client.Request) (any, error) {
			n := now.Add(1)
			defer now.Add(-1)
			most.Store(max(most.Load(), n))
			if n == 3 {
				close(full)
			}
			<-full
			return nil, nil
		})
		for range 10 {
			r.push("msgbus."+cmd, request(cmd, ""))
		}
	}
	r.serve(s)
	for range 20 {
		r.pop("msgbus.system.reply")
	}
	wantEqual(t, "at once", most.Load(), 3)
}

// A service goes on with work that nobody wants any more, or does such work.
func TestAHandlersContextEndsAtTheDeadline(t *testing.T) {
	r := newRig(t)
	s := client.NewServer(r.c, client.ServerOptions{})
	ended := make(chan error, 1)
	s.HandleFunc("slow", func(ctx context.Context, q *client.Request) (any, error) {
		if string(q.Data) == "old" {
			t.Error("a request was handled that has ended")
			return nil, nil
		}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	r.push("msgbus.slow", request("slow", "old").With("now", time.Now().Unix()-100).With("exp", 50), request("slow", "new").With("exp", 1))
	r.serve(s)
	wantErrorIs(t, await(t, ended, "the deadline"), context.DeadlineExceeded)
	taken := "msgbus.system.taken." + r.consumer() + ".slow"
	fleettest.Eventually(t, "both are dropped", func() error {
		if n := r.length(taken); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
	wantEqual(t, "answers", r.length("msgbus.system.reply"), 0)
}

// An answer to what must not be answered.
func TestAOnewayRequestIsDoneAndNotAnswered(t *testing.T) {
	r := newRig(t)
	r.runRelay()
	s := client.NewServer(r.c, client.ServerOptions{})
	told := make(chan string, 1)
	client.Handle(s, "log", func(ctx context.Context, in string) (string, error) {
		told <- fmt.Sprintf("%s %t %s", in, client.RequestFrom(ctx).Oneway, client.RequestFrom(ctx).Tag)
		return "", errors.New("nobody hears this")
	})
	v := r.serve(s)
	r.must(r.c.Notify(r.context(), 1002, "log", "it happened", client.Tag(7)))
	wantEqual(t, "told", await(t, told, "the request"), "it happened true 7")
	v.stop()
	r.awaitSaid("a one-way request failed")
	wantEqual(t, "answers", r.length("msgbus.system.reply")+r.length(r.c.List()), 0)
}

// What is no request keeps the service from those that are.
func TestARequestThatCannotBeReadIsDropped(t *testing.T) {
	r := newRig(t)
	s := client.NewServer(r.c, client.ServerOptions{})
	client.Handle(s, "add", add)
	for _, bad := range []string{"", "[]", `{"dat":"*"}`, `{"src":-1}`, `{"uid":"1","uid":"2"}`} {
		r.must(r.rdb.RPush(t.Context(), "msgbus.add", bad).Err())
	}
	r.push("msgbus.add", request("add", "[1]").With("ret", ""), request("add", "[2]"))
	v := r.serve(s)
	wantEqual(t, "answer", r.pop("msgbus.system.reply").Data(), "2")
	v.stop()
	wantEqual(t, "what is left", r.length("msgbus.add"), 0)
}

// A program that is wrong is told so when it starts, and not by its users.
func TestHandlersThatCannotBeAreRefused(t *testing.T) {
	r := newRig(t)
	s := client.NewServer(r.c, client.ServerOptions{})
	if err := s.Run(t.Context()); err == nil {
		t.Error("there is nothing to serve")
	}
	client.Handle(s, "add", add)
	for _, cmd := range []string{"", "add", "system.local", "counter.7", strings.Repeat("x", 257)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was taken", cmd)
				}
			}()
			client.Handle(s, cmd, add)
		}()
	}
	if client.RequestFrom(t.Context()) != nil {
		t.Error("there is a request where there is none")
	}
}

// Each kind of data, there and back.
func TestDataIsJSONUnlessItIsBytes(t *testing.T) {
	r := newRig(t)
	r.runRelay()
	type pair struct{ A, B int }
	s := client.NewServer(r.c, client.ServerOptions{})
	s.HandleFunc("raw", func(_ context.Context, q *client.Request) (any, error) { return q.Data, nil })
	r.serve(s)
	for what, v := range map[string]struct {
		in   any
		want string
	}{
		"a struct": {pair{1, 2}, `{"A":1,"B":2}`}, "bytes": {[]byte("as they are"), "as they are"}, "no bytes": {[]byte{}, ""},
		"raw JSON": {json.RawMessage(`{"x": 1}`), `{"x": 1}`}, "nothing": {nil, "null"}, "raw nothing": {json.RawMessage(nil), "null"},
	} {
		got, err := client.Call[[]byte](r.context(), r.c, 1002, "raw", v.in)
		if err != nil || string(got) != v.want {
			t.Errorf("%s came as %q, %v", what, got, err)
		}
	}
	back, err := client.Call[pair](r.context(), r.c, 1002, "raw", pair{3, 4})
	r.must(err)
	wantEqual(t, "decoded", back, pair{3, 4})
	back, err = client.Call[pair](r.context(), r.c, 1002, "raw", []byte{})
	r.must(err)
	wantEqual(t, "no data", back, pair{})
	if err := r.c.Call(r.context(), 1002, "raw", func() {}, nil); err == nil {
		t.Error("a function was sent")
	}
}
