package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// A bundle is said to be enabled and is not, or is served after it was disabled.
func TestRunnersAcknowledgeEnableAndDisableByName(t *testing.T) {
	p := newPlatform(t)
	tron, _ := p.tron()
	runner, _ := p.runner(p.b.ID, map[string]Function{hello.SHA: echo})
	front, _ := p.frontEnd(p.a.ID, "nginx-1")
	p.awaitAwake(runner)
	ctx := p.patient()
	if err := tron.Enable(ctx, hello); err != nil {
		t.Fatal(err)
	}
	p.wantAcked(runner, ActionEnable)
	p.awaitRoutes(front, "/hello 1002/func-4f1ab2")
	p.wantGet(front, "/hello/x", 200, "/hello/x")
	if err := tron.Enable(ctx, hello); err != nil { // an order that comes twice
		t.Errorf("enabled once more: %v", err)
	}

	err := tron.Enable(ctx, Bundle{SHA: "0000", Path: "/nowhere"})
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Class != "unknown_bundle" {
		t.Errorf("a bundle that the runner does not have is enabled: %v", err)
	}

	if err := tron.Disable(ctx, hello.SHA); err != nil {
		t.Fatal(err)
	}
	p.wantAcked(runner, ActionDisable)
	if got := front.Routes(); len(got) != 0 {
		t.Errorf("the runner has left the queue, and the front end has the routes %v", got)
	}
	p.wantGet(front, "/hello/x", 404, "no function")
}

// awaitAwake waits until the tron has answered a runner's awake.
func (p *platform) awaitAwake(r *Runner) {
	p.Helper()
	_, seen := p.bus(r.opts.Twin)
	seen.await(p, r.queue+" is awake", isTo(r.queue, ActionTronInfo))
	p.seenA.await(p, "the tron knows "+r.queue, isTo(tronQueue, ActionAwake))
}

// wantAcked wants the tron to have an ack that names the order that the runner got.
func (p *platform) wantAcked(r *Runner, action string) {
	p.Helper()
	order := header(p.seenB.await(p, "an order comes", isTo(r.queue, action)).Raw)
	p.seenA.await(p, "the order is acknowledged by name", func(m Message) bool {
		ack, err := parse[Ack](m.Raw, ActionAck)
		return err == nil && ack.AckID == order.MsgID && ack.From == r.opts.ID
	})
}

// The tron takes an ack of something else for the one that it waits for.
func TestAnAckOfSomethingElseIsNone(t *testing.T) {
	p := newPlatform(t)
	tron, _ := p.tron()
	p.pretend("liar", func(Enable) Ack {
		return Ack{Header: newHeader(ActionAck), From: "liar", AckID: "another"}
	})
	if err := tron.Enable(p.patient(), hello); err == nil {
		t.Error("it is taken for an ack")
	}
}

// pretend is a runner on twin 1002 that says that it is awake, and then only acknowledges.
func (p *platform) pretend(id string, ack func(Enable) Ack) {
	p.Helper()
	in := &inbox{bus: p.busB, queue: runnerQueue(id), story: p.seenB, on: map[string]handler{
		ActionEnable: on(ActionEnable, func(_ context.Context, _ uint32, m Enable) (any, error) { return ack(m), nil }),
	}}
	p.start(in.run)
	awake := Awake{Header: newHeader(ActionAwake), Type: TypeRunner, From: id}
	raw, err := ask(p.patient(), p.busB, Queue{p.a.ID, tronQueue}, awake, time.Minute)
	if err != nil {
		p.Fatal(err)
	}
	if _, err := parse[TronInfo](raw, ActionTronInfo); err != nil {
		p.Errorf("an awake is answered %s", raw)
	}
}

