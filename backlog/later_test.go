package backlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// putOff says that a peer takes parcels later.
func (r *rig) putOff(s *backlog.Store, twin uint32, after time.Duration, parcels ...msgbus.Parcel) {
	r.Helper()
	r.must(s.Settle(r.Context(), twin, msgbus.Settlement{Answered: true, PutOff: parcels, Why: msgbus.Deferral{
		Reason: msgbus.QueueFull, Detail: "full", After: after,
	}}))
}

// waits fails unless a lane has nothing to send for about so long.
func (r *rig) waits(s *backlog.Store, twin uint32, about time.Duration) {
	r.Helper()
	b := r.fetch(s, twin)
	if len(b.Parcels) > 0 || b.Wait > about || b.Wait < about-time.Second {
		r.Fatalf("the lane has %d parcels and waits for %v, want %v", len(b.Parcels), b.Wait, about)
	}
}

func requests(n int, twin uint32) (all []*msgbus.Message) {
	for range n {
		m := request(twin)
		m.Expiration = 3600
		all = append(all, m)
	}
	return all
}

// One full queue at a peer holds back all that goes to it; or what was put off
// comes back at once, never, or behind what is newer.
//
// Breaks it: in fetch.lua, without the ZREM from lanes, or with due = now there;
// in lanes.lua, without the look at lanes later.
func TestWhatIsPutOffLetsTheOthersGoAndComesBack(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease, o.MaxBatch = time.Hour, 4 })
		uids := r.admit(s, requests(6, 1002)...)
		b := r.fetch(s, 1002)
		r.putOff(s, 1002, 5*time.Second, b.Parcels[:3]...)
		r.settle(s, 1002, true, b.Parcels[3])
		r.wantSound(s, "with requests put off")
		b = r.fetch(s, 1002)
		wantEqual(r, "behind them", ids(b), fmt.Sprint(uids[4:]))
		r.settle(s, 1002, true, b.Parcels...)
		r.waits(s, 1002, 5*time.Second)
		wantEqual(r, "due lanes", r.dueLanes(s), "ready [], failing []; more to come")
		r.wantSound(s, "with nothing else on the lane")

		uids = append(uids[:3], r.admit(s, requests(1, 1002)...)...)
		wantEqual(r, "due lanes with a new request", r.dueLanes(s), "ready [1002], failing []; more to come")
		wantEqual(r, "the new request", ids(r.fetch(s, 1002)), fmt.Sprint(uids[3:]))
		r.advance(5 * time.Second)
		wantEqual(r, "due lanes in the end", r.dueLanes(s), "ready [1002], failing []; no more")
		r.wantSound(s, "when it is time again")
		b = r.fetch(s, 1002)
		wantEqual(r, "all, the oldest first", ids(b), fmt.Sprint(uids))
		wantEqual(r, "probe", b.Probe, false)
		r.settle(s, 1002, true, b.Parcels...)
		wantEqual(r, "the lane is empty", r.fetch(s, 1002).Wait < 0, true)
		left := r.rdb.Exists(r.Context(), "msgbus.system.lanes.later", "msgbus.system.lane.1002.later", "msgbus.system.lane.1002.tries").Val()
		wantEqual(r, "keys left", left, 0)
	})
}

// A queue at a peer has room again, and a thousand requests for it come back one
// batch a rest; or it has none, and all of them are sent again each time.
//
// Breaks it: in settle.lua, without NX; in fetch.lua, `most - 1` → -1, or without
// the ZREM of a rest that has passed.
func TestWhatWasPutOffComesBackInBatchesUntilItIsPutOffAgain(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease, o.MaxBatch = time.Hour, 3 })
		uids := r.admit(s, requests(9, 1002)...)
		for range 3 { // nothing that comes later prolongs the rest of the first
			b := r.fetch(s, 1002)
			r.putOff(s, 1002, 2*time.Second, b.Parcels...)
			r.advance(time.Second / 2)
		}
		r.waits(s, 1002, time.Second/2)
		r.advance(time.Second / 2)

		b := r.fetch(s, 1002)
		wantEqual(r, "the first batch that comes back", ids(b), fmt.Sprint(uids[:3]))
		r.settle(s, 1002, true, b.Parcels...)
		b = r.fetch(s, 1002)
		wantEqual(r, "the next, at once", ids(b), fmt.Sprint(uids[3:6]))
		r.settle(s, 1002, true, b.Parcels[0])
		r.putOff(s, 1002, 2*time.Second, b.Parcels[1:]...)
		r.waits(s, 1002, 2*time.Second)
		r.wantSound(s, "put off again")
		r.advance(2 * time.Second)
		wantEqual(r, "and after a rest", ids(r.fetch(s, 1002)), fmt.Sprint(uids[4:7]))
	})
}

