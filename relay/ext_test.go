package relay_test

import (
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

func extend(m map[string]any, ext map[string]any) map[string]any {
	return with(m, map[string]any{"ext": ext})
}

// An app that waits for many replies at one list cannot tell them apart, since an old
// service answers without what it does not know.
func TestIDAndTagComeBackWhateverTheServiceMakesOfThem(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	ext := map[string]any{"id": "17", "tag": map[string]any{"job": 4}}
	a.request(extend(ask("work", "app.1", 1002), ext))
	a.request(extend(ask("work", "app.1", 1002), ext))
	for _, forges := range []any{nil, map[string]any{"id": "18", "tag": 5, "progress": "msgbus.system.local", "error": map[string]any{"code": 7}}} {
		req := b.service("work")
		expect(t, "the service got", req, map[string]any{"ext": ext})
		b.reply(req, map[string]any{"ext": forges})
		expect(t, "the app got", a.pop("app.1"), map[string]any{"ext": ext, "err": ""})
	}
}

// An app that asks many things has to find out from the text of an error what happened.
func TestErrorsAreTypedForAppsThatKnowOfIt(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002, withRelay(func(o *relay.Options) { o.Expose = []string{"work"} }))
	own := map[string]any{"code": 4, "class": "ValueError", "message": "no", "data": []int{1}}
	for _, c := range []struct {
		name         string
		app, service map[string]any // ext
		want         any
	}{
		{"asked for", map[string]any{"id": "1"}, map[string]any{"error": own}, map[string]any{"id": "1", "error": own}},
		{"in the name of the bus", map[string]any{"id": "1"}, map[string]any{"error": map[string]any{"class": "msgbus.expired", "message": "no"}},
			map[string]any{"id": "1", "error": map[string]any{"message": "no"}}},
		{"of an old app", nil, map[string]any{"error": own}, nil},
		{"of an old service", map[string]any{"id": "1"}, nil, map[string]any{"id": "1"}},
	} {
		a.request(extend(ask("work", "app.1", 1002), c.app))
		b.reply(b.service("work"), map[string]any{"err": "no", "ext": c.service})
		expect(t, c.name, a.pop("app.1"), map[string]any{"err": "no", "ext": c.want})
	}

	ofBus := func(reason, text string) map[string]any {
		return map[string]any{"error": map[string]any{"class": "msgbus." + reason, "message": text}}
	}
	const hidden = `command "secret" cannot be called from remote`
	a.request(extend(ask("secret", "app.1", 1002), map[string]any{}))
	expect(t, "from the other relay", a.pop("app.1"), map[string]any{"err": hidden, "ext": ofBus("not_exposed", hidden)})
	const missing = "received invalid message: missing twin destination"
	a.request(extend(ask("work", "app.1"), map[string]any{}))
	expect(t, "from the app's relay", a.pop("app.1"), map[string]any{"err": missing, "ext": ofBus("missing_destination", missing)})
	const late = "request timeout (expiration reached, 1)"
	a.request(with(extend(ask("work", "app.1", 1002), map[string]any{}), map[string]any{"exp": 1}))
	expect(t, "at the deadline", a.pop("app.1"), map[string]any{"err": late, "ext": ofBus("expired", late)})
	a.request(ask("secret", "app.1", 1002))
	expect(t, "an old app", a.pop("app.1"), map[string]any{"err": hidden, "ext": nil})
}

// An app that is told how far its request is takes that for the answer, or its answer
// does not come any more.
func TestInterimRepliesComeBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	w := newWire()
	for _, twin := range []uint32{1001, 1002} {
		a := run(t, w, 1001)
		b := a
		if twin == 1002 {
			b = run(t, w, 1002)
		}
		a.request(extend(ask("work", "app.1", twin), map[string]any{"id": "17", "progress": "app.1.progress"}))
		req := b.service("work")
		expect(t, "the service got", req, map[string]any{"ext": map[string]any{"id": "17", "progress": "msgbus.system.reply"}})
		for n, status := range []string{"accepted", "started", "progress"} {
			b.reply(req, map[string]any{"ext": map[string]any{"status": status, "seq": n + 1}, "dat": "Mw=="})
		}
		b.reply(req, map[string]any{"dat": "NA=="})
		b.reply(req, map[string]any{"ext": map[string]any{"status": "progress", "seq": 4}})
		expect(t, "the answer", a.pop("app.1"), map[string]any{"dat": "NA==", "ext": map[string]any{"id": "17"}})
		for n, status := range []string{"accepted", "started", "progress"} {
			expect(t, "an interim reply", a.pop("app.1.progress"), map[string]any{
				"dat": "Mw==", "src": twin, "cmd": "work", "ext": map[string]any{"id": "17", "status": status, "seq": n + 1},
			})
		}
		eventually(t, "all is dealt with", func() bool { return len(a.waiting()) == 0 && b.length("msgbus.system.reply") == 0 })
		if n := a.length("app.1") + a.length("app.1.progress"); n != 0 {
			t.Errorf("%d replies too many", n)
		}
		a.stop()
	}
}

