package backlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
)

// wantSum fails unless what was accepted is accounted for.
func (r *rig) wantSum(s *backlog.Store) {
	r.Helper()
	got, err := s.Stats(r.Context())
	r.must(err)
	if !got.AddUp() {
		r.Fatalf("the counts do not add up: %+v", got)
	}
}

// A request that is lost cannot be told from one that waits.
func TestCountsAddUpInEachStageOfARequest(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.wantStats(s, backlog.Stats{})
		odd := request(1002)
		odd.ReturnQueue = "app.set"
		r.must(r.rdb.SAdd(r.Context(), "app.set", "x").Err())
		uids := r.admit(s, request(1002, 1003), odd, odd, request(1002))
		r.proxy(s, resultQueue, "d", "calc.add")
		r.proxy(s, "another", "d", "calc.add") // a repeat
		r.wantStats(s, backlog.Stats{Accepted: 6, Waiting: 6})

		b := r.fetch(s, 1002)
		r.settle(s, 1002, true, b.Parcels...)
		r.wantStats(s, backlog.Stats{Accepted: 6, Waiting: 6})
		first := r.entry(s, uids[0])
		r.answer(s, reply(first, "one"), reply(first, "two"), failure(first, "three"))
		r.wantStats(s, backlog.Stats{Accepted: 6, Answered: 1, Waiting: 5})
		r.answer(s, failure(r.entry(s, uids[1]), "expired"))
		r.wantStats(s, backlog.Stats{Accepted: 6, Answered: 1, Failed: 1, Waiting: 4})
		// To a return queue that is no list.
		wantEqual(r, "outcomes", r.answer(s, reply(r.entry(s, uids[2]), "one"), failure(r.entry(s, uids[3]), "two")), "[wrong_type wrong_type]")
		r.wantStats(s, backlog.Stats{Accepted: 6, Answered: 2, Failed: 2, Waiting: 2})
		// The service has answered to the queue itself.
		r.push(resultQueue, "result")
		e := r.entry(s, resultQueue)
		wantEqual(r, "outcome", r.answer(s, failure(e, "expired")), "[kept]")
		r.wantStats(s, backlog.Stats{Accepted: 6, Answered: 3, Failed: 2, Waiting: 1})

		r.must(r.rdb.FlushAll(r.Context()).Err())
		r.wantStats(s, backlog.Stats{})
		wantEqual(r, "outcome", r.answer(s, failure(first, "expired")), "[late]")
		r.wantStats(s, backlog.Stats{})
	})
}

// What was accepted and could not be read any more ends uncounted, or stays on
// its lane without an entry.
func TestDiscardedEntryCountsAsFailedAndLeavesItsLane(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		uids := r.admit(s, request(1002), request(1002))
		r.must(r.rdb.HSet(r.Context(), "msgbus.system.backlog", uids[0], "garbage").Err())
		r.must(r.rdb.ZAdd(r.Context(), "msgbus.system.deadlines", redis.Z{Score: 1, Member: uids[0]}).Err())
		wantEqual(r, "due", r.due(s), "[]")
		r.wantStats(s, backlog.Stats{Accepted: 2, Failed: 1, Waiting: 1})
		for _, index := range []string{"requests", "tries"} {
			left := r.rdb.ZRange(r.Context(), "msgbus.system.lane.1002."+index, 0, -1).Val()
			wantEqual(r, index+" left", fmt.Sprint(left), fmt.Sprint(uids[1:]))
		}
	})
}

// What the archived daemon accepted was never counted: it must neither seem
// lost before it is adopted nor unbalance the counts when it cannot be.
func TestEntriesOfTheArchivedDaemonCountWhenTheyAreAdopted(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		now := r.now().Unix()
		r.must(r.rdb.HSet(r.Context(), "msgbus.system.backlog",
			"1002.5", archived("1002.5", now, 600), "1002.6", archived("1002.6", now, 600), "1002.8", "garbage").Err())
		r.admit(s, request(1003))
		r.wantStats(s, backlog.Stats{Accepted: 1, Waiting: 1, Archived: 3})
		r.adopt(s, 2)
		r.wantStats(s, backlog.Stats{Accepted: 3, Waiting: 3})
		wantEqual(r, "dead letters", fmt.Sprint(r.dead()), "[backlog malformed garbage]")
		r.answer(s, reply(r.entry(s, "1002.5"), "one"))
		r.wantStats(s, backlog.Stats{Accepted: 3, Answered: 1, Waiting: 2})
		// The archived daemon runs beside the relay and writes over what was accepted.
		r.must(r.rdb.HSet(r.Context(), "msgbus.system.backlog", "1002.6", archived("1002.6", now, 600), "1002.9", archived("1002.9", now, 600)).Err())
		r.adopt(s, 2)
		r.wantStats(s, backlog.Stats{Accepted: 4, Answered: 1, Waiting: 3})
	})
}

// Two relays find the same unreadable entry: it must be counted and buried
// once, and what has become of it meanwhile must stay.
func TestEntryIsDiscardedOnceAndOnlyAsItWasRead(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		uid := r.admit(s, request(1002))[0]
		r.must(s.Discard(r.Context(), uid, "something else"))
		r.wantStats(s, backlog.Stats{Accepted: 1, Waiting: 1})
		r.must(r.rdb.HSet(r.Context(), "msgbus.system.backlog", uid, "garbage").Err())
		for range 2 {
			r.must(s.Discard(r.Context(), uid, "garbage"))
		}
		r.wantStats(s, backlog.Stats{Accepted: 1, Failed: 1})
		wantEqual(r, "dead letters", fmt.Sprint(r.dead()), "[backlog malformed garbage]")
	})
}

// An app deletes a counter, and a new request takes the uid and the entry of
// one that waits: the older one never ends.
func TestUIDOfARequestThatWaitsIsNotGivenAgain(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		old := r.admit(s, request(1002), request(1002))
		r.must(r.rdb.Del(r.Context(), "msgbus.counter.1002").Err())
		fresh := r.admit(s, request(1002), request(1002))
		for _, uid := range fresh {
			if uid == old[0] || uid == old[1] {
				r.Errorf("uid %s is given again", uid)
			}
		}
		r.wantStats(s, backlog.Stats{Accepted: 4, Waiting: 4})
		wantEqual(r, "lane", ids(r.fetch(s, 1002)), fmt.Sprint(old)) // no further than the window
	})
}

// An entry was deleted by hand: the app waits for ever, and nothing tells it.
func TestEntryThatWasDeletedByHandShowsInTheSumForGood(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		uid := r.admit(s, request(1002))[0]
		r.must(r.rdb.HDel(r.Context(), "msgbus.system.backlog", uid).Err())
		r.advance(2 * time.Minute)
		wantEqual(r, "due", r.due(s), "[]")
		got, err := s.Stats(r.Context())
		r.must(err)
		wantEqual(r, "counts", got, backlog.Stats{Accepted: 1})
		wantEqual(r, "they add up", got.AddUp(), false)
	})
}

// A key of another type where the counts are made must not keep anybody from
// being told of it.
func TestCountsOfAKeyOfAnotherTypeAreZero(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.admit(s, request(1002))
		r.must(r.rdb.Set(r.Context(), "msgbus.system.deadlines", "x", 0).Err())
		got, err := s.Stats(r.Context())
		r.must(err)
		wantEqual(r, "counts", got, backlog.Stats{Accepted: 1, Archived: 1})
	})
}
