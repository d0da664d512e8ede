package backlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

const longestRest = 20 * time.Second // as the design has it

func (r *rig) settle(s *backlog.Store, twin uint32, answered bool, parcels ...msgbus.Parcel) {
	r.Helper()
	r.must(s.Settle(r.Context(), twin, msgbus.Settlement{Answered: answered, Settled: parcels}))
}

func (r *rig) fail(s *backlog.Store, twin uint32, f msgbus.Failure) string {
	r.Helper()
	ended, err := s.Fail(r.Context(), twin, f)
	r.must(err)
	return uidsOf(ended)
}

// cause tells why a request has not been sent.
func (r *rig) cause(s *backlog.Store, uid string) msgbus.Failure {
	r.Helper()
	causes, err := s.Causes(r.Context(), []*msgbus.Entry{r.entry(s, uid)})
	r.must(err)
	return causes[0]
}

func uidsOf(entries []*msgbus.Entry) string {
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Message.UID)
	}
	return fmt.Sprint(out)
}

func unreachable() msgbus.Failure {
	return msgbus.Failure{Reason: msgbus.Unreachable, Detail: "no route"}
}

// refuseArrival puts an error reply on the lane to a source.
func (r *rig) refuseArrival(s *backlog.Store, source uint32, epoch string, n uint64) {
	r.Helper()
	a := arrival(n)
	a.IsReply, a.Body = true, []byte("error reply")
	wantEqual(r, "outcome", r.accept(s, source, epoch, a), "[accepted]")
}

// dueLanes says which lanes are due.
func (r *rig) dueLanes(s *backlog.Store) string {
	r.Helper()
	due, err := s.DueLanes(r.Context(), 10)
	r.must(err)
	coming := "no more"
	if due.Next > 0 {
		coming = "more to come"
	}
	return fmt.Sprintf("ready %v, failing %v; %s", due.Ready, due.Failing, coming)
}

// failing stands before the time in the scores of failing lanes.
const failing = 1_000_000_000_000_000

// wantDue fails unless the lane to 1002 is due in least to most, counted from
// a reading of Redis's clock before the step that set it.
func (r *rig) wantDue(before time.Time, least, most time.Duration) {
	r.Helper()
	due := time.UnixMilli(int64(r.rdb.ZScore(r.Context(), "msgbus.system.lanes", "1002").Val()) % failing)
	if due.Before(before.Add(least-time.Millisecond)) || due.After(r.now().Add(most)) {
		r.Fatalf("due %v after the failure, want %v to %v", due.Sub(before), least, most)
	}
}

// Requests overtake each other on the way to a twin, or one is sent that has
// left the lane.
func TestFetchKeepsTheOrderAndSettleTakesOff(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.MaxBatch = 5 })
		var all []*msgbus.Message
		for range 12 {
			all = append(all, request(1002))
		}
		uids := r.admit(s, all...)

		b := r.fetch(s, 1002)
		wantEqual(r, "first batch", ids(b), fmt.Sprint(uids[:5]))
		wantEqual(r, "probe", b.Probe, false)
		e, err := backlog.ParseEntry(b.Parcels[4].Body)
		r.must(err)
		wantEqual(r, "entry in the parcel", e.Message.UID, uids[4])
		wantEqual(r, "without settle", ids(r.fetch(s, 1002)), fmt.Sprint(uids[:5]))

		r.settle(s, 1002, true, b.Parcels[0], b.Parcels[2])
		wantEqual(r, "unsettled ones stay", ids(r.fetch(s, 1002)), fmt.Sprint([]string{uids[1], uids[3], uids[4], uids[5], uids[6]}))
		r.settle(s, 1002, true, b.Parcels...)
		r.settle(s, 1002, true, r.fetch(s, 1002).Parcels...)
		r.refuseArrival(s, 1002, sample, 7)
		last := r.fetch(s, 1002)
		wantEqual(r, "replies come before requests", ids(last), fmt.Sprint(append([]string{"1002 " + sample + " 1001.7"}, uids[10:12]...)))
		wantEqual(r, "reply", last.Parcels[0].Body, "error reply")
		r.settle(s, 1002, true, last.Parcels...)

		empty := r.fetch(s, 1002)
		wantEqual(r, "empty lane", fmt.Sprint(len(empty.Parcels), empty.Wait < 0), "0 true")
		r.entry(s, uids[0]) // stays until its reply
		wantEqual(r, "due lanes", r.dueLanes(s), "ready [], failing []; no more")
		wantEqual(r, "replies kept", r.rdb.Exists(r.Context(), "msgbus.system.replies").Val(), 0)
	})
}

