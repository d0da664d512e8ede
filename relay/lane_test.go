package relay_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// attempts counts the batches that a way was given, and how large each was.
type attempts struct {
	mu    sync.Mutex
	sizes []int // guarded by mu
}

func (a *attempts) of(by way) way {
	return func(ctx context.Context, messages []msgbus.Outgoing) []error {
		a.mu.Lock()
		a.sizes = append(a.sizes, len(messages))
		a.mu.Unlock()
		return by(ctx, messages)
	}
}

func (a *attempts) list() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.sizes)
}

func (a *attempts) await(t *testing.T, n int) []int {
	t.Helper()
	eventually(t, fmt.Sprintf("there were %d attempts", n), func() bool { return len(a.list()) >= n })
	return a.list()
}

// A dead twin for which thousands wait must cost one connection a rest, not one
// a message.
func TestDeadPeerIsProbedOnceARestHoweverManyWait(t *testing.T) {
	t.Parallel()
	w := newWire()
	var tried attempts
	w.to(1002, tried.of(dead(1002)))
	a := run(t, w, 1001)
	const n = 100
	for i := range n {
		a.request(with(ask("x", "app.1", 1002), map[string]any{"try": 50}))
		if i%10 == 0 { // let them be admitted, and the lane be woken, many times
			eventually(t, "they are admitted", func() bool { return len(a.waiting()) == i+1 })
		}
	}
	eventually(t, "all are admitted", func() bool { return len(a.waiting()) == n })
	if got := tried.list(); len(got) > 5 {
		t.Errorf("%d attempts for a twin that rests", len(got))
	}
	for i, size := range tried.await(t, 3) {
		if i > 0 && size != 1 {
			t.Errorf("attempt %d was of %d messages, want a probe of one", i+1, size)
		}
	}
	lines := a.log.await(t, "twin cannot be joined; its messages wait", 1)
	expect(t, "the log", lines[0], map[string]any{"twin": 1002, "reason": "unreachable"})

	b := run(t, w, 1002)
	w.to(1002, nil)
	for i := range n {
		expect(t, "in order", b.service("x"), map[string]any{"uid": fmt.Sprintf("1002.%d", i+1)})
	}
	a.log.await(t, "twin can be joined again", 1)
}

// An app that asks for two tries more is told after the third failure, and which
// twin it was.
func TestRequestEndsWhenItsTriesAreUsedUp(t *testing.T) {
	t.Parallel()
	w := newWire()
	var tried attempts
	w.to(1002, tried.of(dead(1002)))
	a := run(t, w, 1001)
	a.request(with(ask("x", "app.1", 1002), map[string]any{"try": 2}))
	expect(t, "the app got", a.pop("app.1"), map[string]any{
		"err": "all retries done: twin 1002 cannot be reached: connection refused", "src": 1002, "dst": []int{1001}, "uid": "1002.1", "ret": "app.1", "dat": "WzEsMl0=",
	})
	if n := len(tried.list()); n != 3 {
		t.Errorf("it was tried %d times, want 3", n)
	}
	if left := a.waiting(); len(left) != 0 {
		t.Errorf("%v is still in the backlog", left)
	}
	lines := a.log.await(t, "request ended", 1)
	expect(t, "the log", lines[0], map[string]any{"msg_id": "1002.1", "twin": 1002, "reason": "retries_exhausted", "outcome": "failed"})
	if lines[0]["took"] == nil {
		t.Error("the log does not say how long it took")
	}
}

// One message that the peer will never take must not hold up those around it.
func TestRefusedMessageEndsAtOnceAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := newSite(t, w, 1001), run(t, w, 1002)
	w.to(1002, func(ctx context.Context, messages []msgbus.Outgoing) []error {
		errs := w.deliver(ctx, 1002, messages)
		for i, o := range messages {
			if o.Message.UID == "1002.2" {
				errs[i] = refused(1002, "status 400: no")
			}
		}
		return errs
	})
	for i := range 3 {
		a.request(with(ask(fmt.Sprintf("cmd%d", i+1), "app.1", 1002), map[string]any{"try": 9}))
	}
	a.start()
	expect(t, "the app got", a.pop("app.1"), map[string]any{"uid": "1002.2", "err": "twin 1002 refused the message: status 400: no", "src": 1002})
	for _, cmd := range []string{"cmd1", "cmd3"} {
		b.reply(b.service(cmd), nil)
		a.pop("app.1")
	}
	sent := 0
	for _, s := range w.sendings(1002) {
		if s.uid == "1002.2" {
			sent++
		}
	}
	if sent != 1 {
		t.Errorf("the refused message was sent %d times", sent)
	}
}

// A peer that asks to come back later has not failed the message.
func TestBusyPeerCostsNoTry(t *testing.T) {
	t.Parallel()
	w := newWire()
	var tried attempts
	w.to(1002, tried.of(func(_ context.Context, messages []msgbus.Outgoing) []error {
		return all(messages, busy(1002, 10*time.Millisecond))
	}))
	a := run(t, w, 1001)
	a.request(with(ask("x", "app.1", 1002), map[string]any{"try": 0}))
	tried.await(t, 4)
	if n := a.length("app.1"); n != 0 || len(a.waiting()) != 1 {
		t.Fatal("a request with no try to lose was ended by a busy peer")
	}
	w.to(1002, dead(1002))
	expect(t, "the app got", a.pop("app.1"), map[string]any{"err": "all retries done: twin 1002 cannot be reached: connection refused"})
}