// A runner that comes late does not know of bundles, or where to download them.
func TestRunnersKnowAllBundlesAndWhereTheTronIs(t *testing.T) {
	p := newPlatform(t)
	tron, _ := p.tron(hello)
	first, _ := p.runner(p.b.ID, map[string]Function{hello.SHA: echo, shop.SHA: echo})
	p.awaitBundles(first, hello)
	if err := tron.Enable(p.patient(), shop); err != nil {
		t.Fatal(err)
	}
	p.awaitBundles(first, hello, shop)
	late, _ := p.runner(p.b.ID, map[string]Function{hello.SHA: echo, shop.SHA: echo})
	p.awaitBundles(late, hello, shop)
	for _, r := range []*Runner{first, late} {
		m := p.seenB.await(t, "it is told where the tron is", isTo(r.queue, ActionTronInfo))
		if info, err := parse[TronInfo](m.Raw, ActionTronInfo); err != nil || info.TronHost != (HostPort{"tron.example", 3000}) {
			t.Errorf("it is told %s", m.Raw)
		}
	}
}

func (p *platform) awaitBundles(r *Runner, want ...Bundle) {
	p.Helper()
	p.seenB.await(p, fmt.Sprintf("%s knows %v", r.queue, want), func(m Message) bool {
		all, err := parse[AllBundles](m.Raw, ActionAllBundles)
		return m.To == r.queue && err == nil && slices.Equal(all.Bundles, want)
	})
}

// Requests go to a runner that has died, for ever; or one that lives is cleaned up.
func TestTheSilentAreCleanedUpAndThoseWhoseHeartBeatsAreNot(t *testing.T) {
	p := newPlatform(t)
	p.times.CleanUpAfter = 3 * time.Second
	tron, _ := p.tron(hello)
	runner, _ := p.runner(p.a.ID, map[string]Function{hello.SHA: echo})
	front, _ := p.frontEnd(p.b.ID, "nginx-1")
	p.pretend("silent", func(m Enable) Ack {
		return Ack{Header: newHeader(ActionAck), From: "silent", AckID: m.MsgID}
	})
	p.awaitRoutes(front, "/hello 1001/func-4f1ab2", "/hello 1002/func-4f1ab2")
	p.seenA.awaitSaid(t, "silent has been silent", "cleaned up")
	p.awaitRoutes(front, "/hello 1001/func-4f1ab2")
	if got := tron.Runners(); !slices.Equal(got, []string{runner.opts.ID}) {
		t.Errorf("the tron knows the runners %q, want %s", got, runner.opts.ID)
	}
	m := p.seenA.await(t, "the runner tells its statistics", func(m Message) bool {
		h, err := parse[Heartbeat](m.Raw, ActionHeartbeat)
		return err == nil && h.From == runner.opts.ID
	})
	if h, err := parse[Heartbeat](m.Raw, ActionHeartbeat); err != nil || h.Statistics == nil {
		t.Errorf("its heartbeat is %s", m.Raw)
	}
}

// A runner is stopped for an upgrade, and for three minutes its requests are lost.
func TestThoseWhoLeaveAreOffTheRoutesAtOnce(t *testing.T) {
	p := newPlatform(t)
	tron, _ := p.tron(hello)
	p.runner(p.a.ID, map[string]Function{hello.SHA: echo})
	_, leaves := p.runner(p.b.ID, map[string]Function{hello.SHA: echo})
	front, _ := p.frontEnd(p.b.ID, "nginx-1")
	p.awaitRoutes(front, "/hello 1001/func-4f1ab2", "/hello 1002/func-4f1ab2")
	leaves.leave()
	p.awaitRoutes(front, "/hello 1001/func-4f1ab2")
	if got := tron.Runners(); len(got) != 1 {
		t.Errorf("the tron knows the runners %q", got)
	}
}

