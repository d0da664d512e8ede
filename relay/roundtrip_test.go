package relay_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// Everything that an old client looks at is in its reply: its own ret and
// command, the twin that answered, and the uid that the relay gave.
func TestRequestCrossesTwoRelaysAndItsReplyComesBack(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)

	// Without `now` its life counts from its admission: no second begins in between.
	a.request(with(ask("calc.add", "app.1", 1002), map[string]any{"uid": "mine", "shm": "application/json", "now": 0}))
	req := b.service("calc.add")
	expect(t, "the service got", req, map[string]any{
		"ver": 1, "uid": "1002.1", "src": 1001, "dst": []int{1002}, "cmd": "calc.add", "dat": "WzEsMl0=", "exp": 60,
		"try": 2, "ret": "msgbus.system.reply", "shm": "application/json", "pxy": false, "err": "", "sig": nil,
	})
	b.reply(req, map[string]any{"dat": "Mw==", "sig": "stale"})
	expect(t, "the app got", a.pop("app.1"), map[string]any{
		"ver": 1, "uid": "1002.1", "src": 1002, "dst": []int{1001}, "cmd": "calc.add", "dat": "Mw==", "exp": 60,
		"try": 2, "ret": "app.1", "shm": "application/json", "pxy": false, "err": "", "sig": nil, "epoch": nil,
	})
	eventually(t, "the backlog is empty", func() bool { return len(a.waiting()) == 0 })
	if ttl := a.rdb.TTL(t.Context(), "app.1").Val(); ttl > 0 {
		t.Errorf("an empty queue has a TTL of %v", ttl)
	}
}

// The error of a service is the service's: it reaches the app as it was written.
func TestErrorOfAServiceReachesTheApp(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	a.request(ask("calc.div", "app.1", 1002))
	b.reply(b.service("calc.div"), map[string]any{"dat": "", "err": "division by zero"})
	expect(t, "the app got", a.pop("app.1"), map[string]any{"err": "division by zero", "dat": "", "src": 1002})
}

// A machine's apps call its own services the same way, and no peer hears of it.
func TestMessageToTheOwnTwinStaysHere(t *testing.T) {
	t.Parallel()
	w := newWire()
	a := run(t, w, 1001, withRelay(func(o *relay.Options) { o.Expose = []string{"nothing.*"} }))
	a.request(ask("calc.add", "app.1", 1001))
	req := a.service("calc.add")
	expect(t, "the service got", req, map[string]any{"uid": "1001.1", "src": 1001, "dst": []int{1001}, "ret": "msgbus.system.reply"})
	a.reply(req, map[string]any{"dat": "Mw=="})
	expect(t, "the app got", a.pop("app.1"), map[string]any{"uid": "1001.1", "src": 1001, "dat": "Mw==", "ret": "app.1"})
	if sent := w.sendings(1001); len(sent) != 0 {
		t.Errorf("a message to the own twin was handed to the peers: %v", sent)
	}
}

// A client that asked several twins, one of them twice, waits for one answer a
// twin and tells them apart by src.
func TestEachDestinationAnswersOnceThoughOneIsNamedTwice(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b, c := run(t, w, 1001), run(t, w, 1002), run(t, w, 1003)
	a.request(ask("who", "app.1", 1002, 1003, 1002, 1001))
	for _, s := range []*site{a, b, c} {
		s.reply(s.service("who"), map[string]any{"dat": "Mw=="})
	}
	answered := make(map[string]int)
	for range 3 {
		m := a.pop("app.1")
		answered[fmt.Sprintf("%v %v", m["src"], m["uid"])]++
	}
	if want := map[string]int{"1001 1001.1": 1, "1002 1002.1": 1, "1003 1003.1": 1}; !maps.Equal(answered, want) {
		t.Errorf("answers by src and uid: %v, want %v", answered, want)
	}
	eventually(t, "the backlog is empty", func() bool { return len(a.waiting()) == 0 })
	if n := a.length("app.1") + b.length("msgbus.who"); n != 0 {
		t.Errorf("%d messages too many: a twin that was named twice was asked twice", n)
	}
}

