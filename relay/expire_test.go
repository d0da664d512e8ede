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

// An app that waits must be told at its deadline, in the words that it knows,
// and why if that is known.
func TestRequestWithoutAReplyEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, dead(1002))
	w.to(1003, accepting)
	a := run(t, w, 1001)
	a.request(with(ask("x", "app.2", 1002), map[string]any{"exp": 1, "try": 50}))
	a.request(with(ask("x", "app.3", 1003), map[string]any{"exp": 1}))
	expect(t, "of a dead twin", a.pop("app.2"), map[string]any{
		"err": "request timeout (expiration reached, 1): twin 1002 cannot be reached: connection refused", "src": 1002, "dst": []int{1001}, "uid": "1002.1",
	})
	expect(t, "of a silent one", a.pop("app.3"), map[string]any{"err": "request timeout (expiration reached, 1)", "src": 1003})
	if left := a.waiting(); len(left) != 0 {
		t.Errorf("%v is still in the backlog", left)
	}
	for _, line := range a.log.await(t, "request ended", 2) {
		expect(t, "the log", line, map[string]any{"reason": "expired", "outcome": "failed"})
	}
}

// A relay that comes back after a while finds replies of requests whose deadline
// has passed meanwhile. They are answered, not told that nobody did.
func TestRepliesThatWaitAtTheStartComeBeforeExpiry(t *testing.T) {
	t.Parallel()
	a := run(t, newWire(), 1001, withStorage(func(o *backlog.Options) { o.MaxTake = 20 }))
	const n = 60 // several claims
	var replies []any
	a.requests(n, with(ask("x", "app.1", 1001), map[string]any{"exp": 8}))
	for i := range n {
		replies = append(replies, fmt.Sprintf(`{"ver":1,"uid":"1001.%d","src":1001,"dst":[1001],"cmd":"x","dat":"Mw==","now":1}`, i+1))
	}
	eventually(t, "the service has them", func() bool { return a.length("msgbus.x") == n })
	a.kill()
	eventually(t, "their deadlines have passed", func() bool {
		due := a.rdb.ZRangeArgsWithScores(t.Context(), redis.ZRangeArgs{Key: "msgbus.system.deadlines", Start: -1, Stop: -1}).Val()
		return len(due) == 1 && a.rdb.Time(t.Context()).Val().UnixMilli() > int64(due[0].Score)
	})
	if err := a.rdb.RPush(t.Context(), "msgbus.system.reply", replies...).Err(); err != nil {
		t.Fatal(err)
	}
	a.start()
	for range n {
		if m := a.pop("app.1"); m["err"] != "" || m["dat"] != "Mw==" {
			t.Fatalf("the app of %v is told %q though the reply was there", m["uid"], m["err"])
		}
	}
}

// At the deadline a reply and the expiry meet. The app gets one of them.
func TestReplyAndExpiryNeverBothReachTheApp(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, accepting)
	a := run(t, w, 1001)
	const n = 300
	a.requests(n, with(ask("x", "app.1", 1002), map[string]any{"exp": 3}))
	eventually(t, "all are admitted", func() bool { return len(a.waiting()) == n })
	eventually(t, "the first has ended", func() bool { return len(a.waiting()) < n })
	for i := range n {
		err := a.relay.AcceptReply(context.Background(), &msgbus.Message{Version: 1, UID: fmt.Sprintf("1002.%d", i+1), Source: 1002, Destinations: []uint32{1001}, Now: time.Now().Unix()})
		if err != nil {
			t.Fatal(err)
		}
	}
	ended := make(map[any]int)
	for range n {
		ended[a.pop("app.1")["uid"]]++
	}
	if len(ended) != n || a.length("app.1") != 0 {
		t.Errorf("%d requests have ended with %d messages, want one each for %d", len(ended), n+a.length("app.1"), n)
	}
}

// Redis's clock was set. The operator must learn why nothing expires, and that
// it does again, in one line each, however long it lasts.
//
// Breaks it: let heldBack log without onset; keep the onset in expire, where a
// new session begins another; leave out held.end.
func TestHeldExpiryIsToldWhenItBeginsAndWhenItEnds(t *testing.T) {
	t.Parallel()
	clock := &setClock{}
	a := run(t, newWire(), 1001, func(s *site) {
		s.through = func(store *backlog.Store) relay.Backlog { clock.Store = store; return clock }
	})
	clock.set(-time.Hour - 3*time.Millisecond)
	a.request(with(ask("x", "app.1", 1001), map[string]any{"exp": 1}))
	clock.await(t, 2)
	if err := a.rdb.Del(t.Context(), "msgbus.system.sessions").Err(); err != nil { // as when Redis lost it
		t.Fatal(err)
	}
	a.log.await(t, "began a new session: this relay was silent for longer than its lease, or Redis lost the old one", 1)
	clock.await(t, 2)
	for _, line := range a.log.await(t, "the clock of Redis was set; nothing expires for a while", 1) {
		expect(t, "the log", line, map[string]any{"level": "warn", "way": "back", "by": "1h0m0s", "for": "1m0s"})
	}
	if n := a.length("app.1"); n != 0 {
		t.Errorf("%d requests have expired", n)
	}
	clock.set(0)
	if m := a.pop("app.1"); !has(m["err"], "request timeout") {
		t.Errorf("the app is told %q", m["err"])
	}
	a.log.await(t, "requests expire again", 1)
	a.log.await(t, "the clock of Redis was set; nothing expires for a while", 1)
	clock.set(time.Hour)
	a.log.await(t, "the clock of Redis was set; nothing expires for a while", 2)
}

// A setClock is a storage whose clock was set by so much, if at all.
type setClock struct {
	*backlog.Store
	by   atomic.Int64
	held atomic.Int64 // how often it has held expiry
}

func (c *setClock) set(by time.Duration) { c.by.Store(int64(by)) }

func (c *setClock) Due(ctx context.Context) ([]*msgbus.Entry, error) {
	if by := c.by.Load(); by != 0 {
		c.held.Add(1)
		return nil, fmt.Errorf("find expired requests: %w", &msgbus.HeldError{By: time.Duration(by), For: time.Minute})
	}
	return c.Store.Due(ctx)
}

// await waits until expiry was held so many times more.
func (c *setClock) await(t *testing.T, more int64) {
	t.Helper()
	want := c.held.Load() + more
	eventually(t, "expiry is held", func() bool { return c.held.Load() >= want })
}