// The tron is restarted, and the site is off the web until all have been restarted, too.
func TestATronThatBeginsAnewLearnsWhoIsThere(t *testing.T) {
	p := newPlatform(t)
	p.times.HeartbeatEvery = 1500 * time.Millisecond // all must be heard of within one and a half
	both := []string{"/hello 1001/func-4f1ab2", "/hello 1002/func-4f1ab2"}
	_, runs := p.tron(hello)
	p.runner(p.a.ID, map[string]Function{hello.SHA: echo})
	runner, _ := p.runner(p.b.ID, map[string]Function{hello.SHA: echo})
	front, _ := p.frontEnd(p.b.ID, "nginx-1")
	p.awaitRoutes(front, both...)
	for _, id := range []string{runner.opts.ID, front.opts.ID} {
		p.seenA.await(t, id+" believes that the tron knows it", func(m Message) bool {
			h, err := parse[Heartbeat](m.Raw, ActionHeartbeat)
			return err == nil && h.From == id
		})
	}
	runs.leave()
	before := len(p.seenB.all())
	p.tron(hello)
	p.seenB.awaitAfter(t, before, "the runner is asked to awake again", isTo(runner.queue, ActionResendAwake))
	p.seenB.awaitAfter(t, before, "the front end is asked, too", isTo(front.queue, ActionResendAwake))
	p.seenB.awaitAfter(t, before, "the front end gets routes", isTo(front.queue, ActionRoute))
	p.awaitRoutes(front, both...)
	for _, m := range p.seenB.all()[before:] {
		if got := routesIn(m); got != nil && m.To == front.queue && !slices.Equal(got, both) {
			t.Errorf("for a while the routes are %q", got)
		}
	}
	p.wantGet(front, "/hello/x", 200, "/hello/x")
}

// A front end that starts late, or on another machine, has no routes or consults them in
// another order.
func TestAllFrontEndsHaveTheWholeTableInOrder(t *testing.T) {
	p := newPlatform(t)
	tron, runs := p.tron(hello)
	p.runner(p.b.ID, map[string]Function{hello.SHA: echo, shop.SHA: func(context.Context, *ServiceRequest) (Result, error) { return text("sold"), nil }})
	here, _ := p.frontEnd(p.a.ID, "nginx-1")
	there, _ := p.frontEnd(p.b.ID, "nginx-2")
	p.awaitRoutes(here, "/hello 1002/func-4f1ab2")
	p.awaitRoutes(there, "/hello 1002/func-4f1ab2")
	if err := tron.Enable(p.patient(), shop); err != nil {
		t.Fatal(err)
	}
	ordered := []string{"/hello/shop 1002/func-c93d07", "/hello 1002/func-4f1ab2"}
	p.awaitRoutes(here, ordered...)
	p.awaitRoutes(there, ordered...)
	p.wantGet(there, "/hello/shop/bread", 200, "sold")
	p.wantGet(here, "/hello/world", 200, "/hello/world")

	published := header(p.seenB.await(t, "the table comes", func(m Message) bool { return slices.Equal(routesIn(m), ordered) }).Raw).MsgID
	for _, f := range []*FrontEnd{here, there} {
		p.seenA.await(t, "the routes are acknowledged by "+f.queue, func(m Message) bool {
			ack, err := parse[Ack](m.Raw, ActionAck)
			return err == nil && ack.From == f.opts.ID && ack.AckID == published
		})
	}
	runs.leave() // a latecomer needs no tron
	late, _ := p.frontEnd(p.b.ID, "nginx-3")
	first := p.seenB.await(t, "the latecomer gets a table", isTo(late.queue, ActionRoute))
	if got := routesIn(first); !slices.Equal(got, ordered) || header(first.Raw).MsgID != published {
		t.Errorf("the first that it gets is %s", first.Raw)
	}
}

// A front end's Redis was away while the routes changed, and it uses the old ones for ever.
func TestAFrontEndThatHasMissedTheRoutesIsToldAgain(t *testing.T) {
	p := newPlatform(t)
	p.tron(hello)
	p.runner(p.b.ID, map[string]Function{hello.SHA: echo})
	front, _ := p.frontEnd(p.b.ID, "nginx-1")
	p.awaitRoutes(front, "/hello 1002/func-4f1ab2")
	// This one says that it is awake and acknowledges nothing.
	awake := Awake{Header: newHeader(ActionAwake), Type: TypeFrontEnd, InstanceID: "deaf", From: "deaf"}
	if _, err := ask(p.patient(), p.busB, Queue{p.a.ID, tronQueue}, awake, time.Minute); err != nil {
		t.Fatal(err)
	}
	p.seenA.awaitSaid(t, "no ack of the routes", "FRNTdeaf", "publishing them again")
	before := len(p.seenB.all())
	p.seenB.awaitAfter(t, before, "the routes come again", isTo(front.queue, ActionRoute))
}

