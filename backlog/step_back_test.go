package backlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// The machine's clock is set back by an hour, and for an hour nothing is sent to
// twins whose lanes rested.
//
// Breaks it: leave bring_back out of lanes.lua; let fetch.lua not compare due
// with ARGV[7].
func TestLanesGoOnAfterAStepBack(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		uids := r.admit(s, request(1002), request(1004))
		for _, twin := range []uint32{1002, 1004} {
			r.fetch(s, twin)
			r.fail(s, twin, unreachable())
		}
		wantEqual(r, "lanes before the step", r.dueLanes(s), "ready [], failing []; more to come")
		r.step(-time.Hour)
		// By a relay that was told so before it asks which are due …
		wantEqual(r, "batch", ids(r.fetch(s, 1002)), fmt.Sprint(uids[:1]))
		// … and by one that asks.
		wantEqual(r, "lanes", r.dueLanes(s), "ready [], failing [1004]; more to come")
		wantEqual(r, "batch", ids(r.fetch(s, 1004)), fmt.Sprint(uids[1:]))
		r.fail(s, 1004, unreachable())
		wantEqual(r, "lanes that rest as they should", r.dueLanes(s), "ready [], failing []; more to come")
	})
}

// Replies wait for the clock to come to the time before which they may not be
// sent: an hour, or, out of order.
//
// Breaks it: leave either add_replies out of fetch.lua, or change their order.
func TestRepliesGoOnInOrderAfterAStepBack(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		want := []string{}
		for n := range uint64(12) {
			r.refuseArrival(s, 1003, sample, n+1)
			r.advance(time.Millisecond)
			want = append(want, fmt.Sprintf("1003 %s 1001.%d", sample, n+1))
		}
		r.step(-time.Hour)
		r.refuseArrival(s, 1003, sample, 20)
		got := r.fetch(s, 1003)
		wantEqual(r, "replies", ids(&msgbus.Batch{Parcels: got.Parcels[:12]}), fmt.Sprint(want))
		wantEqual(r, "and the later one", len(got.Parcels), 13)
	})
}

// The same for replies that a service gives only after the step, to a request
// from before it.
//
// Breaks it: leave math.min out of depart.lua.
func TestReplyToARequestFromBeforeAStepBackWaitsNoLonger(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		a := arrival(1)
		a.Digest, a.Now = "d1", r.now().Unix()
		r.accept(s, 1003, "", a)
		r.step(-time.Hour)
		r.depart(s, "1001.1", "reply")
		at := time.UnixMicro(int64(r.rdb.ZScore(r.Context(), "msgbus.system.lane.1003.replies", "1003 - 1001.1").Val()))
		r.within("time to send", at, r.now(), time.Second)
		r.advance(60 * time.Millisecond)
		wantEqual(r, "parcels", len(r.fetch(s, 1003).Parcels), 1)
	})
}

// The messages that a dead relay had taken come back an hour late.
//
// Breaks it: leave bring_back, or the loop after it, out of ended.lua.
func TestClaimsOfADeadRelayComeBackAfterAStepBack(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		a, b, c := r.join(instance("a")), r.join(instance("b")), r.join(instance("c"))
		r.push(localQueue, "1", "2")
		r.take(a, msgbus.LocalQueue)
		r.step(-time.Hour)
		r.recover(b, 0)
		r.advance(8 * time.Second) // all have a lease's time to renew
		r.must(b.Renew(r.Context()))
		r.recover(b, 0)
		r.must(c.Renew(r.Context()))
		r.advance(3 * time.Second)
		r.recover(b, 2)
		r.wantList(localQueue, "1", "2")
		r.wantErr(a.Renew(r.Context()), msgbus.ErrFenced)
		r.must(c.Renew(r.Context()))

		r.step(-time.Hour) // the dead session is not forgotten yet
		wantEqual(r, "sessions", len(r.sessions()), 3)
		r.recover(b, 0)
		r.advance(3 * time.Second) // more than two block times
		r.recover(b, 0)
		wantEqual(r, "sessions", len(r.sessions()), 2)
	})
}

// A source that has lately begun a new epoch sends what is left of the one
// before, too: each takes the other's place, and repeats are delivered again.
//
// Breaks it: leave `used - 2 ^ 52` out of accept.lua.
func TestLatestEpochsAreKeptAfterAStepBack(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		for _, old := range []string{"a1", "a2", "a3", "a4"} {
			r.accept(s, 1003, old, arrival(1))
			r.advance(time.Second)
		}
		r.step(-time.Hour)
		for _, epoch := range []string{"b1", "b2"} {
			wantEqual(r, "new in "+epoch, r.accept(s, 1003, epoch, arrival(1)), "[accepted]")
			r.advance(time.Second)
		}
		for _, epoch := range []string{"b1", "b2", "a4", "a3"} {
			wantEqual(r, "again in "+epoch, r.accept(s, 1003, epoch, arrival(1)), "[repeat]")
		}
	})
}

// The clock was years ahead when a request came, and was set right: it never
// ends.
//
// Breaks it: leave bring_back out of due.lua, due_replies.lua or
// close_open.lua.
func TestNothingLivesLongerThanItMayAfterAStepBack(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.MaxLife = 24 * time.Hour })
		uids := r.admit(s, request(1002))
		r.accept(s, 1003, sample, arrival(1))
		r.refuseArrival(s, 1004, sample, 1)
		r.step(-10 * 365 * 24 * time.Hour)
		r.wantHeld(s, -10*365*24*time.Hour)
		r.advance(61 * time.Second)
		r.wantNotHeld(s)
		_, err := s.ForgetExpired(r.Context())
		r.must(err)
		r.advance(24*time.Hour - time.Minute)
		r.wantNotHeld(s)
		wantEqual(r, "kept", r.kept(), "1 1 1")
		r.advance(2 * time.Minute)
		r.wantNotHeld(s, uids...)
		_, err = s.ForgetExpired(r.Context())
		r.must(err)
		wantEqual(r, "kept", r.kept(), "1 0 0")
	})
}
