package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A framework of which one capability is missing is not the one of the document. The README's table
// names each of these.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	agent, _ := r.runWork(t)
	for name, test := range map[string]func(*testing.T, *rig, *Agent){
		"synchronous":          testSynchronous,
		"asynchronous":         testAsynchronous,
		"callbacks":            testCallbacks,
		"fire_and_forget":      testFireAndForget,
		"triggered_later":      testTriggeredLater,
		"statuses":             testStatuses,
		"returned_values":      testReturnedValues,
		"arguments":            testArguments,
		"exceptions":           testExceptions,
		"versions":             testVersions,
		"user_data":            testUserData,
		"cancel_by_sn":         testCancelBySN,
		"cancel_by_criteria":   testCancelByCriteria,
		"one_final_reply":      testOneFinalReply,
		"events":               testEvents,
		"routing_by_property":  testRoutingByProperty,
		"echo_hello_help":      testEchoHelloHelp,
		"signature":            testSignature,
		"rejected_by_an_agent": testRejectedByAnAgent,
	} {
		t.Run(name, func(t *testing.T) { test(t, r, agent) })
	}
}

// A caller waits, and gets what another call returned, or nothing.
func testSynchronous(t *testing.T, r *rig, _ *Agent) {
	got := must[echo](t, r.stub, "echo", "hello")
	wantEqual(t, "argument", string(got.Args[0]), `"hello"`)
	wantEqual(t, "routing", got.Routing, [2]uint32{1001, 1002})
	wantEqual(t, "reply to", got.ReplyTo, 1001)

	// He does not wait longer than he wants to.
	ctx, cancel := context.WithCancel(t.Context())
	held := r.stub
	held.OnStatus = func(s Status) {
		if s.Status == Started {
			cancel()
		}
	}
	if err := held.Call(ctx, nil, "hold"); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want that of the context", err)
	}
	next(t, r.work.begun, "the call")
	r.work.finish(t)
}

// A caller hangs until the method has returned, although he has other things to do.
func testAsynchronous(t *testing.T, r *rig, _ *Agent) {
	first, second := begin(t, r.stub, "hold"), begin(t, r.stub, "hold")
	next(t, r.work.begun, "a call")
	next(t, r.work.begun, "the other call")
	select {
	case <-first.Done():
		t.Fatal("it has ended before its method")
	case <-second.Done():
		t.Fatal("it has ended before its method")
	default:
	}
	r.work.finish(t)
	r.work.finish(t)
	for _, p := range []*Pending{first, second} {
		var said string
		if err := p.Result(&said); err != nil || said != "done" {
			t.Errorf("the result is %q, %v", said, err)
		}
	}
}

// A callback is not called, or goes on after the result.
func testCallbacks(t *testing.T, r *rig, _ *Agent) {
	var told []string // the callbacks come one at a time, and end before Done
	s := r.stub
	s.OnStatus = func(got Status) { told = append(told, got.Status) }
	s.OnResult = func(o Outcome) { told = append(told, "result "+string(o.RetVal)) }
	<-begin(t, s, "steps", 1).Done()
	wantEqual(t, "told", fmt.Sprint(told), "[accepted started progress result 1]")
}

// A caller of an agent that answers what nobody waits for finds it somewhere later.
func testFireAndForget(t *testing.T, r *rig, _ *Agent) {
	sn, err := r.stub.Notify(t.Context(), "count", "forgotten")
	if err != nil || sn == "" {
		t.Fatalf("notified as %q, %v", sn, err)
	}
	wantEqual(t, "counted", next(t, r.work.each, "the call"), "forgotten")
	r.a.AwaitQuiet()
	r.b.AwaitQuiet()
	r.a.WantNoDead()
	wantEqual(t, "how often", r.work.times("forgotten"), 1)
}

// A call that was only prepared is made, or one that was triggered twice is made twice.
func testTriggeredLater(t *testing.T, r *rig, _ *Agent) {
	prepared, err := r.stub.Prepare("count", "triggered")
	if err != nil {
		t.Fatal(err)
	}
	must[int](t, r.stub, "count", "another") // had it been sent, it would have been counted before
	wantEqual(t, "how often, before", r.work.times("triggered"), 0)
	p, err := prepared.Fire(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	o := p.Outcome()
	wantEqual(t, "serial number", o.SN, prepared.Envelope.SN)
	if _, err := prepared.Fire(t.Context()); !errors.Is(err, ErrFired) {
		t.Errorf("triggered again: %v", err)
	}
	wantEqual(t, "how often", r.work.times("triggered"), 1)
	next(t, r.work.each, "the one")
	next(t, r.work.each, "the other")
}

// A bar of progress stands still, or jumps.
func testStatuses(t *testing.T, r *rig, _ *Agent) {
	var told []string
	s := r.stub
	s.OnStatus = func(got Status) {
		told = append(told, strings.TrimSpace(fmt.Sprintf("%s %d/%d %s", got.Status, got.Completed, got.Total, got.Details)))
	}
	must[int](t, s, "steps", 2)
	want := []string{"accepted 0/0", "started 0/0", `progress 1/2 {"step":0}`, `progress 2/2 {"step":1}`}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}

	told = nil
	s.Version = "0"
	asRejected(t, s.Call(patient(t), nil, "steps", 2))
	if !slices.Equal(told, []string{"rejected 0/0"}) {
		t.Errorf("told %q", told)
	}
}