// One batch of large messages fills the relay's memory or the peer's limit.
func TestBatchIsBoundedInBytes(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.MaxBatchBytes = 1000 })
		big := request(1002)
		big.Data = strings.Repeat("x", 600)
		r.admit(s, big, big, big, big)
		b := r.fetch(s, 1002)
		wantEqual(r, "messages", len(b.Parcels), 2)
		r.settle(s, 1002, true, b.Parcels[0])
		wantEqual(r, "messages", len(r.fetch(s, 1002).Parcels), 2)
	})
}

// A dead twin costs an attempt a message instead of one a back-off step.
func TestFailingLaneRestsAndThenSendsOneProbe(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		uids := r.admit(s, request(1002), request(1002), request(1002))
		r.fetch(s, 1002)
		for _, rest := range []time.Duration{1, 2, 4, 8, 16, 20, 20, 20} {
			rest *= time.Second
			before := r.now()
			r.fail(s, 1002, unreachable())
			r.wantDue(before, rest*8/10, rest*12/10)
			b := r.fetch(s, 1002)
			wantEqual(r, "parcels while the lane rests, and a wait", fmt.Sprint(len(b.Parcels), b.Wait > 0), "0 true")
			due, err := s.DueLanes(r.Context(), 10)
			r.must(err)
			wantEqual(r, "due lanes", fmt.Sprint(len(due.Ready), len(due.Failing), due.Next > 0 && due.Next <= rest*12/10), "0 0 true")
			r.advance(rest*12/10 + time.Second)
			wantEqual(r, "due lanes", r.dueLanes(s), "ready [], failing [1002]; no more")
			b = r.fetch(s, 1002)
			wantEqual(r, "batch", ids(b), fmt.Sprint(uids[:1]))
			wantEqual(r, "probe", b.Probe, true)
		}
		wantEqual(r, "failure", r.cause(s, uids[2]), unreachable())

		r.settle(s, 1002, true, r.fetch(s, 1002).Parcels...)
		b := r.fetch(s, 1002)
		wantEqual(r, "batch after success", ids(b), fmt.Sprint(uids[1:]))
		wantEqual(r, "probe after success", b.Probe, false)
		wantEqual(r, "failure after success", r.cause(s, uids[2]), msgbus.Failure{})
		before := r.now()
		r.fail(s, 1002, unreachable())
		r.wantDue(before, 800*time.Millisecond, 1200*time.Millisecond)
	})
}

// A reply's refusal that was settled without an answer of the peer ends the
// back-off, and a dead twin is called in a tight loop.
func TestSettlingWithoutAnAnswerKeepsTheLaneFailing(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		r.admit(s, request(1002), request(1002))
		b := r.fetch(s, 1002)
		r.fail(s, 1002, unreachable())
		r.settle(s, 1002, false, b.Parcels[0])
		r.advance(2 * time.Second)
		b = r.fetch(s, 1002)
		wantEqual(r, "probe", fmt.Sprint(len(b.Parcels), b.Probe), "1 true")
	})
}

// Every stranger that asks once and is not there for the answer costs a key of
// Redis for ever; or a twin that is asked and dead is known no more to be that.
func TestNothingStaysOfTheLaneOfAStranger(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		r.refuseArrival(s, 1002, sample, 7)
		uids := r.admit(s, request(1003))
		asked := "map[detail:no route epoch:" + r.entry(s, uids[0]).Epoch + " failing:1 failures:1 reason:unreachable]"
		for twin, left := range map[uint32]string{1002: "map[]", 1003: asked} {
			b := r.fetch(s, twin)
			r.fail(s, twin, unreachable())
			r.settle(s, twin, false, b.Parcels...)
			r.advance(2 * time.Second)
			wantEqual(r, "empty lane", r.fetch(s, twin).Wait < 0, true)
			lane := r.rdb.HGetAll(r.Context(), fmt.Sprintf("msgbus.system.lane.%d", twin)).Val()
			wantEqual(r, "what stays", fmt.Sprint(lane), left)
		}
	})
}