// A peer asks for an hour, or for no time at all, and gets it.
func TestPutOffIsForASecondAtLeastAndForTheLongestRestAtMost(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		r.admit(s, requests(1, 1002)...)
		for asked, want := range map[time.Duration]time.Duration{0: time.Second, time.Hour: longestRest} {
			r.putOff(s, 1002, asked, r.fetch(s, 1002).Parcels...)
			r.waits(s, 1002, want)
			r.advance(want)
			r.dueLanes(s)
		}
		// Redis's clock is set back by more than any rest.
		r.putOff(s, 1002, time.Second, r.fetch(s, 1002).Parcels...)
		r.step(-time.Hour)
		wantEqual(r, "due lanes", r.dueLanes(s), "ready [1002], failing []; no more")
		wantEqual(r, "parcels", len(r.fetch(s, 1002).Parcels), 1)
		r.step(2 * time.Hour)
		r.putOff(s, 1002, time.Second, r.fetch(s, 1002).Parcels...)
		r.step(-time.Hour)
		wantEqual(r, "parcels for who does not ask which lanes are due", len(r.fetch(s, 1002).Parcels), 1)
	})
}

// What is put off runs out of the window meanwhile, and is lost as too old.
//
// Breaks it: in last_in_window of fetch.lua, without the lowest that is put off.
func TestNothingGoesAWindowAheadOfWhatIsPutOff(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		first := r.admit(s, requests(1, 1002)...)
		r.putOff(s, 1002, 5*time.Second, r.fetch(s, 1002).Parcels...)
		r.must(r.rdb.Set(r.Context(), "msgbus.counter.1002", backlog.Window-1, 0).Err())
		next := r.admit(s, requests(2, 1002)...)
		r.must(r.rdb.Set(r.Context(), "msgbus.counter.1002", 10*backlog.Window, 0).Err())
		far := r.admit(s, requests(1, 1002)...)
		b := r.fetch(s, 1002)
		wantEqual(r, "what is not a window ahead", ids(b), fmt.Sprint(next[:1]))
		r.settle(s, 1002, true, b.Parcels...)
		r.waits(s, 1002, 5*time.Second)
		r.wantSound(s, "with requests that wait for the one put off")
		r.advance(5 * time.Second)
		r.dueLanes(s)
		b = r.fetch(s, 1002)
		wantEqual(r, "the one put off", ids(b), fmt.Sprint(first))
		r.settle(s, 1002, true, b.Parcels...)
		b = r.fetch(s, 1002)
		wantEqual(r, "what waited for it", ids(b), fmt.Sprint(next[1:]))
		r.settle(s, 1002, true, b.Parcels...)
		wantEqual(r, "and the last", ids(r.fetch(s, 1002)), fmt.Sprint(far))
	})
}

// A request ends while it is put off, and comes back from the dead; its app is
// told that its twin cannot be reached.
//
// Breaks it: leave lane later out of Answer, or of discard; settle.lua without the
// ZREM from lane later; Causes without the look at lane later.
func TestWhatIsPutOffMayEnd(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		uids := r.admit(s, requests(5, 1002)...)
		b := r.fetch(s, 1002)
		r.fail(s, 1002, unreachable())
		r.must(s.Settle(r.Context(), 1002, msgbus.Settlement{PutOff: b.Parcels[:4], Why: msgbus.Deferral{Reason: msgbus.QueueFull, Detail: "full"}}))
		wantEqual(r, "why one is put off", r.cause(s, uids[0]), msgbus.Failure{Reason: msgbus.QueueFull, Detail: "full"})
		wantEqual(r, "why another waits", r.cause(s, uids[4]), unreachable())

		wantEqual(r, "answered", r.answer(s, reply(r.entry(s, uids[0]), "reply")), "[answered]")
		wantEqual(r, "failed", r.answer(s, failure(r.entry(s, uids[1]), "expired")), "[failed]")
		r.must(s.BuryParcel(r.Context(), b.Parcels[2], refusal()))
		r.settle(s, 1002, true, b.Parcels[3]) // another relay had sent it
		r.wantSound(s, "when all have ended")
		r.putOff(s, 1002, time.Second, b.Parcels[:4]...)
		r.wantSound(s, "when a slow relay puts them off")
		wantEqual(r, "put off", r.rdb.Exists(r.Context(), "msgbus.system.lane.1002.later").Val(), 0)
		r.advance(2 * time.Second)
		wantEqual(r, "on the lane", ids(r.fetch(s, 1002)), fmt.Sprint(uids[4:]))

		// The lane fails while one is put off: that counts for it, as for the others.
		m := request(1002)
		m.Retry = 0
		uid := r.admit(s, m)
		b = r.fetch(s, 1002)
		r.putOff(s, 1002, time.Second, b.Parcels[1])
		wantEqual(r, "ended by the lane's failure", r.fail(s, 1002, unreachable()), fmt.Sprint([]string{uids[4], uid[0]}))
	})
}

// Redis is full: what the peer does not take must not hold back what it takes.
func TestFullRedisPutsOff(t *testing.T) {
	r := onReal(t)
	s := r.join()
	uids := r.admit(s, requests(2, 1002)...)
	b := r.fetch(s, 1002)
	r.full()
	r.putOff(s, 1002, time.Second, b.Parcels[0])
	r.wantSound(s, "when Redis is full")
	wantEqual(r, "the other", ids(r.fetch(s, 1002)), fmt.Sprint(uids[1:]))
	eventually(r, "it comes back", func() bool { return len(r.fetch(s, 1002).Parcels) == 2 })
}
