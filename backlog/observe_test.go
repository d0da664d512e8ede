package backlog_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A watcher notes what a store tells.
type watcher struct {
	mu       sync.Mutex
	commands map[string]int // guarded by mu
	failures map[string]int // guarded by mu
	claims   int            // guarded by mu
	returned int            // guarded by mu
	finished []string       // guarded by mu
}

// observed opens a store of which a watcher is told.
func observed(w *watcher) func(*backlog.Options) {
	w.commands, w.failures = make(map[string]int), make(map[string]int)
	return func(o *backlog.Options) { o.Observer = w }
}

func (w *watcher) RedisAnswered(command string, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commands[command]++
}

func (w *watcher) RedisFailed(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures[kind]++
}

func (w *watcher) ClaimsExpired(messages int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.claims += messages
}

func (w *watcher) RequestsReturned(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.returned += n
}

func (w *watcher) MessagesFinished(kind msgbus.Kind, how msgbus.Ending, why msgbus.Reason, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished = append(w.finished, fmt.Sprintf("%s %s %s %d", kind, how, why, n))
}

func (w *watcher) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.commands))
}

// failed returns which failures were told since it was last called.
func (w *watcher) failed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	kinds := slices.Sorted(maps.Keys(w.failures))
	clear(w.failures)
	return kinds
}

// An operator sees that Redis is slow, and not at what: all is `evalsha`. Or the name of
// a series holds what an app has sent, and there are a million of them.
func TestExchangesAreToldByTheNamesOfScripts(t *testing.T) {
	onBoth(t, func(r *rig) {
		var w watcher
		s := r.join(observed(&w))
		ctx := r.Context()
		for n := range 3 {
			r.push(localQueue, fmt.Sprint("message ", n))
			c := r.take(s, msgbus.LocalQueue)
			_, batch, err := s.AdmitAndFetch(ctx, c, []msgbus.Admission{{Message: request(1002)}}, 1002)
			r.must(err)
			for batch == nil || len(batch.Parcels) > 0 { // nil: Redis did not know the scripts yet
				if batch == nil {
					batch = r.fetch(s, 1002)
				}
				batch, err = s.SettleAndFetch(ctx, 1002, msgbus.Settlement{Answered: true, Settled: batch.Parcels})
				r.must(err)
			}
			r.accept(s, 1003, sample, arrival(uint64(n+1)))
		}
		_, err := s.Causes(ctx, []*msgbus.Entry{r.entry(s, "1002.1"), r.entry(s, "1002.2"), r.entry(s, "1002.3")})
		r.must(err)
		_, err = s.Measure(ctx)
		r.must(err)
		names := w.names()
		for _, want := range []string{"join", "ended", "accept", "admit+fetch", "settle+fetch", "hget", "zscore+hmget", "measure"} {
			if !slices.Contains(names, want) {
				t.Errorf("%s is not told, of %q", want, names)
			}
		}
		for _, name := range names {
			if strings.Contains(name, "eval") || strings.Contains(name, "blmove") || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_+") != "" {
				t.Errorf("%q is told as the name of an exchange", name)
			}
		}
		wantEqual(r, "failures", fmt.Sprint(w.failed()), "[]")
	})
}

// The rules' own errors would sound the alarm for Redis all day; and one that is full would
// be looked for on the network.
func TestFailuresOfRedisAreToldApart(t *testing.T) {
	r := onReal(t)
	var w watcher
	s := r.join(observed(&w))
	ctx := r.Context()
	wants := func(what string, want string) {
		r.Helper()
		wantEqual(r, what, fmt.Sprint(w.failed()), want)
	}
	if _, err := s.Entry(ctx, "1002.1"); !errors.Is(err, msgbus.ErrNotFound) {
		t.Errorf("entry: %v", err)
	}
	r.must(r.rdb.Del(ctx, "msgbus.system.sessions").Err())
	if err := s.Renew(ctx); !errors.Is(err, msgbus.ErrFenced) {
		t.Errorf("renew: %v", err)
	}
	if _, err := s.Fetch(ctx, 1002); !errors.Is(err, msgbus.ErrFenced) {
		t.Errorf("fetch: %v", err)
	}
	wants("nothing is the matter with Redis", "[]")

	r.must(r.rdb.Set(ctx, "msgbus.system.backlog", "x", 0).Err())
	_, err := s.Entry(ctx, "1002.1")
	wants(fmt.Sprint("a key of another type: ", err), "[refused]")
	r.must(r.rdb.Del(ctx, "msgbus.system.backlog").Err())

	r.full()
	err = s.SavePeer(ctx, 1002, "offer")
	wants(fmt.Sprint("Redis is full: ", err), "[full]")
	r.room()

	r.must(r.rdb.Do(ctx, "CLIENT", "PAUSE", "500", "ALL").Err())
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	err = s.Ping(soon)
	wants(fmt.Sprint("no answer in time: ", err), "[timeout]")

	stopped, stop := context.WithCancel(ctx)
	stop()
	_ = s.Ping(stopped)
	wants("this side does not wait", "[]")

	r.real.Kill()
	err = s.Ping(ctx)
	wants(fmt.Sprint("Redis has gone: ", err), "[connection]")
	err = s.Ping(ctx)
	wants(fmt.Sprint("Redis is away: ", err), "[connection]")
}

