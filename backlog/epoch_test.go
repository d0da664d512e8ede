package backlog_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/msgbus"
)

// numberOf admits one request to twin 1002 and returns its number and epoch.
func (r *rig) numberOf(s *backlog.Store, dst uint32) (uint64, string) {
	r.Helper()
	uid := r.admit(s, request(dst))[0]
	_, n, ok := msgbus.ParseUID(uid)
	if !ok {
		r.Fatalf("uid %q cannot be read", uid)
	}
	return n, r.entry(s, uid).Epoch
}

// Peers forget what they have seen each time the epoch changes.
func TestEpochStaysTheSameWhileRedisRuns(t *testing.T) {
	onBoth(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		n1, e1 := r.numberOf(a, 1002)
		n2, e2 := r.numberOf(b, 1002)
		n3, e3 := r.numberOf(r.join(instance("a")), 1002)
		wantEqual(r, "numbers", [3]uint64{n1, n2, n3}, [3]uint64{1, 2, 3})
		wantEqual(r, "epochs", [2]string{e2, e3}, [2]string{e1, e1})
	})
}

// Redis restarts and has lost its last second: a uid that was used is used
// again, and the peer drops the new request as a repeat of the old one.
func TestRestartOfRedisBeginsAnEpochAndMovesNumbersAhead(t *testing.T) {
	r := onReal(t, redistest.AppendOnly("always"))
	s := r.join()
	_, first := r.numberOf(s, 1002)
	for range 4 {
		r.numberOf(s, 1002)
	}
	r.numberOf(s, 1003)

	last := uint64(5)
	for restart := range 2 {
		r.real.Restart()
		eventually(r, "the store reaches the new Redis", func() bool { return s.Renew(r.Context()) == nil })
		n, epoch := r.numberOf(s, 1002)
		if n <= last {
			r.Errorf("number %d after restart %d is not ahead of %d", n, restart, last)
		}
		if epoch == first {
			r.Errorf("restart %d does not begin an epoch", restart)
		}
		again, same := r.numberOf(s, 1002)
		wantEqual(r, "next number", again, n+1)
		wantEqual(r, "its epoch", same, epoch)
		first, last = epoch, again
	}
	// A twin that slept through both restarts moves ahead as well.
	if n, _ := r.numberOf(s, 1003); n < 1_000_002 {
		r.Errorf("number %d to the other twin is not far ahead of 1", n)
	}
}

// Redis crashes twice before it saves again: each time it comes back with the
// same copy, the first of its life or one from between two quick restarts. A uid
// that a published relay has seen is used again, and its late reply answers
// another request.
func TestNumbersAreUsedOnceHoweverOftenRedisComesBackWithTheSameCopy(t *testing.T) {
	r := onReal(t)
	used := map[uint64]bool{}
	for range 3 {
		n, _ := r.numberOf(r.join(), 1002)
		used[n] = true
		r.must(r.rdb.Save(r.Context()).Err())
		for range 3 {
			r.real.Restart()
			eventually(r, "the new Redis is reached", func() bool { return r.rdb.Ping(r.Context()).Err() == nil })
			n, _ := r.numberOf(r.join(), 1002)
			if used[n] {
				r.Fatalf("number %d is used again", n)
			}
			used[n] = true
		}
	}
}

// Somebody empties Redis under a running relay. Numbers that began at 1 again
// would be repeats to published relays, and their late replies would answer
// the wrong requests.
func TestNumbersMoveAheadWhenRedisWasEmptied(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		last := map[uint32]uint64{}
		use := func(s *backlog.Store, dst uint32) string {
			r.Helper()
			n, epoch := r.numberOf(s, dst)
			if n <= last[dst] {
				r.Fatalf("number %d of twin %d is used again: %d was reached", n, dst, last[dst])
			}
			last[dst] = n
			return epoch
		}
		for range 3 {
			use(s, 1002)
			use(s, 1003)
		}
		first := use(s, 1004)
		for range 3 {
			r.must(r.rdb.FlushAll(r.Context()).Err())
			r.must(s.Join(r.Context()))
			epoch := use(s, 1002)
			if epoch == first {
				r.Error("no epoch begins")
			}
			first = epoch
			for range 200 { // many in a second
				use(s, 1002)
			}
		}
		use(s, 1003)
		// A relay that has joined and admitted nothing yet knows the epoch as well.
		fresh := r.join(instance("b"))
		r.must(r.rdb.FlushAll(r.Context()).Err())
		r.must(fresh.Join(r.Context()))
		use(fresh, 1002)
		use(fresh, 1004)
	})
}

// After Redis was emptied and then restarted, a twin that was not written to
// in between begins below the numbers that it has seen.
func TestNumbersStayAheadThroughARestartAfterRedisWasEmptied(t *testing.T) {
	r := onReal(t, redistest.AppendOnly("always"))
	s := r.join()
	r.numberOf(s, 1003)
	r.must(r.rdb.Set(r.Context(), "msgbus.counter.1003", "3000000", 0).Err())
	used, _ := r.numberOf(s, 1003)
	r.must(r.rdb.FlushAll(r.Context()).Err())
	r.must(s.Join(r.Context()))
	r.numberOf(s, 1002)
	r.real.Restart()
	eventually(r, "the store reaches the new Redis", func() bool { return s.Renew(r.Context()) == nil })
	if n, _ := r.numberOf(s, 1003); n <= used {
		r.Fatalf("number %d is used again: %d was reached", n, used)
	}
}

// The first start ever looks like the specification's example, `<dst>.1`.
func TestFirstNumberIsOne(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		n, _ := r.numberOf(s, 1002)
		wantEqual(r, "number", n, 1)
	})
}

// Redis starts from a copy that is older than the relay's process: the relay
// ends itself, because of a process that ended before it.
func TestRelayOutlivesTheMemoryOfItsPredecessor(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		before := r.join()
		session := r.onlySession()
		s := r.join()
		_ = before
		// As the copy has it: the earlier session is the instance's, and its lease ends.
		r.must(r.rdb.Del(r.Context(), "msgbus.system.sessions").Err())
		r.must(r.rdb.ZAdd(r.Context(), "msgbus.system.sessions", redis.Z{Score: float64(r.now().Add(5 * time.Second).UnixMilli()), Member: session}).Err())
		r.must(r.rdb.HSet(r.Context(), "msgbus.system.instances", "a", session).Err())
		r.wantErr(s.Renew(r.Context()), msgbus.ErrFenced)
		r.advance(6 * time.Second)
		r.must(s.Join(r.Context()))
		r.must(s.Renew(r.Context()))
	})
}
