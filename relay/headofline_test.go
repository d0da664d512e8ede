package relay_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// failingBase stands before the time in the scores of lanes that failed last.
const failingBase = 1_000_000_000_000_000

func workers(n int) setting {
	return withRelay(func(o *relay.Options) { o.Workers = n })
}

// A limbo is twins that accept connections and never answer, until the test says
// so. It counts how many attempts there are at once.
type limbo struct {
	mu     sync.Mutex
	order  []uint32              // twins in the order of their attempts; guarded by mu
	inside map[uint32]chan error // attempts that hang; guarded by mu
	most   int                   // as many were there at once; guarded by mu
	sizes  map[uint32][]int      // of the attempts; guarded by mu
	open   bool                  // nothing hangs any more; guarded by mu
}

func newLimbo() *limbo {
	return &limbo{inside: make(map[uint32]chan error), sizes: make(map[uint32][]int)}
}

func (l *limbo) way(twin uint32) way {
	return func(ctx context.Context, messages []msgbus.Outgoing) []error {
		l.mu.Lock()
		l.order = append(l.order, twin)
		l.sizes[twin] = append(l.sizes[twin], len(messages))
		answer := make(chan error, 1)
		if l.open {
			answer <- nil
		}
		l.inside[twin] = answer
		l.most = max(l.most, len(l.inside))
		l.mu.Unlock()
		var err error
		select {
		case err = <-answer:
		case <-ctx.Done():
			err = unreachable(twin)
		}
		l.mu.Lock()
		delete(l.inside, twin)
		l.mu.Unlock()
		return all(messages, err)
	}
}

// answer ends the attempt that hangs at a twin.
func (l *limbo) answer(twin uint32, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside[twin] <- err
}

// release lets everything that hangs, and whatever comes, succeed.
func (l *limbo) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
	for _, answer := range l.inside {
		select {
		case answer <- nil:
		default:
		}
	}
}

func (l *limbo) hanging() []uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var twins []uint32
	for twin := range l.inside {
		twins = append(twins, twin)
	}
	slices.Sort(twins)
	return twins
}

func (l *limbo) attempts() []uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.order)
}

func (l *limbo) await(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d attempts hang", n), func() bool { return len(l.hanging()) == n })
}

// resting makes twins fail once, and returns when the storage knows it.
func resting(t *testing.T, a *site, w *wire, twins []uint32) {
	t.Helper()
	for _, twin := range twins {
		w.to(twin, dead(twin))
		a.request(with(ask("x", "app.dead", twin), map[string]any{"try": 1000, "exp": 600}))
	}
	for _, twin := range twins {
		eventually(t, "each has failed", func() bool {
			return a.rdb.HExists(t.Context(), fmt.Sprint("msgbus.system.lane.", twin), "failing").Val()
		})
	}
}

// makeDue ends the rests of failing lanes, as if all of them had become due long
// ago, in their order.
func makeDue(t *testing.T, a *site, twins []uint32) {
	t.Helper()
	var due []redis.Z
	for i, twin := range twins {
		score := float64(i)
		if a.rdb.ZScore(t.Context(), "msgbus.system.lanes", fmt.Sprint(twin)).Val() >= failingBase {
			score += failingBase
		}
		due = append(due, redis.Z{Score: score, Member: twin})
	}
	if err := a.rdb.ZAdd(t.Context(), "msgbus.system.lanes", due...).Err(); err != nil {
		t.Fatal(err)
	}
}

func twins(from uint32, n int) (ids []uint32) {
	for i := range n {
		ids = append(ids, from+uint32(i))
	}
	return ids
}

// FAILURES.md row 21, at the first contact: as many black holes as there are
// workers hold every place for a timeout, and a twin that answers waits as long.
//
// Broken by: slowAfter = time.Hour.
func TestTwinsThatHangKeepNobodyElseWaiting(t *testing.T) {
	t.Parallel()
	w, limbo := newWire(), newLimbo()
	defer limbo.release()
	a, b := run(t, w, 1001, workers(8)), run(t, w, 1002)
	for _, twin := range twins(2000, 8) {
		w.to(twin, limbo.way(twin))
		for range 3 {
			a.request(ask("x", "app.dead", twin))
		}
	}
	limbo.await(t, 8)
	for range 20 {
		a.request(ask("x", "app.1", 1002))
		b.reply(b.service("x"), nil)
		a.pop("app.1")
	}
	if n := len(limbo.hanging()); n != 8 {
		t.Errorf("%d attempts still hang, want 8: nothing was shown", n)
	}
}

// FAILURES.md row 21, later: all that are known to fail are due again, more than
// there are workers, and one that answers must find a place although they hang.
//
// Broken by: in lanes.room, `if failing` → `if false`.
func TestTwinsKnownToFailLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	w, limbo := newWire(), newLimbo()
	defer limbo.release()
	a, b := run(t, w, 1001, workers(2)), run(t, w, 1002)
	failing := twins(2000, 20)
	resting(t, a, w, failing)
	for _, twin := range failing {
		w.to(twin, limbo.way(twin))
	}
	makeDue(t, a, failing)
	limbo.await(t, 2)
	for range 20 {
		a.request(ask("x", "app.1", 1002))
		b.reply(b.service("x"), nil)
		a.pop("app.1")
	}
	if n := limbo.hanging(); len(n) != 2 {
		t.Errorf("%v hang, want as many as there are workers", n)
	}
}