// A value comes back as another one: a large number as a rounded one.
func testReturnedValues(t *testing.T, r *rig, _ *Agent) {
	for _, value := range []string{`null`, `true`, `9007199254740993`, `1.5`, `"text ü <&>"`, `[1,[2]]`, `{"a":{"b":null}}`} {
		got := must[echo](t, r.stub, "echo", json.RawMessage(value))
		if !isEqual(got.Args[0], json.RawMessage(value)) {
			t.Errorf("%s comes back as %s", value, got.Args[0])
		}
	}
}

// An object is made of another one's arguments, or a method gets them in another order.
func testArguments(t *testing.T, r *rig, _ *Agent) {
	s := r.stub
	s.Cntr = []any{"first", Kws{"size": 3}}
	got := must[echo](t, s, "echo", 1, "two", Kws{"three": []int{3}})
	told, err := json.Marshal([]Arguments{got.Cntr, got.Arguments})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "arguments", string(told), `[{"args":["first"],"kws":{"size":3}},{"args":[1,"two"],"kws":{"three":[3]}}]`)
	if _, err := r.stub.Go(t.Context(), "echo", func() {}); err == nil {
		t.Error("a function is taken for an argument")
	}
}

// A caller cannot tell one error from another one, or loses what it says.
func testExceptions(t *testing.T, r *rig, _ *Agent) {
	fail := func(how string) error { return r.stub.Call(patient(t), nil, "fail", how) }
	var known *broken
	if err := fail("known"); !errors.As(err, &known) || *known != (broken{"wheel", 1 << 60}) {
		t.Errorf("a known exception is raised as %T %v", err, err)
	}
	remote := func(how string) RemoteException {
		t.Helper()
		var e *RemoteException
		if err := fail(how); !errors.As(err, &e) {
			t.Fatalf("an exception, %s, is raised as %T %v", how, err, err)
		}
		return *e
	}
	x := remote("unknown")
	wantEqual(t, "agent", x.Agent, r.b.ID)
	wantEqual(t, "exception", fmt.Sprintf("%s %s %s %s %s", x.XModule, x.XClass, x.ExVal, x.XState, x.XArgs),
		`tests Unknown unknown: nobody knows {"why":"nobody knows"} ["nobody knows",2]`)
	x = remote("plain")
	wantEqual(t, "exception of another class", x.Error(), "errors.errorString at agent 1002: just a text")
	x = remote("large") // whose state does not fit
	wantEqual(t, "state of a large exception", string(x.XState), "{}")
	x = remote("panic")
	wantEqual(t, "class of a panic", x.XClass, "panic")
}

// An agent is upgraded, and who calls it by its older version is broken, or gets an answer of
// the newer one.
func testVersions(t *testing.T, r *rig, _ *Agent) {
	busOfOther := openBus(t, r.b)
	_, stop := runAgent(t, r, busOfOther, r.b.ID, "Versioned.say@2.0", func(a *Agent) {
		for _, version := range []string{"1.0", "1.1", "2.0"} {
			Expose(a, "Versioned", version, func(Arguments) (string, error) { return version, nil }, Methods[string]{
				"say": func(own string, _ context.Context, call *Invocation) (any, error) {
					return own + " " + call.Version, nil
				},
			})
		}
	})
	s := r.stub
	s.ClassName = "Versioned"
	for _, version := range []string{"2.0", "1.0", "1.1"} {
		s.Version = version
		wantEqual(t, "version", must[string](t, s, "say"), version+" "+version)
	}
	s.Version = "3.0"
	rejected := asRejected(t, s.Call(patient(t), nil, "say"))
	wantEqual(t, "served", fmt.Sprint(rejected.Served), "[1.0 1.1 2.0]")
	if want := "does not serve Versioned.say@3.0, but version 1.0, 1.1, 2.0"; !strings.Contains(rejected.Reason, want) {
		t.Errorf("the reason is %q, want %q in it", rejected.Reason, want)
	}
	stop()
	s.Version = "1.0"
	rejected = asRejected(t, s.Call(patient(t), nil, "say"))
	wantEqual(t, "served by none", len(rejected.Served), 0)
}

