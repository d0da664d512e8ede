package relay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

const epochOf1001 = "0123456789abcdef0123456789abcdef"

// incoming is a request of twin 1001 to twin 1002 as the HTTP side has verified
// it.
func incoming(uid, cmd string) *msgbus.Message {
	return &msgbus.Message{
		Version: 1, UID: uid, Command: cmd, Expiration: 60, Data: "WzEsMl0=", Source: 1001, Destinations: []uint32{1002},
		ReturnQueue: msgbus.WireReplyQueue, Now: time.Now().Unix(), Signature: fmt.Sprintf("65%0128x", uid), Epoch: epochOf1001,
	}
}

// accepting takes every message, so that a test can look at it.
func accepting(_ context.Context, messages []msgbus.Outgoing) []error {
	return make([]error, len(messages))
}

// reasonOf is the reason of a refusal, and "" for anything else.
func reasonOf(err error) msgbus.Reason {
	var refusal *msgbus.Refusal
	if errors.As(err, &refusal) {
		return refusal.Reason
	}
	return ""
}

// A remote request that cannot be served is answered, not passed over in
// silence, once however often it is sent: its app would otherwise wait for its
// deadline, or take a second answer for another request's.
func TestRequestThatCannotBeServedIsAnsweredWithAnErrorOnce(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1001, accepting)
	b := run(t, w, 1002, withRelay(func(o *relay.Options) {
		o.Expose, o.MaxLife = []string{"open.*", "system*"}, time.Hour
	}))
	b.rdb.HSet(t.Context(), "msgbus.open.hash", "not", "a list")
	for i, c := range []struct {
		name   string
		change func(*msgbus.Message)
		told   string
		reason string
	}{
		{"not exposed", func(m *msgbus.Message) { m.Command = "secret.x" }, `command "secret.x" cannot be called from remote`, "not_exposed"},
		{"lives too long", func(m *msgbus.Message) { m.Expiration = 3601 }, "exp 3601 is too long: at most 3600 seconds are allowed here", "exp_too_long"},
		{"another version", func(m *msgbus.Message) { m.Version = 2 }, "received invalid message: protocol version mismatch", "bad_version"},
		{"expired", func(m *msgbus.Message) { m.Expiration = time.Now().Unix() - 1 }, "request timeout (expiration reached, ", "expired"},
		{"reserved", func(m *msgbus.Message) { m.Command = "system.local" }, `received invalid message: command "system.local" is reserved`, "reserved_name"},
		{"a command whose queue is no list", func(m *msgbus.Message) { m.Command = "open.hash" }, `command "open.hash" cannot be served: its queue is no list`, "wrong_type"},
		{"no command", func(m *msgbus.Message) { m.Command = "" }, "received invalid message: missing command request", "missing_command"},
	} {
		uid := fmt.Sprintf("1002.%d", i+1)
		m := incoming(uid, "open.x")
		c.change(m)
		for range 3 {
			if err := b.relay.AcceptRequest(t.Context(), m.Clone()); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		sent := w.awaitSendings(t, 1001, i+1)
		answer := parse(t, sent[i].message)
		expect(t, c.name, answer, map[string]any{"ver": 1, "uid": uid, "src": 1002, "dst": []int{1001}, "dat": "", "ret": "msgbus.system.reply", "pxy": false, "epoch": epochOf1001})
		if !has(answer["err"], c.told) {
			t.Errorf("%s: the source is told %q, want %q", c.name, answer["err"], c.told)
		}
		lines := b.log.find("answered a request with an error")
		if len(lines) != i+1 || lines[i]["reason"] != c.reason {
			t.Errorf("%s: logged %v, want one more with reason %s", c.name, lines, c.reason)
		}
	}
	// A last exchange shows that nothing else was under way.
	if err := b.relay.AcceptRequest(t.Context(), incoming("1002.100", "open.x")); err != nil {
		t.Fatal(err)
	}
	b.reply(b.service("open.x"), nil)
	if sent := w.awaitSendings(t, 1001, 8); len(sent) != 8 {
		t.Errorf("%d messages went to the source, want 7 errors and a reply", len(sent))
	}
}