// A twin that sends us something is there: what waits for it need not rest on.
func TestMessageFromATwinEndsTheRestOfItsLane(t *testing.T) {
	t.Parallel()
	w := newWire()
	var tried attempts
	w.to(1002, tried.of(dead(1002)))
	a := run(t, w, 1001)
	a.request(with(ask("x", "app.1", 1002), map[string]any{"try": 50}))
	tried.await(t, 1)
	farOff := float64(time.Now().Add(time.Hour).UnixMilli())
	rest := func() {
		eventually(t, "the lane rests", func() bool {
			return !a.rdb.HExists(t.Context(), "msgbus.system.lane.1002", "owner").Val()
		})
		a.rdb.Do(t.Context(), "ZADD", "msgbus.system.lanes", farOff, "1002")
	}
	rest()
	n := len(tried.list())
	fromTwin := func() error {
		return a.relay.AcceptReply(t.Context(), &msgbus.Message{Version: 1, UID: "1002.99", Source: 1002, Destinations: []uint32{1001}})
	}
	if err := fromTwin(); err != nil {
		t.Fatal(err)
	}
	tried.await(t, n+1)
	// And requests tell the same, a while later.
	rest()
	n = len(tried.list())
	eventually(t, "a request from the twin ends the rest", func() bool {
		m := incoming("1001.1", "x")
		m.Source, m.Destinations = 1002, []uint32{1001}
		if err := a.relay.AcceptRequest(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		return len(tried.list()) > n
	})
}

// A peer that accepts connections and never answers takes one lane, not the relay.
func TestHangingPeerDoesNotDelayOthers(t *testing.T) {
	t.Parallel()
	w := newWire()
	letGo := make(chan struct{})
	defer close(letGo)
	w.to(1003, hang(1003, letGo))
	a, b := run(t, w, 1001), run(t, w, 1002)
	for range 20 {
		a.request(ask("x", "app.3", 1003))
	}
	w.awaitSendings(t, 1003, 1)
	for range 20 {
		a.request(ask("x", "app.2", 1002))
		b.reply(b.service("x"), nil)
		a.pop("app.2")
	}
}

// However many have used up their tries, one failure ends them all.
func TestFailureEndsAllWhoseTriesAreUsedUp(t *testing.T) {
	t.Parallel()
	w := newWire()
	var tried attempts
	letGo := make(chan struct{})
	w.to(1002, tried.of(func(_ context.Context, messages []msgbus.Outgoing) []error {
		<-letGo
		return all(messages, unreachable(1002))
	}))
	a := run(t, w, 1001)
	const n = 300 // more than one step of Redis ends
	for range n {
		a.request(with(ask("x", "app.1", 1002), map[string]any{"try": 0}))
	}
	eventually(t, "all are admitted", func() bool { return len(a.waiting()) == n })
	close(letGo)
	for range n {
		a.pop("app.1")
	}
	if got := tried.list(); len(got) != 1 {
		t.Errorf("it took %d failures", len(got))
	}
}

// A lane whose outcome could not be written is held by this relay for a while.
// It must not wait that long.
func TestLaneGoesOnAfterAnErrorOfRedis(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, accepting)
	a := run(t, w, 1001, func(s *site) {
		s.through = func(store *backlog.Store) relay.Backlog { return &unsettled{Store: store} }
	})
	a.request(with(ask("x", "app.1", 1002), map[string]any{"exp": 5})) // the hold is longer
	if sent := w.awaitSendings(t, 1002, 2); sent[0].uid != sent[1].uid {
		t.Errorf("sent as %s and %s: the peer cannot tell that it is a repeat", sent[0].uid, sent[1].uid)
	}
}

// An unsettled storage fails the first SettleAndFetch.
type unsettled struct {
	*backlog.Store
	failed atomic.Bool
}

func (u *unsettled) SettleAndFetch(ctx context.Context, twin uint32, o msgbus.Settlement) (*msgbus.Batch, error) {
	if u.failed.CompareAndSwap(false, true) {
		return nil, errLost
	}
	return u.Store.SettleAndFetch(ctx, twin, o)
}

// A reply is worth as much as a request: it is sent again until it is taken.
func TestReplyIsRetriedUntilItIsTaken(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	var tried attempts
	w.to(1001, tried.of(dead(1001)))
	a.request(ask("x", "app.1", 1002))
	b.reply(b.service("x"), map[string]any{"dat": "Mw=="})
	tried.await(t, 2)
	w.to(1001, nil)
	expect(t, "the app got", a.pop("app.1"), map[string]any{"dat": "Mw==", "err": ""})
	if n := a.length("app.1"); n != 0 {
		t.Error("a second reply reached the app")
	}
}

// Nobody waits for a reply after the request's deadline: it must not stay in
// Redis for ever.
func TestReplyIsDroppedAtItsDeadline(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1001, dead(1001))
	b := run(t, w, 1002)
	m := incoming("1002.1", "x")
	m.Expiration = 2
	if err := b.relay.AcceptRequest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	b.reply(b.service("x"), nil)
	eventually(t, "the reply waits", func() bool { return b.rdb.HLen(t.Context(), "msgbus.system.replies").Val() == 1 })
	eventually(t, "the reply is dropped", func() bool { return b.rdb.HLen(t.Context(), "msgbus.system.replies").Val() == 0 })
	b.log.await(t, "dropped replies that could not be delivered in time", 1)
	if n := b.rdb.Exists(t.Context(), "msgbus.system.lane.1001.replies", "msgbus.system.replies.deadlines", "msgbus.system.open").Val(); n != 0 {
		t.Error("a trace of the reply is left")
	}
}