// A caller gets an answer and does not know what it belongs to.
func testUserData(t *testing.T, r *rig, _ *Agent) {
	data := `{"group":2,"list":[1,null,"x"]}`
	s := r.stub
	s.Data = json.RawMessage(data)
	if got := must[echo](t, s, "echo"); !isEqual(got.Data, json.RawMessage(data)) {
		t.Errorf("the agent sees %s", got.Data)
	}
	outdated := s
	outdated.Version = "0"
	for what, p := range map[string]*Pending{
		"a result": begin(t, s, "echo"), "an exception": begin(t, s, "fail", "plain"), "a rejection": begin(t, outdated, "echo"),
	} {
		if o := p.Outcome(); !isEqual(o.Data, json.RawMessage(data)) || o.SN != p.Envelope.SN || !o.Timestamp.Equal(p.Envelope.Timestamp) {
			t.Errorf("%s comes with %+v, want data %s", what, o.Envelope, data)
		}
	}
	// As much as it says.
	s.Data = strings.Repeat("x", 3<<10)
	must[echo](t, s, "echo")
}

// An agent works on for an hour on what nobody wants any more, or ends what somebody wants.
func testCancelBySN(t *testing.T, r *rig, _ *Agent) {
	wanted, unwanted := begin(t, r.stub, "hold"), begin(t, r.stub, "hold")
	next(t, r.work.begun, "a call")
	next(t, r.work.begun, "the other call")
	if err := unwanted.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unwanted.Result(nil); !errors.Is(err, ErrCancelled) {
		t.Errorf("it ends with %v", err)
	}
	r.work.finish(t)
	if err := wanted.Result(nil); err != nil {
		t.Errorf("the other one ends with %v", err)
	}
	if err := r.stub.Caller.Cancel(t.Context(), r.b.ID, Cancellation{}); err == nil {
		t.Error("everything can be cancelled")
	}

	// Whoever knows the serial number may do it, of one that nobody waits for, too.
	sn, err := r.stub.Notify(t.Context(), "hold")
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "serial number", next(t, r.work.begun, "the call").SN, sn)
	if err := r.stub.Caller.Cancel(t.Context(), r.b.ID, Cancellation{SN: sn}); err != nil {
		t.Fatal(err)
	}
	fleettest.Eventually(t, "the method ends", func() error {
		for _, key := range r.b.RDB.Keys(t.Context(), "msgbus.system.taken.*.Work.hold@1").Val() {
			return errors.New("it is in " + key)
		}
		return nil
	})
}

// Of many calls those are cancelled that were not meant.
func testCancelByCriteria(t *testing.T, r *rig, _ *Agent) {
	for name, criteria := range map[string]Criteria{
		"eq":    Eq("group 2"),
		"in":    In("group 2", "group 3"),
		"match": Match("^group 2$"),
		"and":   And(Match("^group"), Match("2$")),
		"or":    Or(Eq("group 2"), Eq("group 4")),
	} {
		calls := make(map[string]*Pending)
		for _, data := range []string{"group 1", "group 2"} {
			s := r.stub
			s.Data = data
			calls[data] = begin(t, s, "hold")
			next(t, r.work.begun, "the call")
		}
		if err := r.stub.Caller.Cancel(t.Context(), r.b.ID, Cancellation{Criteria: &criteria}); err != nil {
			t.Fatal(err)
		}
		if err := calls["group 2"].Result(nil); !errors.Is(err, ErrCancelled) {
			t.Errorf("%s: what is meant ends with %v", name, err)
		}
		r.work.finish(t)
		if err := calls["group 1"].Result(nil); err != nil {
			t.Errorf("%s: what is not meant ends with %v", name, err)
		}
	}
	if err := r.stub.Caller.Cancel(t.Context(), r.b.ID, Cancellation{Criteria: &Criteria{}}); err == nil {
		t.Error("criteria that say nothing are taken")
	}
}

// An agent that answers twice has a caller go on twice.
func testOneFinalReply(t *testing.T, r *rig, _ *Agent) {
	r.b.ServeMessages("Twice.answer@1", func(m fleettest.Message) fleettest.Message {
		reply := m.With("src", r.b.ID).With("dst", []any{m["src"]})
		for _, retval := range []string{"1", "2"} {
			r.b.PushRaw("reply", reply.With("dat", fleettest.Encode(`{"retval":`+retval+`}`)).String())
		}
		return nil
	})
	ended := make(chan Outcome, 2)
	s := r.stub
	s.ClassName, s.TTL = "Twice", fleettest.Patience // it does not announce itself
	s.OnResult = func(o Outcome) { ended <- o }
	wantEqual(t, "result", must[int](t, s, "answer"), 1)
	r.b.AwaitQuiet() // the second one has been looked at
	r.a.AwaitQuiet()
	wantEqual(t, "how often it ended", len(ended), 1)
	must[echo](t, r.stub, "echo") // and it is not taken for another call's
}

