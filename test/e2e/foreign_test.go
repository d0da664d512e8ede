package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A foreign is a twin whose relay is of another make: this test.
type foreign struct {
	*person
	requests chan message // what is posted to its /zbus-remote
	replies  chan message // and to its /zbus-reply
	busy     atomic.Int64 // how often it will say 503
}

func newForeign(t testing.TB, f *fleet, id uint32) *foreign {
	t.Helper()
	x := &foreign{requests: make(chan message, 1000), replies: make(chan message, 1000)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if x.busy.Add(-1) >= 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		m, err := parseMessage(string(body))
		switch {
		case err == nil && req.URL.Path == "/zbus-remote":
			x.requests <- m
		case err == nil && req.URL.Path == "/zbus-reply":
			x.replies <- m
		default:
			t.Errorf("the foreign relay gets %s %q", req.URL.Path, body)
		}
		_, _ = io.WriteString(w, `{"status": "accepted"}`)
	}))
	t.Cleanup(server.Close)
	x.person = f.stranger(id, server.Listener.Addr().String())
	return x
}

// next waits for a message from a site, and wants it signed and as the wire
// wants it.
func (x *foreign) next(from *site, c <-chan message) message {
	x.t.Helper()
	over := time.NewTimer(patience)
	defer over.Stop()
	select {
	case m := <-c:
		if err := from.signed(m); err != nil {
			x.t.Errorf("the message %s: %v", m, err)
		}
		if m.text("src") != fmt.Sprint(from.id) || fmt.Sprint(m["dst"]) != fmt.Sprintf("[%d]", x.id) ||
			m.text("ret") != "msgbus.system.reply" || m.text("pxy") != "false" || m.text("ver") != "1" {
			x.t.Errorf("the message is %s", m)
		}
		if _, there := m["msgbusd"]; there {
			x.t.Errorf("the message holds what the relay notes for itself: %s", m)
		}
		return m
	case <-over.C:
		x.t.Fatal("nothing comes to the foreign relay")
		return nil
	}
}

func (x *foreign) request(from *site) message { x.t.Helper(); return x.next(from, x.requests) }
func (x *foreign) reply(from *site) message   { x.t.Helper(); return x.next(from, x.replies) }

// answer is what a service behind the foreign relay makes of a request.
func (x *foreign) answer(m message, data string) message {
	return m.without("epoch").with("ret", "msgbus.system.reply").with("src", x.id).with("dst", []any{m["src"]}).with("dat", encode(data)).with("now", time.Now().Unix())
}

// A relay of another make is asked: it gets what it can verify and decode, and
// its answer comes to the app once, however often it posts it.
func TestForeignRelayIsAskedAndAnswers(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	a.start()
	a.echo()
	x := newForeign(t, f, 1003)
	m := request("echo", "x", x.id).with("exp", 60)
	a.push(m)
	got := x.request(a)
	if got.text("uid") != "1003.1" || got.text("cmd") != "echo" || got.data() != "x" || got.text("err") != "" {
		t.Errorf("the foreign relay gets %s", got)
	}

	answer := x.answer(got, "from afar")
	a.wantRefused("/zbus-reply", x.sign(answer).with("dat", encode("forged")), "bad_signature")
	a.deliver("/zbus-reply", x.sign(answer))
	a.deliver("/zbus-reply", x.sign(answer))
	a.deliver("/zbus-reply", x.sign(answer.with("dat", encode("a second thought"))))
	wantClassicReply(t, a.pop(m.text("ret")), m, x.id, "from afar", "")
	a.wantAnswer(a.id)
	if n := a.length(m.text("ret")); n != 0 {
		t.Errorf("there are %d more replies", n)
	}
}

// A peer that is busy says when to come back. That is no failed try.
func TestBusyPeerCostsNoTries(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	a.start()
	x := newForeign(t, f, 1003)
	x.busy.Store(3)
	m := request("echo", "x", x.id).with("try", 0)
	a.push(m)
	a.deliver("/zbus-reply", x.sign(x.answer(x.request(a), "at last")))
	if reply := a.pop(m.text("ret")); reply.data() != "at last" || reply.text("err") != "" {
		t.Errorf("the reply is %s", reply)
	}
	if n := x.busy.Load(); n != -1 {
		t.Errorf("the peer was asked %d times", 3-n)
	}
}

