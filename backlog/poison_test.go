package backlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

const (
	suspects    = "msgbus.system.suspects"
	remoteQueue = "msgbus.system.remote"
)

// drain takes claims of a queue and drops them until it is empty, and returns
// what was in each.
func (r *rig) drain(s *backlog.Store, queue string) (claims [][]string) {
	r.Helper()
	q := msgbus.Queue(strings.TrimPrefix(queue, "msgbus.system."))
	for len(r.list(queue)) > 0 {
		c := r.take(s, q)
		claims = append(claims, c.Messages)
		r.must(s.Drop(r.Context(), c))
	}
	return claims
}

// onlyLiveSession returns the name of the one session that has not ended.
func (r *rig) onlyLiveSession() string {
	r.Helper()
	names, err := r.rdb.ZRangeArgs(r.Context(), redis.ZRangeArgs{Key: "msgbus.system.sessions", Start: "1", Stop: "+inf", ByScore: true}).Result()
	r.must(err)
	wantEqual(r, "live sessions", len(names), 1)
	return names[0]
}

// crash is kill -9 of the relay that has a session, and the start of the next one.
func (r *rig) crash() *backlog.Store { r.Helper(); return r.join() }

// One message of a batch kills the relay, and with each restart the whole batch
// is blamed, until all of it is buried. (take.lua: without the look at what LPOP
// would take, the batch comes as a whole.)
func TestWhatARelayEndedWithComesAloneAndInOrder(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, "1", "2", "3")
		r.take(s, msgbus.LocalQueue)
		s = r.crash()
		r.push(localQueue, "4", "5")
		wantEqual(r, "claims", fmt.Sprint(r.drain(s, localQueue)), "[[1] [2] [3] [4 5]]")
	})
}

// A message that ends the relay whenever it is handled ends it for ever.
// (claims.lua: POISON = 4, or no HINCRBY.)
func TestThirdRecoveryOfAMessageMakesItPoison(t *testing.T) {
	for _, queue := range []string{localQueue, remoteQueue, replyQueue} {
		t.Run(queue, func(t *testing.T) {
			onBoth(t, func(r *rig) {
				q := msgbus.Queue(strings.TrimPrefix(queue, "msgbus.system."))
				s := r.join()
				r.push(queue, "before", "killer", "after")
				for crashes := range 3 {
					for {
						c := r.take(s, q)
						if c.Poison {
							r.Fatalf("%q is poison after %d crashes", c.Messages, crashes)
						}
						if strings.Contains(fmt.Sprint(c.Messages), "killer") {
							break
						}
						r.must(s.Drop(r.Context(), c))
					}
					s = r.crash()
				}
				c := r.take(s, q)
				wantEqual(r, "claim", fmt.Sprint(c.Poison, c.Messages), "true [killer]")
				buried, err := s.Bury(r.Context(), c, 0, msgbus.Refuse(msgbus.Poison, "killed"))
				r.must(err)
				wantEqual(r, "buried", buried, true)
				buried, err = s.Bury(r.Context(), c, 0, msgbus.Refuse(msgbus.Poison, "killed"))
				r.must(err)
				wantEqual(r, "buried again", buried, false)
				r.must(s.Drop(r.Context(), c))
				wantEqual(r, "dead letters", fmt.Sprint(r.dead()), fmt.Sprintf("[%s poison killer]", q))
				c = r.take(s, q)
				wantEqual(r, "next", fmt.Sprint(c.Poison, c.Messages), "false [after]")
				r.must(s.Drop(r.Context(), c))
			})
		})
	}
}

// A relay that ends as soon as it has started, for a reason of its own, would have
// the message at the head of the queue buried after three such starts. (take.lua:
// without the look at ARGV 5.)
func TestStartsThatFailBuryNothing(t *testing.T) {
	onBoth(t, func(r *rig) {
		age := time.Duration(0)
		join := func() *backlog.Store {
			s := r.open()
			s.FakeMonotonic(func() time.Duration { return age })
			r.must(s.Join(r.Context()))
			return s
		}
		s := join()
		r.push(localQueue, "innocent", "next")
		for range 10 {
			_, _ = s.Take(r.Context(), msgbus.LocalQueue)
			s = join()
		}
		age = 2 * time.Second
		c := r.take(s, msgbus.LocalQueue)
		wantEqual(r, "claim", fmt.Sprint(c.Poison, c.Messages), "false [innocent]")
	})
}

