package backlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// serving tells who serves commands.
func (r *rig) serving(s *backlog.Store, commands ...string) string {
	r.Helper()
	services, err := s.Serving(r.Context(), commands)
	r.must(err)
	return fmt.Sprint(services)
}

// lastTaken says that a service was last seen to take so long ago.
func (r *rig) lastTaken(cmd string, ago time.Duration) {
	r.Helper()
	r.must(r.rdb.ZAdd(r.Context(), servedKey, redis.Z{Score: float64(r.now().Add(-ago).UnixMilli()), Member: cmd}).Err())
}

// An app that does not want to wait for a service is told that there is none, though there
// is, or waits for one that is long gone.
//
// Breaks it: in serving.lua, without the look at announced, at taken_lately, or at the
// length; with every score for that of a live one; in taken_lately, without math.abs.
func TestWhoServesACommandIsKnown(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.announce("c1", "announced", "both")
		r.announce("c2", "announced")
		r.announce("c3", "gone")
		r.dies("c3")
		r.lastTaken("both", time.Hour)
		r.lastTaken("idle", 24*time.Hour)
		r.lastTaken("busy", 30*time.Second)
		r.push("msgbus.busy", nth(1))
		r.lastTaken("hangs", 61*time.Second)
		r.push("msgbus.hangs", nth(1))
		r.lastTaken("early", -time.Hour) // before Redis's clock was set back
		r.push("msgbus.early", nth(1))
		r.accept(s, 1003, sample, to("new", 1))
		r.must(r.rdb.Set(r.Context(), "msgbus.odd", "x", 0).Err())
		r.lastTaken("odd", time.Hour)
		r.giveBack(s)
		wantEqual(r, "services", r.serving(s, "announced", "both", "gone", "idle", "busy", "hangs", "early", "new", "never", "odd", "announced"),
			"[{announced 2 false} {both 1 false} {gone 0 false} {idle 0 true} {busy 0 true} {hangs 0 false} {early 0 false} "+
				"{new 0 false} {never 0 false} {odd 0 false} {announced 2 false}]")
		services, err := s.Commands(r.Context(), 100)
		r.must(err)
		wantEqual(r, "commands", fmt.Sprint(services), "[{announced 2 false} {both 1 false} {busy 0 true} {idle 0 true}]")
		services, err = s.Commands(r.Context(), 2)
		r.must(err)
		wantEqual(r, "two commands", fmt.Sprint(services), "[{announced 2 false} {both 1 false}]")
		services, err = s.Serving(r.Context(), nil)
		r.must(err)
		wantEqual(r, "no commands", len(services), 0)
	})
}

// The last service of a command ends, and apps that do not want to wait wait for it, since
// it was once seen to take.
//
// Breaks it: in give_back.lua, without note_announced; in note_taken, with the half ms that
// stood there.
func TestWhatAnAnnouncedServiceTookDoesNotOutliveIt(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.accept(s, 1003, sample, to("x", 1))
		r.announce("c1", "x")
		request := r.moveTo("c1", "x", 1)[0]
		r.takeStock(s)
		wantEqual(r, "in the first second", r.serving(s, "x"), "[{x 1 true}]")
		r.giveBack(s)
		wantEqual(r, "while it lives", r.serving(s, "x"), "[{x 1 false}]")
		r.must(r.rdb.LRem(r.Context(), takenBy("c1", "x"), 1, request).Err())
		r.must(r.rdb.Del(r.Context(), leaseOf("c1"), consumersKey).Err())
		wantEqual(r, "when it has stopped", r.serving(s, "x"), "[{x 0 false}]")

		// One that has not announced itself takes over.
		r.lastTaken("x", 2*time.Minute)
		r.must(r.rdb.ZIncrBy(r.Context(), servedKey, 0.5, "x").Err())
		r.accept(s, 1003, sample, to("x", 2))
		r.serve("x")
		wantEqual(r, "when another takes", r.serving(s, "x"), "[{x 0 true}]")
	})
}

