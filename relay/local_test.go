package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/relay"
)

// What an app did wrong is said where it can see it, in the texts that published
// clients know, and the relay goes on with the next message. Without a queue
// that may be written, the dead letters keep the message.
func TestEachInvalidRequestIsAnsweredOrBuriedWithItsReason(t *testing.T) {
	t.Parallel()
	w := newWire()
	a := run(t, w, 1001, withRelay(func(o *relay.Options) {
		o.MaxDestinations, o.MaxMessage, o.MaxFanOut = 3, 3000, 7500
	}))
	run(t, w, 1002)
	ok := ask("x", "app.1", 1002)
	change := func(name string, value any) map[string]any { return with(ok, map[string]any{name: value}) }
	const received = "received invalid message: "
	for _, c := range []struct {
		name    string
		message any
		reason  string // in the log and, if buried, in the dead letter
		told    string // in err on app.1; "" when nobody can be told
		buried  bool
	}{
		{"another version", change("ver", 2), "bad_version", received + "protocol version mismatch", false},
		{"no command", change("cmd", ""), "missing_command", received + "missing command request", false},
		{"no destination", change("dst", []int{}), "missing_destination", received + "missing twin destination", false},
		{"no return queue", change("ret", ""), "missing_return_queue", "", true},
		{"a command of the relay's own", change("cmd", "system.local"), "reserved_name", received + `command "system.local" is reserved`, false},
		{"a counter as command", change("cmd", "counter.1002"), "reserved_name", received + `command "counter.1002" is reserved`, false},
		{"a return queue of the relay's own", change("ret", "msgbus.system.backlog"), "reserved_name", "", true},
		{"a counter as return queue", change("ret", "msgbus.counter.1002"), "reserved_name", "", true},
		{"a command that is too long", change("cmd", strings.Repeat("x", 257)), "bad_command", received + "command is longer than 256 bytes", false},
		{"a return queue that is too long", change("ret", strings.Repeat("x", 513)), "reserved_name", "", true},
		{"too many destinations", change("dst", []int{2, 3, 4, 5}), "too_many_destinations", received + "4 destinations, at most 3 are served", false},
		{"too large", change("dat", strings.Repeat("A", 2000)), "too_large", "bytes on the wire, at most 3000 are carried", false},
		{"too large for so many", with(ok, map[string]any{"dat": strings.Repeat("A", 1600), "dst": []int{2, 3, 4}}), "too_many_destinations", "bytes on the wire for 3 destinations, at most 7500 bytes in all", false},
		{"no JSON", "ping", "malformed", "", true},
		{"JSON that is no message", `{"ver":1,"ret":"app.1","dst":"everyone"}`, "malformed", received + "field dst has a value", true},
		{"a key twice", `{"ver":1,"ret":"app.1","cmd":"a","cmd":"b"}`, "malformed", received, true},
		{"JSON cut off", `{"ver":1,"ret":"app.1","cmd":"a`, "malformed", received + "JSON ends too early", true},
		{"JSON that is no message, for a queue of ours", `{"ver":1,"ret":"msgbus.system.local","dst":"everyone"}`, "malformed", "", true},
	} {
		before := len(a.letters())
		a.push("msgbus.system.local", c.message)
		if c.told != "" {
			m := a.pop("app.1")
			if !has(m["err"], c.told) {
				t.Errorf("%s: the app is told %q, want %q", c.name, m["err"], c.told)
			}
			expect(t, c.name, m, map[string]any{"src": 1001, "dst": []int{1001}})
		}
		// The next message is served, whatever became of this one.
		a.push("msgbus.system.local", change("ret", "app.2"))
		eventually(t, "the message after it is admitted", func() bool { return len(a.waiting()) > 0 && a.length("msgbus.system.local") == 0 })
		for _, uid := range a.waiting() {
			a.rdb.HDel(t.Context(), "msgbus.system.backlog", uid)
		}

		letters := a.letters()[before:]
		if c.buried != (len(letters) == 1) || len(letters) > 1 {
			t.Errorf("%s: dead letters: %v, want one: %v", c.name, letters, c.buried)
		} else if c.buried {
			expect(t, c.name+": the dead letter", letters[0], map[string]any{"reason": c.reason, "queue": "local"})
		}
		lines := a.log.find("refused a message")
		if len(lines) == 0 || lines[len(lines)-1]["reason"] != c.reason {
			t.Errorf("%s: logged %v, want reason %s", c.name, lines, c.reason)
		}
	}
}