// A relay that crashes every hour, and nobody sees it: another one does its work.
func TestClaimsThatGoBackAreTold(t *testing.T) {
	onBoth(t, func(r *rig) {
		crashes := r.join()
		r.push(localQueue, "one", "two", "three")
		r.take(crashes, msgbus.LocalQueue)
		var w watcher
		s := r.join(observed(&w)) // the same instance, started again
		wantEqual(r, "messages that went back", w.claims, 3)
		r.take(s, msgbus.LocalQueue)
		r.must(s.Leave(r.Context()))
		wantEqual(r, "messages that went back after a stop in order", w.claims, 3)
	})
}

// A service is down, and the relay that hands it requests says nothing of it.
func TestUnansweredArrivalsAndUnreadableEntriesAreTold(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		var w watcher
		s := r.join(observed(&w), func(o *backlog.Options) { o.Lease = time.Hour })
		refused := arrival(3)
		refused.IsReply = true
		r.accept(s, 1003, sample, arrival(1), arrival(2), refused)
		r.advance(2 * time.Minute)
		n, err := s.ForgetExpired(r.Context())
		r.must(err)
		wantEqual(r, "replies", n, 1) // of which the caller tells
		r.must(s.Discard(r.Context(), "1002.1", "no entry"))
		wantEqual(r, "told", strings.Join(w.finished, ", "), "arrival failed expired 2, request buried malformed 1")
	})
}

// The gauges of a relay are what an operator believes; a wrong one hides what waits.
func TestMeasureTellsWhatWaits(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		ctx := r.Context()
		measure := func() msgbus.Measures {
			r.Helper()
			got, err := s.Measure(ctx)
			r.must(err)
			return got
		}
		wantEqual(r, "of an empty Redis", measure(), msgbus.Measures{})

		began := time.Now()
		r.push(localQueue, "x")
		c := r.take(s, msgbus.LocalQueue)
		r.must(s.Refuse(ctx, c, 0, refusal(), "", nil, true)) // a dead letter
		uids := r.admit(s, request(1002), request(1003), request(1004))
		b := r.fetch(s, 1002)
		r.must(s.Settle(ctx, 1002, msgbus.Settlement{Answered: true, PutOff: b.Parcels}))
		r.fetch(s, 1003)
		r.fail(s, 1003, unreachable())
		r.accept(s, 1005, sample, arrival(1), arrival(2))
		r.depart(s, "1001.1", "reply")
		r.push(localQueue, "a", "b")
		r.push(remoteQueue, "c")
		r.announce("c1", "x", "y")
		r.announce("gone", "x")
		r.dies("gone")
		r.giveBack(s)
		got := measure()
		for what, at := range map[string]time.Time{"backlog": got.BacklogSince, "open": got.OpenSince, "dead": got.DeadSince} {
			r.within(what, at, began, 10*time.Second)
		}
		wantEqual(r, "admitted first", got.BacklogSince, r.entry(s, uids[0]).Admitted)
		wantEqual(r, "accepted first", got.OpenSince, r.opens(s, "1001.2")[0].Accepted)
		got.BacklogSince, got.OpenSince, got.DeadSince = time.Time{}, time.Time{}, time.Time{}
		wantEqual(r, "measures", got, msgbus.Measures{
			Local: 2, Remote: 1, Backlog: 3, Replies: 1, Open: 1, Dead: 1, LanesReady: 3, LanesFailing: 1, LanesPutOff: 1, Services: 2,
		})

		// Somebody's keys of other types must not cost the rest.
		for _, key := range []string{localQueue, "msgbus.system.backlog", "msgbus.system.open", "msgbus.system.dead", "msgbus.system.lanes", "msgbus.system.deadlines", consumersKey} {
			r.must(r.rdb.Set(ctx, key, "x", 0).Err())
		}
		got = measure()
		got.OpenSince = time.Time{}
		wantEqual(r, "measures with keys of other types", got, msgbus.Measures{
			Local: -1, Remote: 1, Backlog: -1, Replies: 1, Open: 1, Dead: -1, LanesReady: -1, LanesFailing: -1, LanesPutOff: 1, Services: -1,
		})
	})
}

// Nobody knows Redis's clock before it was read, and an offset of 0 would say that all is
// well.
func TestClockOffsetIsKnownOnceRedisWasAsked(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.open()
		if d, known := s.ClockOffset(); known {
			t.Errorf("the offset is %v before Redis was asked", d)
		}
		r.step(3 * time.Hour)
		r.must(s.Join(r.Context()))
		if d, known := s.ClockOffset(); !known || (d-3*time.Hour).Abs() > time.Minute {
			t.Errorf("the offset is %v (known: %v), want 3 h", d, known)
		}
	})
}