// Each dialect's clients drop what is written in the other one, and would wait
// for ever.
func TestAppAndServiceGetTheirOwnDialect(t *testing.T) {
	t.Parallel()
	w := newWire()
	a := run(t, w, 1001)
	b := run(t, w, 2, withRelay(func(o *relay.Options) { o.RefServices = []string{"new.*"} }))

	refApp := func(cmd string) map[string]any {
		return map[string]any{"ver": 1, "ref": "r-7", "cmd": cmd, "exp": 29, "dat": "WzEwLDIwXQ==", "dst": []int{2},
			"con": nil, "ret": "app.1", "shm": "application/json", "now": 0}
	}
	oldApp := func(cmd string) map[string]any {
		return with(ask(cmd, "app.1", 2), map[string]any{"exp": 29, "dat": "WzEwLDIwXQ=="})
	}
	asRef := func(cmd, uid string) map[string]any {
		return map[string]any{"ver": 1, "ref": uid, "src": "1001", "cmd": cmd, "exp": 29, "dat": "WzEwLDIwXQ==",
			"ret": "msgbus.system.reply", "shm": "application/json"}
	}
	asOld := func(cmd, uid, schema string, try int) map[string]any {
		return map[string]any{"ver": 1, "uid": uid, "src": 1001, "dst": []int{2}, "cmd": cmd, "exp": 29, "try": try, "dat": "WzEwLDIwXQ==",
			"ret": "msgbus.system.reply", "shm": schema, "pxy": false, "err": ""}
	}
	forRef := map[string]any{"ver": 1, "ref": "r-7", "dat": "MzA=", "src": "2", "shm": "application/json"}
	forOld := func(cmd, uid, schema string) map[string]any {
		return map[string]any{"ver": 1, "uid": uid, "src": 2, "dst": []int{1001}, "cmd": cmd, "exp": 29, "try": 2, "dat": "MzA=",
			"ret": "app.1", "shm": schema, "pxy": false, "err": ""}
	}
	for i, c := range []struct {
		name, cmd    string
		app          map[string]any
		service, ret func(uid string) map[string]any
	}{
		{"old app, old service", "old.add", oldApp("old.add"),
			func(uid string) map[string]any { return asOld("old.add", uid, "", 2) },
			func(uid string) map[string]any { return forOld("old.add", uid, "") }},
		{"old app, new service", "new.add", oldApp("new.add"),
			func(uid string) map[string]any { return asRef("new.add", uid) },
			func(uid string) map[string]any { return forOld("new.add", uid, "application/json") }},
		{"new app, old service", "old.add", refApp("old.add"),
			func(uid string) map[string]any { return asOld("old.add", uid, "application/json", 0) },
			func(string) map[string]any { return forRef }},
		{"new app, new service", "new.add", refApp("new.add"),
			func(uid string) map[string]any { return asRef("new.add", uid) },
			func(string) map[string]any { return forRef }},
	} {
		uid := fmt.Sprintf("2.%d", i+1)
		a.request(c.app)
		req := b.service(c.cmd)
		delete(req, "epoch") // our own extra key, which every published reader ignores
		// What is left of its life travels, which is less when a second ends on the way.
		if left, _ := req["exp"].(float64); 20 < left && left < 29 {
			req["exp"] = 29.0
		}
		expectAll(t, c.name+": the service got", req, c.service(uid))
		if c.cmd == "new.add" {
			b.push("msgbus.system.reply", map[string]any{"ver": 1, "ref": req["ref"], "dat": "MzA=", "dst": req["src"], "shm": "application/json", "now": 1})
		} else {
			b.reply(req, map[string]any{"dat": "MzA="})
		}
		expectAll(t, c.name+": the app got", a.pop("app.1"), c.ret(uid))
	}
}

// A client of the newer dialect reads an error as an object; a text makes it
// drop the reply.
func TestErrorReachesEachAppInItsDialect(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, func(_ context.Context, messages []msgbus.Outgoing) []error { return all(messages, refused(1002, "no")) })
	a := run(t, w, 1001)
	a.request(map[string]any{"ver": 1, "ref": "r-7", "cmd": "x", "exp": 29, "dat": "", "dst": []int{1002}, "con": nil, "ret": "app.1", "now": 0})
	expectAll(t, "the app got", a.pop("app.1"), map[string]any{"ver": 1, "ref": "r-7", "dat": "", "src": "1002", "shm": "application/json",
		"err": map[string]any{"code": 255, "message": "twin 1002 refused the message: no"}})
}

// New fields of apps and services must not need a new relay.
func TestUnknownKeysTravelThereAndBack(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	extra := map[string]any{"tra": "ce", "nested": map[string]any{"a": []any{1, nil, "ü"}}}
	a.request(with(ask("x", "app.1", 1002), extra))
	req := b.service("x")
	expect(t, "the service got", req, extra)
	b.reply(req, map[string]any{"more": true})
	expect(t, "the app got", a.pop("app.1"), with(extra, map[string]any{"more": true}))
}

// Services that read with BRPOP see the oldest request first only when it is
// pushed to the other end.
func TestCommandsOfTheSettingArePushedLeft(t *testing.T) {
	t.Parallel()
	w := newWire()
	a := run(t, w, 1001)
	b := run(t, w, 1002, withRelay(func(o *relay.Options) { o.LeftCommands = []string{"stack.*"} }))
	for _, dat := range []string{"MQ==", "Mg=="} {
		a.request(with(ask("stack.x", "app.1", 1002), map[string]any{"dat": dat}))
	}
	eventually(t, "both requests are there", func() bool { return b.length("msgbus.stack.x") == 2 })
	first := parse(t, b.rdb.RPop(t.Context(), "msgbus.stack.x").Val())
	expect(t, "BRPOP gives first", first, map[string]any{"dat": "MQ=="})
}

// What a relay remembers of a request is of an earlier one when Redis was emptied: the
// reply must still reach the app whose request has the uid now.
//
// Broken by: in end, without stale.
func TestReplyEndsTheRequestThatHasItsUIDNow(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, accepting)
	a := run(t, w, 1001)
	a.request(ask("x", "app", 1002))
	sent := w.awaitSendings(t, 1002, 1)[0].message
	uid := fmt.Sprint(parse(t, sent)["uid"])
	entry := a.rdb.HGet(t.Context(), "msgbus.system.backlog", uid).Val()
	a.rdb.HSet(t.Context(), "msgbus.system.backlog", uid, strings.Replace(entry, `"admitted":`, `"admitted":1`, 1))

	reply := repliedTo(uid, "")
	reply.Message.Source, reply.Message.Destinations = 1002, []uint32{1001}
	errs, err := a.relay.AcceptTransfer(t.Context(), &msgbus.Transfer{Source: 1002, Digest: "one", Messages: []msgbus.Outgoing{reply}})
	if err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
	a.pop("app")
}