// A return queue that holds another type cannot be written: the message is kept
// where an operator finds it, and the queue goes on.
func TestReturnQueueOfAnotherTypeSendsTheReplyToTheDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	a.rdb.Set(t.Context(), "app.1", "not a list", 0)
	a.request(ask("x", "app.1", 1002))
	b.reply(b.service("x"), map[string]any{"dat": "Mw=="})
	eventually(t, "the reply is a dead letter", func() bool { return len(a.letters()) == 1 })
	expect(t, "the dead letter", a.letters()[0], map[string]any{"reason": "wrong_type", "queue": "reply"})
	if left := a.waiting(); len(left) != 0 {
		t.Errorf("%v is still in the backlog: it would get a second reply", left)
	}
	a.request(with(ask("x", "app.1", 1002), map[string]any{"ver": 7})) // an error for the same queue
	eventually(t, "the invalid message is a dead letter", func() bool { return len(a.letters()) == 2 })
	a.request(ask("x", "app.2", 1002))
	b.reply(b.service("x"), nil)
	a.pop("app.2")
}

// The specification's own example has a `now` of 2021. It is answered, not
// expired.
func TestRequestWithAnOldNowLives(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	a.request(with(ask("x", "app.1", 1002), map[string]any{"now": 1621944461, "exp": 3600, "dat": "R0E3...2WUwzTzdOQzNQUlkN="}))
	req := b.service("x")
	if exp, _ := req["exp"].(float64); exp < 3590 || exp > 3600 {
		t.Errorf("the service is told exp %v, want the hour that was asked for", req["exp"])
	}
	b.reply(req, map[string]any{"dat": "Mw=="})
	expect(t, "the app got", a.pop("app.1"), map[string]any{"err": "", "dat": "Mw=="})
}

// What an app writes into the fields that are the relay's has no effect: `pxy`
// would make the reply go astray, `err` would come back as the service's.
func TestFieldsOfTheRelayAreNotTheAppsToSet(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	a.request(with(ask("x", "app.1", 1002), map[string]any{
		"pxy": true, "err": "mine", "sig": "00", "src": 77, "uid": "77.1", "epoch": "abc", "msgbusd": map[string]any{"epoch": "abc"},
	}))
	req := b.service("x")
	expect(t, "the service got", req, map[string]any{"pxy": false, "err": "", "sig": nil, "src": 1001, "uid": "1002.1", "msgbusd": nil})
	if req["epoch"] == "abc" {
		t.Error("the epoch is the app's")
	}
	b.reply(req, map[string]any{"msgbusd": 1})
	expect(t, "the app got", a.pop("app.1"), map[string]any{"uid": "1002.1", "err": "", "msgbusd": nil})
}

// First in, first out: a small batch that is taken while a large one is still
// being read must not overtake it.
func TestRequestsLeaveInTheOrderInWhichTheyWerePushed(t *testing.T) {
	t.Parallel()
	w := newWire()
	letGo := make(chan struct{})
	w.to(1002, hang(1002, letGo))
	a := newSite(t, w, 1001)
	const n = 1500
	large := strings.Repeat("A", 8000)
	for at := 0; at < n; at += 100 {
		var batch []any
		for i := at; i < at+100; i++ {
			dat := "AAAA"
			if i%512 < 256 {
				dat = large
			}
			batch = append(batch, fmt.Sprintf(`{"ver":1,"uid":"","cmd":"x","exp":60,"dat":%q,"dst":[1002],"ret":"app.1","shm":"%d"}`, dat, i))
		}
		if err := a.rdb.RPush(t.Context(), "msgbus.system.local", batch...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	a.start()
	eventually(t, "all requests are admitted", func() bool {
		return a.rdb.HLen(t.Context(), "msgbus.system.backlog").Val() == n
	})
	var order []string
	for i := range n {
		entry := parse(t, a.rdb.HGet(t.Context(), "msgbus.system.backlog", fmt.Sprintf("1002.%d", i+1)).Val())
		order = append(order, fmt.Sprint(entry["shm"]))
	}
	for i := range n {
		if order[i] != fmt.Sprint(i) {
			t.Fatalf("request %d has uid 1002.%d: it was overtaken", slices.Index(order, fmt.Sprint(i)), slices.Index(order, fmt.Sprint(i))+1)
		}
	}
	close(letGo)
}
