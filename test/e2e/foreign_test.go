package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A foreign is a twin whose relay is of another make: this test.
type foreign struct {
	*fleettest.Person
	requests chan fleettest.Message // what is posted to its /zbus-remote
	replies  chan fleettest.Message // and to its /zbus-reply
	busy     atomic.Int64           // how often it will say 503
}

func newForeign(t testing.TB, f *fleettest.Fleet, id uint32) *foreign {
	t.Helper()
	x := &foreign{requests: make(chan fleettest.Message, 1000), replies: make(chan fleettest.Message, 1000)}
	address := fleettest.Peer(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if x.busy.Add(-1) >= 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		m, err := fleettest.ParseMessage(string(body))
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
	x.Person = f.Stranger(id, address)
	return x
}

// next waits for a message from a site, and wants it signed and as the wire
// wants it.
func (x *foreign) next(from *fleettest.Site, c <-chan fleettest.Message) fleettest.Message {
	x.T.Helper()
	over := time.NewTimer(fleettest.Patience)
	defer over.Stop()
	select {
	case m := <-c:
		if err := from.Signed(m); err != nil {
			x.T.Errorf("the message %s: %v", m, err)
		}
		if m.Text("src") != fmt.Sprint(from.ID) || fmt.Sprint(m["dst"]) != fmt.Sprintf("[%d]", x.ID) ||
			m.Text("ret") != "msgbus.system.reply" || m.Text("pxy") != "false" || m.Text("ver") != "1" {
			x.T.Errorf("the message is %s", m)
		}
		if _, there := m["msgbusd"]; there {
			x.T.Errorf("the message holds what the relay notes for itself: %s", m)
		}
		return m
	case <-over.C:
		x.T.Fatal("nothing comes to the foreign relay")
		return nil
	}
}

func (x *foreign) request(from *fleettest.Site) fleettest.Message {
	x.T.Helper()
	return x.next(from, x.requests)
}
func (x *foreign) reply(from *fleettest.Site) fleettest.Message {
	x.T.Helper()
	return x.next(from, x.replies)
}

// answer is what a service behind the foreign relay makes of a request.
func (x *foreign) answer(m fleettest.Message, data string) fleettest.Message {
	return m.Without("epoch").With("ret", "msgbus.system.reply").With("src", x.ID).With("dst", []any{m["src"]}).With("dat", fleettest.Encode(data)).With("now", time.Now().Unix())
}

// A relay of another make is asked: it gets what it can verify and decode, and
// its answer comes to the app once, however often it posts it.
func TestForeignRelayIsAskedAndAnswers(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	a.Start()
	a.Echo()
	x := newForeign(t, f, 1003)
	m := fleettest.Request("echo", "x", x.ID).With("exp", 60)
	a.Push(m)
	got := x.request(a)
	if got.Text("uid") != "1003.1" || got.Text("cmd") != "echo" || got.Data() != "x" || got.Text("err") != "" {
		t.Errorf("the foreign relay gets %s", got)
	}

	answer := x.answer(got, "from afar")
	wantRefused(a, "/zbus-reply", x.Sign(answer).With("dat", fleettest.Encode("forged")), "bad_signature")
	deliver(a, "/zbus-reply", x.Sign(answer))
	deliver(a, "/zbus-reply", x.Sign(answer))
	deliver(a, "/zbus-reply", x.Sign(answer.With("dat", fleettest.Encode("a second thought"))))
	wantClassicReply(t, a.Pop(m.Text("ret")), m, x.ID, "from afar", "")
	a.WantAnswer(a.ID)
	if n := a.Length(m.Text("ret")); n != 0 {
		t.Errorf("there are %d more replies", n)
	}
}

// A peer that is busy says when to come back. That is no failed try.
func TestBusyPeerCostsNoTries(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	a.Start()
	x := newForeign(t, f, 1003)
	x.busy.Store(3)
	m := fleettest.Request("echo", "x", x.ID).With("try", 0)
	a.Push(m)
	deliver(a, "/zbus-reply", x.Sign(x.answer(x.request(a), "at last")))
	if reply := a.Pop(m.Text("ret")); reply.Data() != "at last" || reply.Text("err") != "" {
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
	f := fleettest.New(t)
	a := f.Site(1001)
	x := newForeign(t, f, 1003)
	a.Echo()
	ctx := t.Context()
	waiting := fleettest.Request("echo", "asked before", x.ID).With("uid", "1003.7").With("src", a.ID).With("ret", "app-waits")
	a.RDB.HSet(ctx, "msgbus.system.backlog", "1003.7", waiting.String())
	a.RDB.Set(ctx, "msgbus.counter.1003", 7, 0)
	a.RDB.HSet(ctx, "msgbus.system.retry", "", fleettest.Request("echo", "tried before", x.ID).With("ret", "other-app-waits").String())
	a.PushRaw("local", fleettest.Request("echo", "waits in the queue", a.ID).With("ret", "third-app-waits").String())
	a.Start()

	a.Daemon.WantSaid("took over what the archived daemon left")
	deliver(a, "/zbus-reply", x.Sign(x.answer(waiting, "answered now")))
	if reply := a.Pop("app-waits"); reply.Data() != "answered now" || reply.Text("ret") != "app-waits" {
		t.Errorf("the reply is %s", reply)
	}
	again := x.request(a)
	if again.Data() != "tried before" || again.Text("uid") != "1003.8" {
		t.Errorf("the retry is %s", again)
	}
	deliver(a, "/zbus-reply", x.Sign(x.answer(again, "answered too")))
	if reply := a.Pop("other-app-waits"); reply.Data() != "answered too" {
		t.Errorf("the reply is %s", reply)
	}
	if reply := a.Pop("third-app-waits"); reply.Data() != "waits in the queue" {
		t.Errorf("the reply is %s", reply)
	}
	a.WantNoDead()
}

// A relay of another make sends requests as the specification says, and is
// served like one of ours.
func TestForeignRelayIsServed(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	b := f.Site(1002)
	b.Start()
	x := newForeign(t, f, 1003)
	asked := b.Echo()

	m := x.Sign(x.Wire("echo", "from afar", b.ID, 1))
	deliver(b, "/zbus-remote", m)
	got := asked.Next(t)
	if got.Text("ret") != "msgbus.system.reply" || got.Text("pxy") != "false" || got.Text("uid") != "1002.1" || got.Text("src") != "1003" {
		t.Errorf("the service gets %s", got)
	}
	if reply := x.reply(b); reply.Data() != "from afar" || reply.Text("uid") != "1002.1" || reply.Text("err") != "" {
		t.Errorf("the reply is %s", reply)
	}
	// A repeat of what was accepted gets the same 200, and goes no further.
	deliver(b, "/zbus-remote", m)
	// Two minutes ago and in two minutes is not now.
	wantRefused(b, "/zbus-remote", x.Sign(m.With("now", time.Now().Unix()-61)), "clock_skew")
	wantRefused(b, "/zbus-remote", x.Sign(m.With("now", time.Now().Unix()+90)), "clock_skew")
	deliver(b, "/zbus-remote", x.Sign(x.Wire("echo", "past", b.ID, 2).With("now", time.Now().Unix()-50)))
	deliver(b, "/zbus-remote", x.Sign(x.Wire("echo", "future", b.ID, 3).With("now", time.Now().Unix()+50)))
	x.reply(b)
	x.reply(b)
	b.AwaitQuiet()
	for data, n := range asked.Times() {
		if n != 1 {
			t.Errorf("the service is asked %d times for %q", n, data)
		}
	}
	if len(asked.Times()) != 3 || len(x.replies) != 0 {
		t.Errorf("the service was asked for %v, %d replies are left", asked.Times(), len(x.replies))
	}
}

// A request that cannot be served is answered by an error, not by silence.
func TestForeignRelayIsToldWhyARequestIsNotServed(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	b := f.Site(1002)
	b.Start("--expose", "echo", "--expose", "system*", "--max-exp", "1h")
	x := newForeign(t, f, 1003)
	b.Echo()
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
		deliver(b, "/zbus-remote", x.Sign(x.Wire("echo", "x", b.ID, n).With(c.key, c.v)))
		reply := x.reply(b)
		if reply.Text("uid") != fmt.Sprintf("1002.%d", n) || !strings.Contains(reply.Text("err"), c.want) {
			t.Errorf("%s %v: the reply is %s, want %q", c.key, c.v, reply, c.want)
		}
	}
	n++
	deliver(b, "/zbus-remote", x.Sign(x.Wire("echo", "x", b.ID, n)))
	if reply := x.reply(b); reply.Text("err") != "" {
		t.Errorf("the reply is %s", reply)
	}
}