// A request with try=2 ends with its first failure, or never.
func TestTriesCountTheFailuresSinceAdmission(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		failOnce := func() string {
			r.Helper()
			r.advance(30 * time.Second)
			r.fetch(s, 1002)
			return r.fail(s, 1002, unreachable())
		}
		try := func(n int) *msgbus.Message {
			m := request(1002)
			m.Expiration, m.Retry = 3600, n
			return m
		}
		r.admit(s, try(100))
		failOnce()
		failOnce()
		uids := r.admit(s, try(0), try(2), try(1))
		r.advance(30 * time.Second)
		r.fetch(s, 1002)
		busy := msgbus.Failure{Reason: msgbus.PeerBusy, Rest: 5 * time.Second}
		wantEqual(r, "ended by a busy peer", r.fail(s, 1002, busy), "[]")
		wantEqual(r, "ended by the 1st failure", failOnce(), "["+uids[0]+"]")
		wantEqual(r, "by the 2nd, those not answered for once more", failOnce(), "["+uids[0]+" "+uids[2]+"]")
		left, err := s.Exhausted(r.Context(), 1002)
		r.must(err)
		wantEqual(r, "exhausted", uidsOf(left), "["+uids[0]+" "+uids[2]+"]")
		var answers []msgbus.Answer
		for _, e := range left {
			answers = append(answers, msgbus.Answer{Entry: e, Failed: true, Position: -1, Body: []byte("error")})
		}
		_, err = s.Answer(r.Context(), nil, answers)
		r.must(err)
		left, err = s.Exhausted(r.Context(), 1002)
		r.must(err)
		wantEqual(r, "exhausted after they ended", uidsOf(left), "[]")
		wantEqual(r, "ended by the 3rd", failOnce(), "["+uids[1]+"]")
	})
}

// The peer has accepted a request and works on it; then it is not reachable for
// others, and the app is told that its tries are used up.
func TestAcceptedRequestHasNoMoreTries(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		uids := r.admit(s, request(1002), request(1002))
		b := r.fetch(s, 1002)
		r.settle(s, 1002, true, b.Parcels[0])
		wantEqual(r, "ended", r.fail(s, 1002, unreachable()), "["+uids[1]+"]")
		r.entry(s, uids[0])
	})
}

// A peer that asks for a pause is called at once, or not for an hour.
func TestBusyPeerIsLeftAloneForAsLongAsItAskedUpToTheCap(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		uids := r.admit(s, request(1002), request(1002))
		for _, tc := range []struct{ asked, least, most time.Duration }{
			{5 * time.Second, 5 * time.Second, 6 * time.Second},
			{time.Hour, longestRest, longestRest * 12 / 10},
		} {
			r.fetch(s, 1002)
			before := r.now()
			r.fail(s, 1002, msgbus.Failure{Reason: msgbus.PeerBusy, Rest: tc.asked})
			r.wantDue(before, tc.least, tc.most)
			r.advance(tc.most)
			r.must(s.Renew(r.Context()))
			b := r.fetch(s, 1002)
			wantEqual(r, "batch, whole since nothing failed", ids(b), fmt.Sprint(uids))
			wantEqual(r, "probe", b.Probe, false)
		}
	})
}