// A service with nothing but BLPOP counts for as long as it takes, and a relay that does
// not see it take tells apps that there is none. Or it writes with every request.
//
// Breaks it: in accept.lua, depart.lua or proxy.lua, without note_taken; in note_taken, without
// the look at taken_lately, or at score and without XX; in accept.lua or proxy.lua, without
// the look at the length.
func TestServiceIsSeenToTake(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		seenNow := func(what, cmd string, want bool) {
			r.Helper()
			score := r.rdb.ZScore(r.Context(), servedKey, cmd).Val()
			if got := time.Since(time.UnixMilli(int64(score))) < time.Minute; got != want {
				t.Errorf("%s: it was seen to take now: %v", what, got)
			}
		}
		number := uint64(0)
		request := func(cmd string) {
			r.Helper()
			number++
			wantEqual(r, "outcome", r.accept(s, 1003, sample, to(cmd, number), to(cmd, number+1)), "[accepted accepted]")
			number++
		}
		r.lastTaken("x", 2*time.Minute)
		request("x")
		seenNow("an empty queue", "x", true)
		r.lastTaken("x", 2*time.Minute)
		request("x")
		seenNow("a queue that is not empty", "x", false)
		r.depart(s, msgbus.FormatUID(self, number), "reply")
		seenNow("a reply", "x", true)

		r.lastTaken("y", 30*time.Second)
		before := r.rdb.ZScore(r.Context(), servedKey, "y").Val()
		request("y")
		r.depart(s, msgbus.FormatUID(self, number), "reply")
		wantEqual(r, "seen 30 s ago", r.rdb.ZScore(r.Context(), servedKey, "y").Val(), before)

		r.lastTaken("z", 2*time.Minute)
		r.push("msgbus.z", nth(1))
		r.proxy(s, "q1", "d1", "z")
		seenNow("a command, and a queue that is not empty", "z", false)
		r.serve("z")
		r.proxy(s, "q2", "d2", "z")
		seenNow("a command", "z", true)

		request("new")
		r.depart(s, msgbus.FormatUID(self, number), "reply")
		wantEqual(r, "a command of which nothing was seen before", r.rdb.ZScore(r.Context(), servedKey, "new").Err(), error(redis.Nil))
	})
}

// An error in the place of a reply, since three services have ended, says that somebody
// serves the command.
//
// Breaks it: in depart.lua, note_taken without the look at ARGV 1.
func TestErrorInPlaceOfAReplyIsNoSignOfAService(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.lastTaken("x", 30*time.Second)
		r.accept(s, 1003, sample, to("x", 1), to("x", 2))
		r.lastTaken("x", 2*time.Minute)
		before := r.rdb.ZScore(r.Context(), servedKey, "x").Val()
		opens := r.opens(s, "1001.1")
		r.push(replyQueue, "one", "two")
		c := r.take(s, msgbus.ReplyQueue)
		out, err := s.Depart(r.Context(), nil, []msgbus.Departure{{Open: &opens[0], Body: []byte("error")}})
		r.must(err)
		wantEqual(r, "outcome", fmt.Sprint(out), "[sent]")
		wantEqual(r, "last taken", r.rdb.ZScore(r.Context(), servedKey, "x").Val(), before)
		wantEqual(r, "what was claimed meanwhile", fmt.Sprint(r.take(s, msgbus.ReplyQueue).Messages), fmt.Sprint(c.Messages))
		wantEqual(r, "what is open", len(r.opens(s, "1001.1"))+len(r.opens(s, "1001.2")), 1)
		r.wantSound(s, "in the end")
	})
}

// Somebody's key of another type keeps the relay from what it does for others.
//
// Breaks it: call for pcall in served_at.
func TestServedOfAnotherTypeLosesNoReply(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.accept(s, 1003, sample, to("x", 1))
		r.must(r.rdb.Set(r.Context(), servedKey, "x", 0).Err())
		r.depart(s, "1001.1", "reply")
		wantEqual(r, "replies", len(r.fetch(s, 1003).Parcels), 1)
		wantEqual(r, "services", r.serving(s, "x"), "[{x 0 false}]")
		r.must(r.rdb.Set(r.Context(), consumersKey, "x", 0).Err())
		wantEqual(r, "services", r.serving(s, "x"), "[{x 0 false}]")
		services, err := s.Commands(r.Context(), 10)
		r.must(err)
		wantEqual(r, "commands", len(services), 0)
	})
}
