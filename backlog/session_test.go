package backlog_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// sessions returns the names of the sessions that Redis knows, oldest end first.
func (r *rig) sessions() []string {
	r.Helper()
	names, err := r.rdb.ZRange(r.Context(), "msgbus.system.sessions", 0, -1).Result()
	r.must(err)
	return names
}

// onlySession returns the name of the one session there is.
func (r *rig) onlySession() string {
	r.Helper()
	names := r.sessions()
	wantEqual(r, "sessions", len(names), 1)
	return names[0]
}

func (r *rig) recover(s *backlog.Store, want int) {
	r.Helper()
	n, err := s.Recover(r.Context())
	r.must(err)
	wantEqual(r, "messages given back", n, want)
}

// After kill -9 and a restart the messages that were being handled are gone,
// or come behind younger ones.
func TestJoinGivesTheClaimsOfItsOwnPastBackAtOnce(t *testing.T) {
	onBoth(t, func(r *rig) {
		dead := r.join()
		r.push(localQueue, "1", "2", "3")
		r.push(replyQueue, "a")
		r.push("msgbus.system.remote", "z")
		c := r.take(dead, msgbus.LocalQueue)
		r.must(dead.Refuse(r.Context(), c, 1, refusal(), "app.ret", []byte("error"), false))
		r.take(dead, msgbus.ReplyQueue)
		_, err := dead.Take(r.Context(), msgbus.RemoteQueue)
		r.must(err)
		r.push(localQueue, "4")

		s := r.join()
		r.wantList(localQueue, "1", "3", "4")
		r.wantList(replyQueue, "a")
		r.wantList("msgbus.system.remote", "z")
		wantEqual(r, "taken", fmt.Sprint(r.drain(s, localQueue)), "[[1] [3] [4]]")
	})
}

// Two relays on one Redis hand out each other's messages while both are well,
// or those of a dead one wait for ever.
func TestClaimsOfAnotherRelayComeBackWhenItsLeaseEnds(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		r.push(localQueue, "1", "2")
		r.take(a, msgbus.LocalQueue)

		r.recover(b, 0)
		r.advance(9 * time.Second)
		r.recover(b, 0)
		r.must(a.Renew(r.Context()))
		r.must(b.Renew(r.Context()))
		r.advance(9 * time.Second)
		r.recover(b, 0)
		r.advance(2 * time.Second)
		r.recover(b, 2)
		r.wantList(localQueue, "1", "2")
		r.wantErr(a.Renew(r.Context()), msgbus.ErrFenced)
	})
}

// A relay that was stopped for a minute and goes on sends, answers or drops
// what another relay has taken over: apps get two replies or none.
func TestFencedSessionChangesNothing(t *testing.T) {
	onBoth(t, func(r *rig) {
		old := r.join()
		uids := r.admit(old, request(1002))
		entry := r.entry(old, uids[0])
		r.push(localQueue, "one")
		r.push(replyQueue, "reply")
		c, replies := r.take(old, msgbus.LocalQueue), r.take(old, msgbus.ReplyQueue)
		wantEqual(r, "accepted", r.accept(old, 1003, sample, arrival(1)), "[accepted]")
		opens, err := old.Opens(r.Context(), []string{"1001.1"})
		r.must(err)
		r.join()

		ctx := r.Context()
		for name, step := range map[string]func() error{
			"Take":   func() error { _, err := old.Take(ctx, msgbus.LocalQueue); return err },
			"Admit":  func() error { _, err := old.Admit(ctx, c, []msgbus.Admission{{Message: request(1002)}}); return err },
			"Refuse": func() error { return old.Refuse(ctx, c, 0, refusal(), "app.ret", []byte("e"), true) },
			"Drop":   func() error { return old.Drop(ctx, c) },
			"Answer": func() error {
				_, err := old.Answer(ctx, replies, []msgbus.Answer{{Entry: entry, Body: []byte("a")}})
				return err
			},
			"Depart": func() error {
				_, err := old.Depart(ctx, replies, []msgbus.Departure{{Open: &opens[0][0], Body: []byte("b")}})
				return err
			},
			"Fetch": func() error { _, err := old.Fetch(ctx, 1002); return err },
			"Renew": func() error { return old.Renew(ctx) },
		} {
			r.unchanged(name, func() {
				if err := step(); err == nil {
					r.Errorf("%s of an ended session succeeds", name)
				} else {
					r.wantErr(err, msgbus.ErrFenced)
				}
			})
		}
	})
}

