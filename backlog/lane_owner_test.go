package backlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// Two relays on one Redis send the same messages, and break their order.
func TestLaneIsServedByOneSession(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		uids := r.admit(a, request(1002))
		wantEqual(r, "owner", ids(r.fetch(a, 1002)), fmt.Sprint(uids))
		hold := func() {
			r.Helper()
			other := r.fetch(b, 1002)
			if len(other.Parcels) > 0 || other.Wait == 0 {
				r.Fatalf("another relay gets %d parcels and waits %v", len(other.Parcels), other.Wait)
			}
			wantEqual(r, "lanes due for another", r.dueLanes(b), "ready [], failing []; more to come")
		}
		hold()
		r.advance(8 * time.Second)
		r.must(a.Renew(r.Context()))
		r.must(b.Renew(r.Context()))
		r.advance(3 * time.Second) // the lane is offered, and its owner lives
		hold()
		wantEqual(r, "owner, again", ids(r.fetch(a, 1002)), fmt.Sprint(uids))
		r.settle(a, 1002, true, r.fetch(a, 1002).Parcels...)
		r.fetch(a, 1002) // empty: the lane is free

		uids = r.admit(b, request(1002))
		wantEqual(r, "the next to come", ids(r.fetch(b, 1002)), fmt.Sprint(uids))
	})
}

// The lanes of a relay that was killed stand still for ever.
func TestLaneOfADeadSessionIsTakenOver(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		uids := r.admit(a, request(1002))
		r.fetch(a, 1002)
		r.advance(9 * time.Second)
		r.must(b.Renew(r.Context()))
		r.advance(2 * time.Second)
		r.recover(b, 0)
		wantEqual(r, "due lanes", r.dueLanes(b), "ready [1002], failing []; no more")
		wantEqual(r, "batch", ids(r.fetch(b, 1002)), fmt.Sprint(uids))
	})
}

// After kill -9 and a restart the relay's own lanes stand still until the
// killed process would have lost them anyway.
func TestLaneOfTheOwnPastIsServedAtOnce(t *testing.T) {
	onBoth(t, func(r *rig) {
		dead := r.join()
		uids := r.admit(dead, request(1002))
		r.fetch(dead, 1002)
		wantEqual(r, "batch", ids(r.fetch(r.join(), 1002)), fmt.Sprint(uids))
	})
}

// A peer can tell repeats among W numbers only: what is sent further ahead is
// delivered twice or refused.
func TestLaneStaysWithinTheWindowOfItsOldestRequest(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		first := r.admit(s, request(1002), request(1002))
		r.must(r.rdb.Set(r.Context(), "msgbus.counter.1002", backlog.Window-2, 0).Err())
		edge := r.admit(s, request(1002), request(1002), request(1002), request(1002))
		wantEqual(r, "numbers up to W-1 above 1", edge[1], fmt.Sprint("1002.", backlog.Window))

		b := r.fetch(s, 1002)
		wantEqual(r, "batch", ids(b), fmt.Sprint([]string{first[0], first[1], edge[0], edge[1]}))
		r.settle(s, 1002, true, b.Parcels[1:]...)
		wantEqual(r, "batch while the oldest stays", ids(r.fetch(s, 1002)), fmt.Sprint(first[:1]))
		r.settle(s, 1002, true, b.Parcels[0])
		wantEqual(r, "batch after", ids(r.fetch(s, 1002)), fmt.Sprint(edge[2:]))
	})
}

// Somebody removed an entry by hand: the lane sends nothing, or for ever tries
// to end what is not there.
func TestUidWithoutEntryLeavesTheLane(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		var all []*msgbus.Message
		for range 300 {
			all = append(all, request(1002))
		}
		uids := r.admit(s, all...)
		for _, uid := range uids[:299] {
			r.must(r.rdb.HDel(r.Context(), "msgbus.system.backlog", uid).Err())
		}
		r.refuseArrival(s, 1002, sample, 1)
		r.must(r.rdb.Del(r.Context(), "msgbus.system.replies").Err())

		r.admit(s, request(1004), request(1004))
		r.fetch(s, 1004)
		r.must(r.rdb.HDel(r.Context(), "msgbus.system.backlog", "1004.1").Err())
		wantEqual(r, "ended", r.fail(s, 1004, unreachable()), "[1004.2]")
		r.must(r.rdb.HDel(r.Context(), "msgbus.system.backlog", "1004.2").Err())
		left, err := s.Exhausted(r.Context(), 1004)
		r.must(err)
		wantEqual(r, "exhausted", len(left), 0)
		wantEqual(r, "tries kept", r.rdb.Exists(r.Context(), "msgbus.system.lane.1004.tries").Val(), 0)

		var b *msgbus.Batch
		for range 4 {
			if b = r.fetch(s, 1002); len(b.Parcels) > 0 {
				break
			}
			wantEqual(r, "wait", b.Wait, 0)
		}
		wantEqual(r, "batch", ids(b), fmt.Sprint(uids[299:]))
		wantEqual(r, "tries kept", r.rdb.ZCard(r.Context(), "msgbus.system.lane.1002.tries").Val(), 1)
		r.settle(s, 1002, true, b.Parcels...)
		wantEqual(r, "empty lane", r.fetch(s, 1002).Wait < 0, true)
	})
}

// A published relay writes its backlog after our 200, and loses a reply that
// is faster.
func TestReplyToAPublishedRelayWaits50Milliseconds(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		a := arrival(1)
		a.Digest, a.Now, a.IsReply, a.Body = "d1", r.now().Unix(), true, []byte("error")
		wantEqual(r, "outcome", r.accept(s, 1003, "", a), "[accepted]")
		a.Digest, a.IsReply, a.UID = "d2", false, "1001.2"
		wantEqual(r, "outcome", r.accept(s, 1003, "", a), "[accepted]")
		accepted := r.now()
		r.depart(s, "1001.2", "reply")
		r.refuseArrival(s, 1004, sample, 3) // to a relay of ours: at once

		for _, id := range []string{"1003 - 1001.1", "1003 - 1001.2"} {
			at := time.UnixMicro(int64(r.rdb.ZScore(r.Context(), "msgbus.system.lane.1003.replies", id).Val()))
			r.within("time to send "+id, at, accepted.Add(50*time.Millisecond), 49*time.Millisecond)
		}
		wantEqual(r, "reply to a relay of ours", len(r.fetch(s, 1004).Parcels), 1)
		if r.real == nil { // a real clock goes on by itself, and may be past it
			b := r.fetch(s, 1003)
			wantEqual(r, "parcels at once", len(b.Parcels), 0)
			wantEqual(r, "wait in ms", b.Wait.Milliseconds(), 50)
		}
		r.advance(60 * time.Millisecond)
		wantEqual(r, "parcels after 60 ms", len(r.fetch(s, 1003).Parcels), 2)
	})
}