// A published relay takes the first reply for the answer.
func TestNoInterimReplyGoesToARelayThatKnowsNone(t *testing.T) {
	t.Parallel()
	w := newWire()
	b := run(t, w, 1002)
	for _, m := range []*msgbus.Message{
		{UID: "1002.1", Ext: &msgbus.Ext{Progress: msgbus.WireReplyQueue}}, // without an epoch
		{UID: "1002.2", Epoch: "ab", Ext: &msgbus.Ext{Progress: "app.1"}},  // carried by an earlier msgbusd
	} {
		m.Version, m.Command, m.Source, m.Destinations, m.ReturnQueue = 1, "work", 1001, []uint32{1002}, msgbus.WireReplyQueue
		if errs := w.deliver(t.Context(), 1002, []msgbus.Outgoing{{Kind: msgbus.RequestParcel, Message: m}}); errs[0] != nil {
			t.Fatal(errs[0])
		}
		req := b.service("work")
		if ext := req["ext"].(map[string]any); ext["progress"] != nil {
			t.Errorf("the service of %s is asked for interim replies: %v", m.UID, ext)
		}
		b.reply(req, map[string]any{"ext": map[string]any{"status": "started"}})
		b.reply(req, map[string]any{"dat": "Mw==", "ext": nil})
	}
	// The second may know them: it is its app that has asked for none.
	for _, s := range w.awaitSendings(t, 1001, 2) {
		if s.uid == "1002.1" && has(s.message, "started") {
			t.Errorf("it gets %s", s.message)
		}
	}
}

// A service of another twin fills the memory of a Redis whose app does not read.
func TestListOfInterimRepliesIsBounded(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	a.request(extend(ask("work", "app.1", 1002), map[string]any{"progress": "app.1.progress"}))
	req := b.service("work")
	for n := range 1100 {
		b.reply(req, map[string]any{"ext": map[string]any{"status": "progress", "seq": n + 1}})
	}
	b.reply(req, map[string]any{"ext": nil})
	a.pop("app.1")
	if n := a.length("app.1.progress"); n != 1000 {
		t.Errorf("the list holds %d interim replies, want 1000", n)
	}
	if ttl := a.rdb.TTL(t.Context(), "app.1.progress").Val(); ttl <= 0 || ttl > 30*time.Minute {
		t.Errorf("it is kept for %v, want half an hour", ttl)
	}
}

// An app must not have its relay write to a key of the relay itself.
func TestProgressQueueMustNotBeTheRelaysOwn(t *testing.T) {
	t.Parallel()
	a := run(t, newWire(), 1001)
	a.request(extend(ask("work", "app.1", 1002), map[string]any{"progress": "msgbus.system.local"}))
	expect(t, "the app got", a.pop("app.1"), map[string]any{"err": `received invalid message: progress queue "msgbus.system.local" belongs to the relay`})
}

// An app that wants no answer waits for none, and what it sent is there once.
func TestOneWayRequestIsDeliveredOnceAndNothingComesBack(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	for _, to := range []*site{b, a} {
		a.request(extend(ask("note", "", to.twin), map[string]any{"oneway": true}))
		req := to.service("note")
		expect(t, "the service got", req, map[string]any{"ext": map[string]any{"oneway": true}, "ret": "msgbus.system.reply"})
		eventually(t, "it has ended", func() bool { return len(a.waiting()) == 0 })
		to.reply(req, nil) // as a service that knows nothing of it does
		eventually(t, "that is dealt with", func() bool { return to.length("msgbus.system.reply") == 0 })
	}
	if replies := w.sendings(1001); len(replies) != 0 {
		t.Errorf("what the service answered was sent: %v", replies)
	}
	for _, s := range []*site{a, b} {
		if n := s.rdb.HLen(t.Context(), "msgbus.system.open").Val(); n != 0 {
			t.Errorf("twin %d waits for %d answers", s.twin, n)
		}
		if letters := s.letters(); len(letters) != 0 {
			t.Errorf("twin %d has dead letters: %v", s.twin, letters)
		}
	}
	stats, err := a.store.Stats(t.Context())
	if err != nil || !stats.AddUp() || stats.Answered != 2 {
		t.Errorf("the counts are %+v, %v", stats, err)
	}
}