// A relay whose session ended joins again and finishes what it had taken
// before, although that has gone back to the queue: it is handled twice.
func TestClaimOfAnEarlierSessionStaysFencedAfterJoiningAgain(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		r.push(localQueue, "one")
		c := r.take(a, msgbus.LocalQueue)
		r.advance(11 * time.Second)
		r.recover(b, 1)
		r.must(a.Join(r.Context()))

		r.unchanged("Admit", func() {
			_, err := a.Admit(r.Context(), c, []msgbus.Admission{{Message: request(1002)}})
			r.wantErr(err, msgbus.ErrFenced)
		})
		wantEqual(r, "claim", fmt.Sprint(r.take(a, msgbus.LocalQueue).Messages), "[one]")
	})
}

// Nothing may be taken before Join, or nobody would ever find the claim.
func TestNothingIsTakenBeforeJoin(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.open()
		r.push(localQueue, "one")
		_, err := s.Take(r.Context(), msgbus.LocalQueue)
		r.wantErr(err, msgbus.ErrFenced)
		r.wantList(localQueue, "one")
	})
}

// Two processes of one instance name throw each other out for ever.
func TestOlderProcessOfAnInstanceIsToldThatItIsSuperseded(t *testing.T) {
	onBoth(t, func(r *rig) {
		old := r.join()
		young := r.join()
		r.wantErr(old.Join(r.Context()), msgbus.ErrSuperseded)
		r.must(young.Renew(r.Context()))
		r.must(young.Join(r.Context()))
		r.wantErr(old.Join(r.Context()), msgbus.ErrSuperseded)
	})
}

// A connection that broke at the wrong moment makes the relay end itself,
// blaming another process that does not exist.
func TestJoinWhoseAnswerWasLostCanBeRepeated(t *testing.T) {
	onBoth(t, func(r *rig) {
		link := newLink(r)
		direct := r.url
		r.url = link.url()
		s := r.join()
		r.url = direct

		link.swallow()
		if err := s.Join(r.Context()); err == nil {
			r.Fatal("Join succeeds without an answer")
		}
		link.mend()
		eventually(r, "join over the mended link", func() bool {
			err := s.Join(r.Context())
			if err != nil && strings.Contains(err.Error(), "another relay") {
				r.Fatal(err)
			}
			return err == nil
		})
		r.must(s.Renew(r.Context()))
	})
}

// Redis serves the blocked BLMOVE of a relay that was killed: the message is
// in a claim that everybody has forgotten.
func TestMessageServedToADeadRelayIsFound(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		r.join(instance("dead"))
		claim := "msgbus.system.claim." + r.onlySession() + ".local"
		b := r.join(instance("b"))
		serve := func(message string) {
			r.push(localQueue, message)
			r.must(r.rdb.LMove(r.Context(), localQueue, claim, "LEFT", "RIGHT").Err())
		}
		r.advance(9 * time.Second)
		r.must(b.Renew(r.Context()))
		r.advance(2 * time.Second) // the lease is over by a second
		r.recover(b, 0)
		serve("first")
		r.recover(b, 1)
		r.advance(time.Second) // two block times are not over
		serve("second")
		r.recover(b, 1)
		wantEqual(r, "sessions", len(r.sessions()), 2)
		r.advance(4 * time.Second)
		serve("third")
		r.recover(b, 1) // not forgotten while there was something
		wantEqual(r, "sessions", len(r.sessions()), 2)
		r.recover(b, 0)
		wantEqual(r, "sessions", len(r.sessions()), 1)
		r.must(b.Renew(r.Context()))
	})
}

// The same for a relay that was only stopped, goes on, and is served then: it
// must bring the message back itself.
func TestRelayThatWasFencedWhileItWaitedBringsItsMessageBack(t *testing.T) {
	onBoth(t, func(r *rig) {
		old := r.join()
		name := r.onlySession()
		ended := make(chan error, 1)
		go func() {
			_, err := old.Take(r.Context(), msgbus.LocalQueue)
			for ; err == nil; _, err = old.Take(r.Context(), msgbus.LocalQueue) {
			}
			ended <- err
		}()
		r.waitForTaker()
		// Fenced and forgotten, as long after its end.
		r.must(r.rdb.ZRem(r.Context(), "msgbus.system.sessions", name).Err())
		r.push(localQueue, "one")
		r.wantErr(<-ended, msgbus.ErrFenced)
		r.wantList(localQueue, "one")
	})
}