// A killer in one queue takes the messages of the other queues, which are
// handled at the same time, to the dead letters with it. (take.lua:
// other_in_hand returns false.)
func TestOnlyOneSuspectIsInHand(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, "killer")
		r.push(replyQueue, "reply", "another")
		r.take(s, msgbus.LocalQueue)
		r.take(s, msgbus.ReplyQueue)
		s = r.crash()
		c := r.take(s, msgbus.LocalQueue)
		wantEqual(r, "claim", fmt.Sprint(c.Messages), "[killer]")
		wantEqual(r, "replies meanwhile", len(r.take(s, msgbus.ReplyQueue).Messages), 0)
		r.wantList(replyQueue, "reply", "another")
		r.must(s.Drop(r.Context(), c))
		r.push(localQueue, "ordinary")
		wantEqual(r, "claim", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), "[ordinary]")
		wantEqual(r, "replies", fmt.Sprint(r.drain(s, replyQueue)), "[[reply] [another]]")
	})
}

// A BLMOVE moves without looking: a suspect is handled together with others,
// or comes behind younger ones. (take.lua: leave out give_back.)
func TestSuspectThatCameWithOthersGoesBack(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, "suspect", "suspect")
		r.take(s, msgbus.LocalQueue)
		s = r.crash()
		r.push(localQueue, "late")
		claim := "msgbus.system.claim." + r.onlyLiveSession() + ".local"
		r.must(r.rdb.RPush(r.Context(), claim, "first").Err())
		for range 2 {
			r.must(r.rdb.LMove(r.Context(), localQueue, claim, "LEFT", "RIGHT").Err())
		}
		c := r.take(s, msgbus.LocalQueue)
		wantEqual(r, "before it", fmt.Sprint(c.Messages), "[first]")
		r.wantList(localQueue, "suspect", "suspect", "late")
		r.must(s.Drop(r.Context(), c))
		for range 3 {
			r.must(r.rdb.LMove(r.Context(), localQueue, claim, "LEFT", "RIGHT").Err())
		}
		wantEqual(r, "it", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), "[suspect]")
		r.wantList(localQueue, "suspect", "late")
	})
}

// A stop counts as a crash: after three upgrades on one afternoon a healthy
// message is buried. (leave.lua: end_claims with true; Leave: no claims.)
func TestLeaveMakesNoSuspects(t *testing.T) {
	onBoth(t, func(r *rig) {
		r.push(localQueue, "1", "2")
		for range 4 {
			s := r.join()
			wantEqual(r, "claim", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), "[1 2]")
			r.must(s.Leave(r.Context()))
		}
		wantEqual(r, "suspects", fmt.Sprint(r.rdb.HGetAll(r.Context(), suspects).Val()), "map[]")
	})
}

// The same for a relay that Redis was away from for longer than the lease: it
// lives. (Store.Join: leave out the recovery of the previous session.)
func TestRelayThatJoinsAgainHasNotCrashed(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, "1", "2")
		for range 4 {
			wantEqual(r, "claim", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), "[1 2]")
			r.must(s.Join(r.Context()))
		}
	})
}

// A message that merely was in the batch stays under suspicion after it was
// handled: an app that sends the same bytes every minute is refused in the end.
// (claims.lua: acquit does nothing.)
func TestSuspectThatWasHandledIsForgotten(t *testing.T) {
	onBoth(t, func(r *rig) {
		for range 4 {
			s := r.join()
			r.push(localQueue, "same")
			r.take(s, msgbus.LocalQueue)
			s = r.crash()
			c := r.take(s, msgbus.LocalQueue)
			wantEqual(r, "poison", c.Poison, false)
			_, err := s.Admit(r.Context(), c, []msgbus.Admission{{Message: request(1002)}})
			r.must(err)
			// The next crash comes before or after the next look at the queue.
			r.must(r.rdb.LPush(r.Context(), localQueue, "other").Err())
			r.drain(s, localQueue)
			wantEqual(r, "suspects", fmt.Sprint(r.rdb.HGetAll(r.Context(), suspects).Val()), "map[]")
		}
	})
}

// Handled, and killed before it could take again: the same bytes must not be
// blamed for it.
func TestSuspectThatWasHandledBeforeACrashIsForgotten(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, "same")
		r.take(s, msgbus.LocalQueue)
		s = r.crash()
		r.must(s.Drop(r.Context(), r.take(s, msgbus.LocalQueue)))
		r.crash()
		wantEqual(r, "suspects", fmt.Sprint(r.rdb.HGetAll(r.Context(), suspects).Val()), "map[]")
	})
}

// An app tries its poison again and again, and ends the relay three times for
// each. (acquit: without the comparison with POISON.)
func TestPoisonIsKnownWhenItComesAgain(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		r.push(localQueue, "killer")
		s := r.join()
		for range 3 {
			for len(r.take(s, msgbus.LocalQueue).Messages) == 0 { // not in the relay's first second
				r.advance(time.Second)
			}
			s = r.crash()
		}
		r.must(s.Drop(r.Context(), r.take(s, msgbus.LocalQueue)))
		for range 2 {
			r.push(localQueue, "killer")
			c := r.take(s, msgbus.LocalQueue)
			wantEqual(r, "poison", c.Poison, true)
			r.must(s.Drop(r.Context(), c))
		}
		r.advance(61 * time.Minute) // as long, and a corrected relay may try
		s = r.join()
		r.push(localQueue, "killer")
		wantEqual(r, "poison after an hour", r.take(s, msgbus.LocalQueue).Poison, false)
	})
}