// A repeat of what has been accepted gets the same answer and is not handled
// again. One whose queue is full is neither taken nor failed: its relay keeps it,
// and may bring it again.
func TestRequestIsHandledOnceAndStaysAwayWhileItsQueueIsFull(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1001, accepting)
	b := run(t, w, 1002, withStorage(func(o *backlog.Options) { o.MaxQueue = 2 }))
	accept := func(uid string) {
		t.Helper()
		if err := b.relay.AcceptRequest(t.Context(), incoming(uid, "x")); err != nil {
			t.Fatalf("%s: %v", uid, err)
		}
	}
	accept("1002.1")
	accept("1002.1")
	if n := b.length("msgbus.x"); n != 1 {
		t.Fatalf("the service would get the request %d times", n)
	}
	resent := incoming("1002.1", "x") // later, and signed anew
	resent.Signature = "65" + strings.Repeat("11", 64)
	if err := b.relay.AcceptRequest(t.Context(), resent); err != nil {
		t.Fatal(err)
	}
	if n := b.length("msgbus.x"); n != 1 {
		t.Fatalf("the service would get the request %d times", n)
	}
	for range 2 {
		err := b.relay.AcceptRequest(t.Context(), incoming("1002.2", "x"))
		if reasonOf(err) != msgbus.QueueFull || err.Error() != `queue of command "x" is full` {
			t.Errorf("got %v, want a refusal as queue_full", err)
		}
	}
	accept("1002.1")
	if n := b.length("msgbus.x"); n != 1 {
		t.Errorf("%d messages are in a queue of which one twin has half of 2", n)
	}
	b.service("x")
	accept("1002.2")
	expect(t, "the service got", b.service("x"), map[string]any{"uid": "1002.2"})
	if n := len(w.sendings(1001)); n != 0 {
		t.Errorf("the source is told %d errors", n)
	}
}

// What cannot be told from a repeat must be refused in a way that the sender
// sees, never dropped.
func TestRequestBelowTheWindowIsRefused(t *testing.T) {
	t.Parallel()
	b := run(t, newWire(), 1002)
	if err := b.relay.AcceptRequest(t.Context(), incoming("1002.100000", "x")); err != nil {
		t.Fatal(err)
	}
	if err := b.relay.AcceptRequest(t.Context(), incoming("1002.5", "x")); reasonOf(err) != msgbus.BelowWindow {
		t.Errorf("got %v, want a refusal as below_window", err)
	}
	if err := b.relay.AcceptRequest(t.Context(), incoming("1002.x", "x")); reasonOf(err) != msgbus.Malformed {
		t.Errorf("a uid without a number is %v, want a refusal as malformed", err)
	}
}

// Only the twin that was asked answers, once. What comes later, from an earlier
// history of Redis, or for nothing at all, is dropped without an error: the peer
// has done its part.
func TestReplyIsTakenOnceAndOnlyFromTheTwinThatWasAsked(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, accepting)
	a := run(t, w, 1001)
	a.request(ask("x", "app.1", 1002))
	uid := w.awaitSendings(t, 1002, 1)[0].uid
	reply := func(source uint32, uid, epoch string) error {
		return a.relay.AcceptReply(t.Context(), &msgbus.Message{Version: 1, UID: uid, Source: source, Destinations: []uint32{1001}, Data: "Mw==", Epoch: epoch})
	}
	if err := reply(1003, uid, ""); reasonOf(err) != msgbus.WrongSource {
		t.Errorf("another twin's reply is %v, want a refusal as wrong_source", err)
	}
	for _, late := range []struct{ name, uid, epoch string }{
		{"an unknown uid", "1002.77", ""}, {"another epoch", uid, epochOf1001},
	} {
		if err := reply(1002, late.uid, late.epoch); err != nil {
			t.Errorf("%s: %v, want it dropped", late.name, err)
		}
	}
	if n := a.length("app.1"); n != 0 {
		t.Fatalf("%d forged or late replies reached the app", n)
	}
	for range 2 {
		if err := reply(1002, uid, ""); err != nil {
			t.Error(err)
		}
	}
	expect(t, "the app got", a.pop("app.1"), map[string]any{"dat": "Mw==", "uid": uid})
	if n := a.length("app.1"); n != 0 {
		t.Error("the app got a second reply")
	}
	if lines := a.log.find("dropped a reply"); len(lines) != 3 {
		t.Errorf("%d replies are logged as dropped, want 3", len(lines))
	}
}