// The archived daemon is replaced in place: what it left in Redis must be
// answered, not forgotten.
func TestWhatTheArchivedDaemonLeftIsTakenOver(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	x := newForeign(t, f, 1003)
	a.echo()
	ctx := t.Context()
	waiting := request("echo", "asked before", x.id).with("uid", "1003.7").with("src", a.id).with("ret", "app-waits")
	a.rdb.HSet(ctx, "msgbus.system.backlog", "1003.7", waiting.String())
	a.rdb.Set(ctx, "msgbus.counter.1003", 7, 0)
	a.rdb.HSet(ctx, "msgbus.system.retry", "", request("echo", "tried before", x.id).with("ret", "other-app-waits").String())
	a.pushRaw("local", request("echo", "waits in the queue", a.id).with("ret", "third-app-waits").String())
	a.start()

	a.daemon.wantSaid("took over what the archived daemon left")
	a.deliver("/zbus-reply", x.sign(x.answer(waiting, "answered now")))
	if reply := a.pop("app-waits"); reply.data() != "answered now" || reply.text("ret") != "app-waits" {
		t.Errorf("the reply is %s", reply)
	}
	again := x.request(a)
	if again.data() != "tried before" || again.text("uid") != "1003.8" {
		t.Errorf("the retry is %s", again)
	}
	a.deliver("/zbus-reply", x.sign(x.answer(again, "answered too")))
	if reply := a.pop("other-app-waits"); reply.data() != "answered too" {
		t.Errorf("the reply is %s", reply)
	}
	if reply := a.pop("third-app-waits"); reply.data() != "waits in the queue" {
		t.Errorf("the reply is %s", reply)
	}
	a.wantNoDead()
}

// A relay of another make sends requests as the specification says, and is
// served like one of ours.
func TestForeignRelayIsServed(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	b := f.site(1002)
	b.start()
	x := newForeign(t, f, 1003)
	asked := b.echo()

	m := x.sign(x.wire("echo", "from afar", b.id, 1))
	b.deliver("/zbus-remote", m)
	got := asked.next(t)
	if got.text("ret") != "msgbus.system.reply" || got.text("pxy") != "false" || got.text("uid") != "1002.1" || got.text("src") != "1003" {
		t.Errorf("the service gets %s", got)
	}
	if reply := x.reply(b); reply.data() != "from afar" || reply.text("uid") != "1002.1" || reply.text("err") != "" {
		t.Errorf("the reply is %s", reply)
	}
	// A repeat of what was accepted gets the same 200, and goes no further.
	b.deliver("/zbus-remote", m)
	// Two minutes ago and in two minutes is not now.
	b.wantRefused("/zbus-remote", x.sign(m.with("now", time.Now().Unix()-61)), "clock_skew")
	b.wantRefused("/zbus-remote", x.sign(m.with("now", time.Now().Unix()+90)), "clock_skew")
	b.deliver("/zbus-remote", x.sign(x.wire("echo", "past", b.id, 2).with("now", time.Now().Unix()-50)))
	b.deliver("/zbus-remote", x.sign(x.wire("echo", "future", b.id, 3).with("now", time.Now().Unix()+50)))
	x.reply(b)
	x.reply(b)
	b.awaitQuiet()
	for data, n := range asked.times() {
		if n != 1 {
			t.Errorf("the service is asked %d times for %q", n, data)
		}
	}
	if len(asked.times()) != 3 || len(x.replies) != 0 {
		t.Errorf("the service was asked for %v, %d replies are left", asked.times(), len(x.replies))
	}
}

// A request that cannot be served is answered by an error, not by silence.
func TestForeignRelayIsToldWhyARequestIsNotServed(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	b := f.site(1002)
	b.start("--expose", "echo", "--expose", "system*", "--max-exp", "1h")
	x := newForeign(t, f, 1003)
	b.echo()
	n := 0
	for _, c := range []struct {
		key  string
		v    any
		want string
	}{
		{"cmd", "private", `command "private" cannot be called from remote`},
		{"cmd", "system.local", `command "system.local" is reserved`},
		{"ver", 2, "received invalid message: protocol version mismatch"},
		{"exp", 3601, "exp 3601 is too long"},
		{"exp", -5, "request timeout (expiration reached, -5)"},
	} {
		n++
		b.deliver("/zbus-remote", x.sign(x.wire("echo", "x", b.id, n).with(c.key, c.v)))
		reply := x.reply(b)
		if reply.text("uid") != fmt.Sprintf("1002.%d", n) || !strings.Contains(reply.text("err"), c.want) {
			t.Errorf("%s %v: the reply is %s, want %q", c.key, c.v, reply, c.want)
		}
	}
	n++
	b.deliver("/zbus-remote", x.sign(x.wire("echo", "x", b.id, n)))
	if reply := x.reply(b); reply.text("err") != "" {
		t.Errorf("the reply is %s", reply)
	}
}