// Two copies in one claim are one crash, not two.
// (claims.lua: leave out `counted`.)
func TestCopiesInOneClaimAreCountedOnce(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, "same", "same", "same")
		r.push(replyQueue, "same")
		r.take(s, msgbus.LocalQueue)
		r.take(s, msgbus.ReplyQueue)
		s = r.crash()
		wantEqual(r, "poison", r.take(s, msgbus.LocalQueue).Poison, false)
		wantEqual(r, "messages", len(r.list(localQueue)), 2)
	})
}

// Redis is full, or somebody wrote over the hash, and the relay cannot start: the
// counting keeps it from what it counts. (claims.lua: call for pcall, no DEL.)
func TestCountingNeverPreventsARecovery(t *testing.T) {
	for name, spoil := range map[string]func(r *rig){
		"full":         func(r *rig) { r.full() },
		"another type": func(r *rig) { r.must(r.rdb.Set(r.Context(), suspects, "x", 0).Err()) },
		"no number": func(r *rig) {
			r.must(r.rdb.Del(r.Context(), suspects).Err())
			for _, sha := range []string{"356a192b7913b04c54574d18c28d46e6395428ab", "da4b9237bacccdf19c0760cab7aec4a8359010b0"} {
				r.must(r.rdb.HSet(r.Context(), suspects, sha, "x").Err())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := onReal(t)
			s := r.join()
			r.push(localQueue, "1", "2")
			r.take(s, msgbus.LocalQueue)
			spoil(r)
			s = r.crash()
			r.wantList(localQueue, "1", "2")
			wantEqual(r, "claim", r.take(s, msgbus.LocalQueue).Messages[0], "1")
		})
	}
}

// A full Redis empties only if what the relay ended with can be taken, given
// back and buried. (take.lua, tell.lua: leave out make_room.)
func TestSuspectsAreHandledWhenRedisIsFull(t *testing.T) {
	r := onReal(t)
	s := r.join()
	r.push(localQueue, "1", "2")
	r.take(s, msgbus.LocalQueue)
	claim := "msgbus.system.claim." + r.onlySession() + ".local"
	r.full()
	r.must(s.SetApart(r.Context(), &msgbus.Claim{Queue: msgbus.LocalQueue, Session: strings.Split(claim, ".")[3]}))
	c := r.take(s, msgbus.LocalQueue)
	wantEqual(r, "claim", fmt.Sprint(c.Messages), "[1]")
	wantEqual(r, "claim, handed out again", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), "[1]")
	_, err := s.Bury(r.Context(), c, 0, msgbus.Refuse(msgbus.Poison, "x"))
	r.must(err)
	r.must(s.Tell(r.Context(), "app.ret", []byte("error")))
	r.wantList("app.ret", "error")
	r.must(s.Drop(r.Context(), c))
	wantEqual(r, "rest", fmt.Sprint(r.drain(s, localQueue)), "[[2]]")
}

// A relay that crashes all the time for reasons of its own fills Redis with
// suspects. (claims.lua: leave out the comparison with SUSPECTS_MOST.)
func TestSuspectsAreBounded(t *testing.T) {
	onBoth(t, func(r *rig) {
		pipe := r.rdb.Pipeline()
		for n := range 10_000 {
			pipe.HSet(r.Context(), suspects, fmt.Sprint("field ", n), 1)
		}
		_, err := pipe.Exec(r.Context())
		r.must(err)
		s := r.join()
		r.push(localQueue, "1", "2")
		r.take(s, msgbus.LocalQueue)
		r.crash()
		wantEqual(r, "suspects", r.rdb.HLen(r.Context(), suspects).Val(), 10_000)
		r.wantList(localQueue, "1", "2")
	})
}

// What cannot be sent from a lane, whatever one tries, is kept and comes no more.
func TestBuriedParcelIsKeptAndComesNoMore(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.admit(s, request(1003))
		r.refuseArrival(s, 1003, sample, 1)
		for _, p := range r.fetch(s, 1003).Parcels {
			r.must(s.BuryParcel(r.Context(), p, msgbus.Refuse(msgbus.Poison, "x")))
		}
		wantEqual(r, "dead letters", len(r.dead()), 2)
		wantEqual(r, "batch", ids(r.fetch(s, 1003)), "[]")
		wantEqual(r, "kept deadlines", r.rdb.ZCard(r.Context(), "msgbus.system.deadlines").Val()+r.rdb.ZCard(r.Context(), "msgbus.system.replies.deadlines").Val(), 0)
	})
}