// After a restart nobody wakes the lanes that wait: only the order in which they
// are due finds them, and thousands of dead ones must not hide a live one.
//
// Broken by: FAILING = 0 in the preamble: one order for all.
func TestDeadLanesHideNoLiveOneAfterARestart(t *testing.T) {
	t.Parallel()
	w, limbo := newWire(), newLimbo()
	defer limbo.release()
	a, b := run(t, w, 1001, workers(2), withRelay(func(o *relay.Options) { o.Drain = time.Millisecond })), run(t, w, 1002)
	failing := twins(2000, 20)
	resting(t, a, w, failing)
	w.to(1002, hang(1002, nil))
	a.request(ask("x", "app.1", 1002))
	w.awaitSendings(t, 1002, 1)
	a.kill()
	for _, twin := range failing {
		w.to(twin, limbo.way(twin))
	}
	w.to(1002, nil)
	makeDue(t, a, failing)
	a.start()
	b.reply(b.service("x"), nil)
	a.pop("app.1")
	limbo.await(t, 2)
}

// With more dead twins than workers each must be probed in its turn. One that is
// due again soon comes behind all that were due before.
//
// Broken by: in lanes.lua, ZRANGEBYSCORE → ZREVRANGEBYSCORE with its bounds swapped.
func TestFailingLanesAreProbedInTurn(t *testing.T) {
	t.Parallel()
	w, limbo := newWire(), newLimbo()
	defer limbo.release()
	a := run(t, w, 1001, workers(2))
	failing := twins(2000, 9)
	resting(t, a, w, failing)
	for _, twin := range failing {
		w.to(twin, limbo.way(twin))
	}
	makeDue(t, a, failing)
	const rounds = 3
	const rest = 100 * time.Millisecond // long enough for a list of the lanes due to be no older
	for n := 2; n <= rounds*len(failing); n++ {
		eventually(t, "the next one is probed", func() bool { return len(limbo.attempts()) >= n && len(limbo.hanging()) == 2 })
		order := limbo.attempts()
		first := order[n-2]
		if slices.Contains(order[n-1:], first) {
			t.Fatalf("%d is probed again while others wait: %v", first, order)
		}
		limbo.answer(first, busy(first, rest))
		eventually(t, "it is known", func() bool { return !slices.Contains(limbo.hanging(), first) || len(limbo.attempts()) > n })
	}
	seen := make(map[uint32]int)
	for _, twin := range limbo.attempts()[:rounds*len(failing)] {
		seen[twin]++
	}
	for _, twin := range failing {
		if n := seen[twin]; n < rounds-1 || n > rounds+1 {
			t.Errorf("of %d probes %d got %d: %v", rounds*len(failing), twin, n, limbo.attempts())
		}
	}
}

// However many hang, no more than twice the workers run, and whoever has found
// no place is served when one is free.
//
// Broken by: in lanes.room, `min(l.slow, l.most)` → `l.slow`.
func TestMoreLanesThanWorkersAreAllServed(t *testing.T) {
	t.Parallel()
	w, limbo := newWire(), newLimbo()
	defer limbo.release()
	const most, lanes = 2, 30
	a := run(t, w, 1001, workers(most))
	for _, twin := range twins(2000, lanes) {
		w.to(twin, limbo.way(twin))
		// A deadline: those that wait longer than for a place are never sent.
		a.request(with(ask("x", "app.1", twin), map[string]any{"exp": 20}))
	}
	eventually(t, "all are admitted", func() bool { return len(a.waiting()) == lanes })
	limbo.await(t, 2*most)
	limbo.release()
	for _, twin := range twins(2000, lanes) {
		w.awaitSendings(t, twin, 1)
	}
	limbo.mu.Lock()
	defer limbo.mu.Unlock()
	if limbo.most > 2*most {
		t.Errorf("%d lanes ran at once, want at most %d", limbo.most, 2*most)
	}
}

// A thousand new twins that hang would hold sixteen connections each, and a batch
// in memory. The first message shows whether there is anybody.
//
// Broken by: in serveNext, without `batch.Parcels[:1]`.
func TestFirstMessageToATwinGoesAlone(t *testing.T) {
	t.Parallel()
	w, limbo := newWire(), newLimbo()
	defer limbo.release()
	w.to(2000, limbo.way(2000))
	a := run(t, w, 1001)
	for range 30 {
		a.push("msgbus.system.local", ask("x", "app.1", 2000))
	}
	eventually(t, "all are admitted", func() bool { return len(a.waiting()) == 30 })
	limbo.await(t, 1)
	limbo.release()
	w.awaitSendings(t, 2000, 30)
	limbo.mu.Lock()
	defer limbo.mu.Unlock()
	if sizes := limbo.sizes[2000]; sizes[0] != 1 || len(sizes) == 30 {
		t.Errorf("attempts of %v messages, want one and then batches", sizes)
	}
}