// Two front ends of one instance work against each other.
func TestTheNewerFrontEndHasTheInstance(t *testing.T) {
	t.Run("told by the tron", func(t *testing.T) {
		p := newPlatform(t)
		p.tron()
		older, olderRuns := p.frontEnd(p.b.ID, "nginx-1")
		other, _ := p.frontEnd(p.b.ID, "nginx-2")
		p.seenB.await(t, "the older one is awake", isTo(older.queue, ActionTronInfo))
		newer, _ := p.frontEnd(p.b.ID, "nginx-1")
		if err := olderRuns.wait(); !errors.Is(err, ErrReplaced) {
			t.Errorf("the older one ends with %v", err)
		}
		m := p.seenB.await(t, "it is told to die", isTo(older.queue, ActionDie))
		if die, err := parse[Die](m.Raw, ActionDie); err != nil || die.InstanceID != "nginx-1" {
			t.Errorf("it is told %s", m.Raw)
		}
		p.wantHolder("nginx-1", newer)
		p.wantHolder("nginx-2", other)
		for _, m := range p.seenB.all() {
			if header(m.Raw).Action == ActionDie && m.To != older.queue {
				t.Errorf("%s is told to die, too", m.To)
			}
		}
	})
	// The tron is away: nobody tells the older one, who must notice.
	t.Run("without a tron", func(t *testing.T) {
		p := newPlatform(t)
		older, olderRuns := p.frontEnd(p.b.ID, "nginx-1")
		p.seenB.awaitSaid(t, older.queue, "no word from the tron")
		newer, _ := p.frontEnd(p.b.ID, "nginx-1")
		if err := olderRuns.wait(); !errors.Is(err, ErrReplaced) {
			t.Errorf("the older one ends with %v", err)
		}
		p.wantHolder("nginx-1", newer)
	})
}

// wantHolder wants a front end of twin 1002 to have the name of its instance.
func (p *platform) wantHolder(instance string, f *FrontEnd) {
	p.Helper()
	info, ok, err := p.busB.Present(p.patient(), "frontend."+instance)
	var has holder
	if err != nil || !ok || json.Unmarshal(info, &has) != nil || has.ID != f.opts.ID {
		p.Errorf("%s is held by %s (%v, %v), want %s", instance, info, ok, err, f.opts.ID)
	}
}

// A runner that was away for ten minutes enables what has been disabled since.
func TestStaleMessagesAreDropped(t *testing.T) {
	p := newPlatform(t)
	p.times.StaleAfter = time.Second
	p.tron(hello)
	awake := Awake{Header: newHeader(ActionAwake), Type: TypeRunner, From: "away"}
	if _, err := ask(p.patient(), p.busB, Queue{p.a.ID, tronQueue}, awake, time.Minute); err != nil {
		t.Fatal(err)
	}
	p.seenA.awaitSaid(t, "enable on 1002/RU-away", "expiration reached")
	// Deadlines are of whole seconds, and a service has the benefit of the doubt: another
	// message that nobody takes tells when there is none left.
	later := Disable{Header: newHeader(ActionDisable)}
	if raw, err := ask(p.patient(), p.busA, Queue{p.b.ID, runnerQueue("away")}, later, 3*time.Second); err == nil {
		t.Errorf("somebody answers %s", raw)
	}
	in := &inbox{bus: p.busB, queue: runnerQueue("away"), story: p.seenB, on: map[string]handler{
		ActionEnable:  on(ActionEnable, func(context.Context, uint32, Enable) (any, error) { return nil, nil }),
		ActionDisable: on(ActionDisable, func(context.Context, uint32, Disable) (any, error) { return nil, nil }),
	}}
	p.start(in.run)
	if _, err := ask(p.patient(), p.busA, Queue{p.b.ID, in.queue}, Disable{Header: newHeader(ActionDisable)}, time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, m := range p.seenB.all() {
		if h := header(m.Raw); h.Action == ActionEnable {
			t.Errorf("it is told to enable what was enabled %s ago", time.Since(time.UnixMilli(h.At)))
		}
	}
}