// What nobody waits for, and cannot be delivered, is gone without a trace.
func TestOneWayRequestThatFailsIsADeadLetterOfItsSource(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002, withRelay(func(o *relay.Options) { o.Expose = []string{"note"} }))
	oneWay := func(cmd string, twin uint32) map[string]any {
		return extend(ask(cmd, "app.1", twin), map[string]any{"oneway": true, "id": "17"})
	}
	a.request(oneWay("secret", 1002))
	eventually(t, "it is buried", func() bool { return len(a.letters()) == 1 })
	w.to(1003, dead(1003))
	a.request(with(oneWay("note", 1003), map[string]any{"exp": 1}))
	eventually(t, "it is buried", func() bool { return len(a.letters()) == 2 })
	for i, want := range []struct{ cmd, reason, detail string }{
		{"secret", "refused_by_peer", "cannot be called from remote"},
		{"note", "expired", "cannot be reached"},
	} {
		letter := a.letters()[i]
		if letter["queue"] != "local" || letter["reason"] != want.reason || !has(letter["detail"], want.detail) {
			t.Errorf("dead letter %v, want %+v", letter, want)
		}
		expect(t, "its message", parse(t, letter["message"].(string)), map[string]any{
			"cmd": want.cmd, "uid": "", "src": 0, "ext": map[string]any{"oneway": true, "id": "17"}, "msgbusd": nil,
		})
	}
	if n := a.length("app.1") + int64(len(a.waiting())); n != 0 {
		t.Errorf("%d replies or requests are left", n)
	}
	// What an operator has mended he sends again.
	b.relay.SetRules(relay.Rules{Expose: []string{"*"}})
	ids, err := a.store.DeadIDs(t.Context(), msgbus.RefusedByPeer)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.store.RetryDeadLetter(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	expect(t, "the service got", b.service("secret"), map[string]any{"ext": map[string]any{"oneway": true, "id": "17"}})
}

// An operator cannot tell whether a relay is there without a service on its machine.
func TestRelayAnswersItsOwnCommands(t *testing.T) {
	t.Parallel()
	w := newWire()
	hidden := withRelay(func(o *relay.Options) { o.Expose, o.Version = []string{"nothing"}, "1.2.3" })
	a, b := run(t, w, 1001, hidden), run(t, w, 1002, hidden)
	for _, twin := range []uint32{1001, 1002} {
		a.request(ask("msgbus.ping", "app.1", twin))
		expect(t, "ping", a.pop("app.1"), map[string]any{"dat": "WzEsMl0=", "err": "", "src": twin, "cmd": "msgbus.ping"})
		a.request(ask("msgbus.version", "app.1", twin))
		want := map[uint32]string{1001: "eyJ2ZXJzaW9uIjoiMS4yLjMiLCJ0d2luIjoxMDAxfQ==", 1002: "eyJ2ZXJzaW9uIjoiMS4yLjMiLCJ0d2luIjoxMDAyfQ=="}
		expect(t, "version", a.pop("app.1"), map[string]any{"dat": want[twin], "err": "", "shm": "application/json"})
	}
	a.request(extend(ask("msgbus.ping", "", 1002), map[string]any{"oneway": true}))
	eventually(t, "it is buried", func() bool { return len(a.letters()) == 1 })
	if keys := b.rdb.Keys(t.Context(), "msgbus.msgbus.*").Val(); len(keys) != 0 {
		t.Errorf("there are queues for them: %v", keys)
	}
}

// An app asks a rack, and does not know how many machines are in it.
func TestGroupOfTwinsIsADestination(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b, c := run(t, w, 1001), run(t, w, 1002), run(t, w, 1003)
	a.rdb.SAdd(t.Context(), "msgbus.system.group.rack-7", 1003, 1001, "x", 0)
	a.request(extend(ask("who", "app.1", 1002, 1003), map[string]any{"group": "rack-7", "id": "17"}))
	for _, s := range []*site{a, b, c} {
		s.reply(s.service("who"), nil)
	}
	for range 3 {
		expect(t, "the app got", a.pop("app.1"), map[string]any{"ext": map[string]any{"id": "17", "of": 3}})
	}
	a.request(extend(ask("who", "app.1"), map[string]any{"group": "rack-8"}))
	expect(t, "the app got", a.pop("app.1"), map[string]any{"err": `received invalid message: group "rack-8" has no twins`})
}