// An operator empties Redis while the relay waits for messages: the next one is
// moved to a claim of a session that Redis no longer knows.
func TestMessageServedAfterFlushAllIsFoundByJoin(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		claim := "msgbus.system.claim." + r.onlySession() + ".local"
		r.must(r.rdb.FlushAll(r.Context()).Err())
		r.push(localQueue, "one")
		r.must(r.rdb.LMove(r.Context(), localQueue, claim, "LEFT", "RIGHT").Err())
		r.wantErr(s.Renew(r.Context()), msgbus.ErrFenced)
		r.must(s.Join(r.Context()))
		r.wantList(localQueue, "one")
	})
}

// A relay that is stopped in order keeps its messages from the others until
// its lease ends.
func TestLeaveGivesClaimsBackAtOnce(t *testing.T) {
	onBoth(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		r.push(localQueue, "1", "2")
		r.take(a, msgbus.LocalQueue)
		r.must(a.Leave(r.Context()))
		wantEqual(r, "claim of the other", fmt.Sprint(r.take(b, msgbus.LocalQueue).Messages), "[1 2]")
		_, err := a.Take(r.Context(), msgbus.LocalQueue)
		r.wantErr(err, msgbus.ErrFenced)
		r.must(a.Join(r.Context()))
	})
}

// Leave of a relay that never joined, as after a failed start, is no error.
func TestLeaveBeforeJoinDoesNothing(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.open()
		r.unchanged("Leave", func() { r.must(s.Leave(r.Context())) })
	})
}

// Somebody overwrote a queue with another type: what was taken from it must
// survive until somebody repairs it.
func TestRecoverKeepsAClaimWhoseQueueIsNoList(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		r.push(localQueue, "1")
		r.take(a, msgbus.LocalQueue)
		r.must(r.rdb.Set(r.Context(), localQueue, "oops", 0).Err())
		r.advance(20 * time.Second)
		r.recover(b, 0)
		r.advance(20 * time.Second)
		r.recover(b, 0)
		r.must(r.rdb.Del(r.Context(), localQueue).Err())
		r.recover(b, 1)
		r.wantList(localQueue, "1")
	})
}

// Deadlines shown to people and sent to peers follow the relay's clock instead
// of Redis's.
func TestNowIsTheClockOfRedis(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		r.advance(48 * time.Hour)
		s := r.join()
		ahead := s.Now().Sub(r.now()).Abs()
		if ahead > time.Minute {
			r.Fatalf("Now is %v from Redis's clock", ahead)
		}
		r.advance(48 * time.Hour)
		r.wantErr(func() error { _ = s.Renew(r.Context()); return s.Renew(r.Context()) }(), nil)
		if ahead := s.Now().Sub(r.now()).Abs(); ahead > time.Minute {
			r.Fatalf("after a Renew, Now is %v from Redis's clock", ahead)
		}
	})
}

// With several relays on one queue each message goes to exactly one.
func TestRelaysOfOneQueueShareIt(t *testing.T) {
	onBoth(t, func(r *rig) {
		const total, takers = 500, 4
		r.push(localQueue, numbered(total)...)
		got := make(chan []string, takers)
		for i := range takers {
			s := r.join(instance(fmt.Sprint(i)), func(o *backlog.Options) { o.MaxTake = 7 })
			go func() {
				var mine []string
				for {
					c, err := s.Take(context.WithoutCancel(r.Context()), msgbus.LocalQueue)
					if err != nil || len(c.Messages) == 0 {
						break
					}
					mine = append(mine, c.Messages...)
					if s.Drop(context.WithoutCancel(r.Context()), c) != nil {
						break
					}
				}
				got <- mine
			}()
		}
		var all []string
		for range takers {
			all = append(all, <-got...)
		}
		slices.Sort(all)
		want := numbered(total)
		slices.Sort(want)
		wantEqual(r, "taken", fmt.Sprint(all), fmt.Sprint(want))
	})
}
