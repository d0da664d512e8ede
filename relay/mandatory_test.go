package relay_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// insist is a request of an app that does not want to wait for a service.
func insist(cmd, ret string, dst ...uint32) map[string]any {
	return with(ask(cmd, ret, dst...), map[string]any{"ext": map[string]any{"mandatory": true}})
}

// insisting is such a request as it comes from another twin.
func insisting(t *testing.T, m *msgbus.Message) *msgbus.Message {
	t.Helper()
	raw := m.AppendWire(nil)
	got, err := msgbus.Decode(append(raw[:len(raw)-1], `,"ext":{"mandatory":true}}`...))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// lastTaken says that a service of a command was last seen to take so long ago.
func (s *site) lastTaken(cmd string, ago time.Duration) {
	s.t.Helper()
	at := s.rdb.Time(s.t.Context()).Val().Add(-ago)
	if err := s.rdb.ZAdd(s.t.Context(), "msgbus.system.served", redis.Z{Score: float64(at.UnixMilli()), Member: cmd}).Err(); err != nil {
		s.t.Fatal(err)
	}
}

// An app that asked not to wait waits for its deadline, since nobody serves the command; or
// it is told that nobody does while a service waits for its request.
//
// Breaks it: in takeLot, acceptRequest or acceptCommand, without prepare; in refuseUnserved,
// without the look at Serves.
func TestRequestThatInsistsOnAServiceIsToldAtOnceThatThereIsNone(t *testing.T) {
	t.Parallel()
	w := newWire()
	var c tally
	a := run(t, w, 1001)
	b := run(t, w, 1002, atOnce, withRelay(func(o *relay.Options) { o.Observer = &c }))
	unserved := func(cmd string) {
		t.Helper()
		a.request(insist(cmd, "app.1", 1002))
		expect(t, cmd, a.pop("app.1"), map[string]any{"err": fmt.Sprintf("nobody serves command %q", cmd), "src": 1002, "cmd": cmd})
	}
	served := func(cmd string) {
		t.Helper()
		a.request(insist(cmd, "app.1", 1002))
		b.reply(b.service(cmd), map[string]any{"dat": "Mw=="})
		expect(t, cmd, a.pop("app.1"), map[string]any{"err": "", "dat": "Mw=="})
	}
	unserved("x")
	if n := b.length("msgbus.x"); n != 0 {
		t.Errorf("%d requests are in the queue", n)
	}
	want := map[string]int{"arrival accepted": 1, "arrival failed no_service": 1, "reply accepted": 1, "reply delivered": 1, "attempt": 1}
	c.want(t, want)

	// Somebody takes with BLPOP.
	a.request(ask("x", "app.2", 1002))
	b.service("x")
	eventually(t, "it is seen", func() bool { return b.rdb.ZScore(t.Context(), "msgbus.system.served", "x").Val() > 0 })
	served("x")
	b.lastTaken("x", time.Hour)
	served("x") // the queue is empty: he may wait
	b.lastTaken("x", time.Hour)
	b.push("msgbus.x", "{}")
	unserved("x") // he does not take

	b.announce("c1", "y", time.Minute)
	served("y")
	b.announce("c2", "z", time.Millisecond)
	eventually(t, "its lease is seen to be gone", func() bool { return b.rdb.ZScore(t.Context(), "msgbus.system.consumers", "c2 z").Val() > 0 })
	unserved("z")
	served("y")

	b.request(insist("x", "app.1", 1002))
	expect(t, "of the own twin", b.pop("app.1"), map[string]any{"err": `nobody serves command "x"`})
	b.push("msgbus.system.remote", with(insist("x", "r", 1002), map[string]any{"src": 1001, "uid": "1002.7000"}))
	eventually(t, "the source of what was pushed is told", func() bool {
		for _, s := range w.sendings(1001) {
			if m := parse(t, s.message); m["uid"] == "1002.7000" {
				return m["err"] == `nobody serves command "x"`
			}
		}
		return false
	})
	command := insisting(t, incoming("", "x"))
	command.Epoch = ""
	if _, err := b.relay.AcceptCommand(t.Context(), command); reasonOf(err) != msgbus.NoService {
		t.Errorf("a command: %v", err)
	}
}

// asking counts how often its store is asked who serves.
type asking struct {
	*backlog.Store
	times atomic.Int64
}

func (a *asking) Serving(ctx context.Context, commands []string) ([]msgbus.Service, error) {
	a.times.Add(1)
	return a.Store.Serving(ctx, commands)
}

// Redis is asked for each of many requests that come together, or for those that ask for
// nothing; or one that insists has the others refused.
//
// Breaks it: in refuseUnserved, without the look at wantsService, or at refusal; in
// takeRequests, without prepare.
func TestRequestsThatComeTogetherAskOnceWhoServes(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1001, accepting)
	var store asking
	b := run(t, w, 1002, withRelay(func(o *relay.Options) { o.Expose = []string{"open.*"} }),
		func(s *site) {
			s.through = func(opened *backlog.Store) relay.Backlog { store.Store = opened; return &store }
		})
	b.announce("c1", "open.x", time.Minute)
	errs, err := b.relay.AcceptTransfer(t.Context(), transfer("one", requested("1002.1", "open.y"), requested("1002.2", "open.x")))
	if err != nil {
		t.Fatal(err)
	}
	expectOutcomes(t, errs, "taken", "taken")
	if n := store.times.Load(); n != 0 {
		t.Errorf("Redis was asked %d times for nothing", n)
	}
	var together []msgbus.Outgoing
	for i, cmd := range []string{"open.x", "open.y", "open.y", "secret", "open.x"} {
		o := requested(fmt.Sprintf("1002.1%d", i), cmd)
		o.Message = insisting(t, o.Message)
		together = append(together, o)
	}
	together = append(together, requested("1002.19", "open.y"))
	errs, err = b.relay.AcceptTransfer(t.Context(), transfer("two", together...))
	if err != nil {
		t.Fatal(err)
	}
	expectOutcomes(t, errs, "taken", "taken", "taken", "taken", "taken", "taken")
	if n := store.times.Load(); n != 1 {
		t.Errorf("Redis was asked %d times, want once", n)
	}
	if x, y := b.length("msgbus.open.x"), b.length("msgbus.open.y"); x != 3 || y != 2 {
		t.Errorf("%d and %d requests are in the queues, want 3 and 2", x, y)
	}
	told := make(map[any]any)
	eventually(t, "the source is told", func() bool {
		for _, s := range w.sendings(1001) {
			m := parse(t, s.message)
			told[m["uid"]] = m["err"]
		}
		return len(told) == 3
	})
	for uid, text := range map[string]string{"1002.11": `nobody serves command "open.y"`, "1002.12": `nobody serves command "open.y"`, "1002.13": `command "secret" cannot be called from remote`} {
		if told[uid] != text {
			t.Errorf("of %s its source is told %q", uid, told[uid])
		}
	}
}