// Requests that were pushed, or left by the archived daemon, are served like
// those from HTTP; whatever their ret says, it names nothing here.
func TestRequestsInTheRemoteQueueAreServed(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1001, accepting)
	b := run(t, w, 1002, withRelay(func(o *relay.Options) { o.Expose = []string{"open.*"} }))
	pushed := func(changes map[string]any) map[string]any {
		return with(with(ask("open.x", "stranger", 1002), map[string]any{"src": 1001, "uid": "1002.9"}), changes)
	}
	// An epoch that no relay makes stopped the queue for good.
	b.push("msgbus.system.remote", pushed(map[string]any{"epoch": "not hexadecimal"}))
	b.reply(b.service("open.x"), nil)
	w.awaitSendings(t, 1001, 1)

	b.push("msgbus.system.remote", pushed(map[string]any{"cmd": "secret", "uid": "1002.10"}))
	answer := parse(t, w.awaitSendings(t, 1001, 2)[1].message)
	expect(t, "the error reply", answer, map[string]any{"uid": "1002.10", "err": `command "secret" cannot be called from remote`})

	for i, c := range []struct {
		name    string
		message any
		reason  string
	}{
		{"no source", pushed(map[string]any{"src": 0}), "wrong_source"},
		{"no uid", pushed(map[string]any{"uid": ""}), "malformed"},
		{"no uid, for a queue that is none of `/zbus-cmd`", pushed(map[string]any{"uid": "", "pxy": true}), "malformed"},
		{"a command too long for a key", pushed(map[string]any{"cmd": strings.Repeat("x", 300)}), "bad_command"},
		{"no JSON", "ping", "malformed"},
	} {
		b.push("msgbus.system.remote", c.message)
		eventually(t, c.name+" is a dead letter", func() bool { return len(b.letters()) == i+1 })
		expect(t, c.name, b.letters()[i], map[string]any{"reason": c.reason, "queue": "remote"})
	}
	if n := b.length("stranger"); n != 0 {
		t.Errorf("%d messages went to a queue that a stranger named", n)
	}
	b.push("msgbus.system.remote", `{"src":"?","ret":"app.1"}`)
	expect(t, "what is no message is told to its queue", b.pop("app.1"), map[string]any{"err": "received invalid message: field src has a value of the wrong type or out of range"})
}

// A full queue of one service must not stop the requests for others behind it.
func TestFullQueueDoesNotStopTheRemoteQueue(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1001, accepting)
	b := run(t, w, 1002, withStorage(func(o *backlog.Options) { o.MaxQueue = 1 }))
	for i, cmd := range []string{"full", "full", "other"} {
		b.push("msgbus.system.remote", with(ask(cmd, "r", 1002), map[string]any{"src": 1001, "uid": fmt.Sprintf("1002.%d", i+1)}))
	}
	expect(t, "behind it", b.service("other"), map[string]any{"uid": "1002.3"})
	expect(t, "the source is told", parse(t, w.awaitSendings(t, 1001, 1)[0].message), map[string]any{"uid": "1002.2", "err": `queue of command "full" is full`})
}

// What `/zbus-cmd` takes is found under the queue that it answered, the same one
// for a repeat, and a service's own push there is not followed by an error.
func TestCommandIsAnsweredInItsQueue(t *testing.T) {
	t.Parallel()
	b := run(t, newWire(), 1002, withRelay(func(o *relay.Options) { o.Expose = []string{"open.*"} }))
	m := incoming("", "open.x")
	m.Epoch = ""
	queue, err := b.relay.AcceptCommand(t.Context(), m.Clone())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.relay.AcceptCommand(t.Context(), m.Clone()); err != nil || again != queue {
		t.Errorf("a repeat gets %q, %v; want %q", again, err, queue)
	}
	req := b.service("open.x")
	expect(t, "the service got", req, map[string]any{"ret": queue, "uid": queue, "pxy": true, "src": 1001})
	b.reply(req, map[string]any{"dat": "Mw=="})
	expect(t, "the result", b.pop(queue), map[string]any{"dat": "Mw==", "src": 1002, "err": ""})
	if n := b.length("msgbus.open.x"); n != 0 {
		t.Error("the repeat was handled again")
	}

	for _, c := range []struct {
		change func(*msgbus.Message)
		want   msgbus.Reason
	}{
		{func(m *msgbus.Message) { m.Command = "secret" }, msgbus.NotExposed},
		{func(m *msgbus.Message) { m.Command = "system.reply" }, msgbus.ReservedName},
		{func(m *msgbus.Message) { m.Version = 2 }, msgbus.BadVersion},
	} {
		bad := incoming("", "open.x")
		c.change(bad)
		if _, err := b.relay.AcceptCommand(t.Context(), bad); reasonOf(err) != c.want {
			t.Errorf("got %v, want a refusal as %s", err, c.want)
		}
	}
}

// What the archived daemon took from `/zbus-cmd` and left in the remote queue has
// a client that polls for it. Unsigned ones are told apart by their queues.
func TestCommandsInTheRemoteQueueKeepTheirQueues(t *testing.T) {
	t.Parallel()
	b := run(t, newWire(), 1002)
	for range 2 {
		queue := uuid.NewString()
		b.push("msgbus.system.remote", with(ask("x", queue, 1002), map[string]any{"src": 1001, "pxy": true}))
		req := b.service("x")
		b.reply(req, map[string]any{"dat": "Mw=="})
		expect(t, "the result", b.pop(queue), map[string]any{"dat": "Mw==", "ret": queue})
	}
}