// Who listens does not hear, or hears what it did not want; or nobody knows that something
// was lost.
func testEvents(t *testing.T, r *rig, agent *Agent) {
	ctx := patient(t)
	if n, err := r.busB.PublishCounted(ctx, "agent/Work.nobody", "lost"); err != nil || n != 0 {
		t.Errorf("an event that nobody listens for was heard by %d, %v", n, err)
	}
	hears, err := r.stub.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range []string{"Other", "Work"} {
		if err := agent.Emit(ctx, class, "done", class); err != nil {
			t.Fatal(err)
		}
	}
	e, err := hears.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "event", fmt.Sprintf("%d %s %s", e.Source, e.Topic, e.Data), `1002 agent/Work.done "Work"`)

	// Its connection breaks.
	if err := r.a.RDB.ClientKillByFilter(ctx, "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "lost", nextEmitted(t, agent, hears).Lost, -1)
	if err := hears.Close(); err != nil {
		t.Error(err)
	}
}

// nextEmitted emits events until one is heard.
func nextEmitted(t *testing.T, agent *Agent, hears *client.Subscription) *client.Event {
	t.Helper()
	var heard *client.Event
	fleettest.Eventually(t, "an event is heard", func() (err error) {
		if err := agent.Emit(t.Context(), "Work", "done", "again"); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience/100)
		defer cancel()
		heard, err = hears.Next(ctx)
		return err
	})
	return heard
}

// A caller has to know the addresses of all agents, and to ask each.
func testRoutingByProperty(t *testing.T, r *rig, _ *Agent) {
	_, stop := runAgent(t, r, r.busA, r.a.ID, "Work.echo@1", r.work.expose)
	defer stop()
	r.a.RDB.SAdd(t.Context(), "msgbus.system.group.kennel", r.a.ID, r.b.ID)
	var agents []uint32
	for o := range r.stub.CallGroup(patient(t), "kennel", "echo", "all") {
		var got echo
		if err := o.Decode(&got); err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "the agent's twin", got.Routing[1], o.Routing[0])
		agents = append(agents, o.Routing[0])
	}
	slices.Sort(agents)
	wantEqual(t, "agents", fmt.Sprint(agents), "[1001 1002]")
}

// An operator cannot see whether an agent is there, and what it serves.
func testEchoHelloHelp(t *testing.T, r *rig, _ *Agent) {
	ctx := patient(t)
	if said, err := r.stub.Caller.Echo(ctx, r.b.ID, "hello"); err != nil || said != "hello" {
		t.Errorf("echo says %q, %v", said, err)
	}
	if hello, err := r.stub.Caller.Hello(ctx, r.b.ID); err != nil || hello.Twin != r.b.ID || hello.Version == "" {
		t.Errorf("hello says %+v, %v", hello, err)
	}
	help, err := r.stub.Caller.Help(ctx, r.b.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"echo", "hold", "steps", "fail", "count"} {
		if !slices.Contains(help, "Work."+method+"@1") {
			t.Errorf("help says %v, without %s", help, method)
		}
	}
}

// A stranger calls methods in the name of another one.
func testSignature(t *testing.T, r *rig, _ *Agent) {
	stranger := r.fleet.Stranger(1003, "")
	call := stranger.Wire("Work.count@1", `{}`, r.b.ID, 1)
	forged := stranger.Sign(call).With("src", r.a.ID)
	status, answer := fleettest.Post(t, r.b.URL("/zbus-remote"), forged.String())
	wantEqual(t, "status", status, http.StatusBadRequest)
	wantEqual(t, "reason", answer.Text("Reason"), "bad_signature")
}

// A method gets what it cannot be made for, or a caller is told of an exception that is his
// own mistake.
func testRejectedByAnAgent(t *testing.T, r *rig, _ *Agent) {
	rejected := asRejected(t, r.stub.Call(patient(t), nil, "steps", "many"))
	if !strings.Contains(rejected.Reason, "argument n") {
		t.Errorf("the reason is %q", rejected.Reason)
	}
	// One that is no request of this framework.
	var e *client.Error
	err := r.busA.Call(patient(t), r.b.ID, "Work.echo@1", "no request", nil)
	if !errors.As(err, &e) || e.Class != rejectedClass {
		t.Errorf("what is no request is answered %v", err)
	}
}