// A twin that comes back, and shows it by writing to us, waits for its messages
// until the back-off ends.
func TestHastenEndsTheRestOfAFailingLane(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		hasten := func(want bool) {
			r.Helper()
			got, err := s.Hasten(r.Context(), 1002)
			r.must(err)
			wantEqual(r, "was resting", got, want)
		}
		hasten(false) // no lane at all
		uids := r.admit(s, request(1002))
		hasten(false) // due anyway
		r.fetch(s, 1002)
		hasten(false) // in service
		r.fail(s, 1002, unreachable())
		hasten(true)
		wantEqual(r, "due lanes", r.dueLanes(s), "ready [1002], failing []; no more") // and not behind failing ones
		wantEqual(r, "batch", ids(r.fetch(s, 1002)), fmt.Sprint(uids))
		hasten(false) // its probe is under way
		r.settle(s, 1002, true)
		r.fail(s, 1002, msgbus.Failure{Reason: msgbus.PeerBusy, Rest: time.Second})
		hasten(false) // it asked to be left alone
	})
}

// Thousands of failing lanes that are due hide one that can go on; or the one
// that became due first comes last.
//
// Broken by: in fetch.lua or fail.lua, without FAILING; in hasten.lua, without
// `and not apart`; in lanes.lua, without LIMIT, or ZREVRANGEBYSCORE.
func TestFailingLanesAreDueApartFromTheOthers(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		for _, twin := range []uint32{1002, 1003, 1004} {
			r.admit(s, request(twin))
			r.fetch(s, twin)
			r.fail(s, twin, unreachable())
			r.advance(2 * time.Second)
		}
		for _, twin := range []uint32{1006, 1005} {
			r.admit(s, request(twin))
			r.advance(time.Second)
		}
		wantEqual(r, "due lanes", r.dueLanes(s), "ready [1006 1005], failing [1002 1003 1004]; no more")
		two, err := s.DueLanes(r.Context(), 2)
		r.must(err)
		wantEqual(r, "two of each kind", fmt.Sprint(two.Ready, two.Failing), "[1006 1005] [1002 1003]")

		r.fetch(s, 1002) // its relay probes it
		wantEqual(r, "one in service", r.dueLanes(s), "ready [1006 1005], failing [1003 1004]; more to come")
		r.advance(2 * time.Second)
		wantEqual(r, "and offered again", r.dueLanes(s), "ready [1006 1005], failing [1003 1004 1002]; no more")
		r.admit(s, request(1003))
		r.fail(s, 1002, msgbus.Failure{Reason: msgbus.PeerBusy, Rest: time.Second})
		r.advance(2 * time.Second)
		wantEqual(r, "one that fails and then is busy", r.dueLanes(s), "ready [1006 1005], failing [1003 1004 1002]; no more")
		if _, err := s.Hasten(r.Context(), 1004); err != nil {
			r.Fatal(err)
		}
		wantEqual(r, "a twin that has shown itself", r.dueLanes(s), "ready [1006 1005 1004], failing [1003 1002]; no more")

		r.settle(s, 1003, true, r.fetch(s, 1003).Parcels...)
		r.fetch(s, 1003)
		r.advance(2 * time.Second)
		wantEqual(r, "one that was answered", r.dueLanes(s), "ready [1006 1005 1004 1003], failing [1002]; no more")
	})
}

// The session that lost a lane counts its failure against the requests that
// another relay is sending successfully.
func TestOnlyTheOwnerOfALaneCanFailIt(t *testing.T) {
	onBoth(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		r.admit(a, request(1002))
		r.fetch(a, 1002)
		r.unchanged("Fail", func() { wantEqual(r, "ended", r.fail(b, 1002, unreachable()), "[]") })
	})
}

// One message that the peer cannot take, whatever the others are, keeps them
// all waiting for as long as it may be tried.
func TestProbeOfAPeerThatFailsMovesOnAfterThree(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		poison := request(1002)
		poison.Retry = 100
		uids := r.admit(s, poison, poison)
		var probes []string
		for range 7 {
			probes = append(probes, r.fetch(s, 1002).Parcels[0].ID)
			r.fail(s, 1002, msgbus.Failure{Reason: msgbus.PeerFailed, Detail: "status 500"})
			r.advance(30 * time.Second)
		}
		wantEqual(r, "probes", fmt.Sprint(probes), fmt.Sprint([]string{uids[0], uids[0], uids[0], uids[1], uids[1], uids[1], uids[0]}))
	})
}
