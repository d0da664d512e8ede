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

func (r *rig) lane(s *backlog.Store, twin uint32) backlog.LaneView {
	r.Helper()
	v, err := s.ViewLane(r.Context(), twin)
	r.must(err)
	return v
}

func (r *rig) request(s *backlog.Store, uid string) backlog.RequestView {
	r.Helper()
	v, err := s.ViewRequest(r.Context(), uid)
	r.must(err)
	return v
}

// An operator asks where a message is, and is told that it waits while its twin has it,
// or that it is fine while its twin is dead.
func TestRequestIsSeenWhereItIs(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		m := request(1002)
		m.Data, m.Retry = "TVE9PQ==", 3
		uid := r.admit(s, m)[0]
		v := r.request(s, uid)
		wantEqual(r, "before its turn", v.State, backlog.RequestWaiting)
		wantEqual(r, "its command, twin and tries", fmt.Sprint(v.Command, v.Twin, v.TriesLeft, v.ReturnQueue), fmt.Sprint("calc.add", 1002, 3, "app.ret"))
		if v.Deadline.Sub(v.Admitted) != time.Minute {
			r.Errorf("it lives from %v to %v", v.Admitted, v.Deadline)
		}

		r.fetch(s, 1002)
		wantEqual(r, "lane while it is sent", r.lane(s, 1002).State, backlog.LaneSending)
		r.fail(s, 1002, unreachable())
		v, lane := r.request(s, uid), r.lane(s, 1002)
		wantEqual(r, "after a failure", fmt.Sprint(v.State, v.Reason, v.Detail, v.TriesLeft), fmt.Sprint("waiting", "unreachable", "no route", 2))
		wantEqual(r, "its lane", fmt.Sprint(lane.State, lane.Failures, lane.Requests, lane.Oldest), fmt.Sprint("failing", 1, 1, uid))
		if rest := lane.At.Sub(r.now()); rest <= 0 || rest > 2*time.Second {
			r.Errorf("the lane goes on in %v", rest)
		}

		_, err := s.ResumeLane(r.Context(), 1002)
		r.must(err)
		b := r.fetch(s, 1002)
		r.must(s.Settle(r.Context(), 1002, msgbus.Settlement{Answered: true, PutOff: b.Parcels, Why: msgbus.Deferral{Reason: msgbus.QueueFull, Detail: "full", After: time.Second}}))
		r.fetch(s, 1002)
		v, lane = r.request(s, uid), r.lane(s, 1002)
		wantEqual(r, "put off", string(v.State)+" "+string(v.Reason), "put_off queue_full")
		wantEqual(r, "its lane", fmt.Sprint(lane.State, lane.Requests, lane.PutOff, lane.Reason), fmt.Sprint("put_off", 1, 1, "queue_full"))

		_, err = s.ResumeLane(r.Context(), 1002)
		r.must(err)
		b = r.fetch(s, 1002)
		r.settle(s, 1002, true, b.Parcels...)
		v = r.request(s, uid)
		wantEqual(r, "sent", fmt.Sprint(v.State, v.Reason, v.TriesLeft), fmt.Sprint("sent", "", -1))

		outcomes, err := s.Answer(r.Context(), nil, []msgbus.Answer{{Entry: r.entry(s, uid), Failed: true, Reason: msgbus.Expired, Position: -1, Body: []byte("{}")}})
		r.must(err)
		wantEqual(r, "its end", fmt.Sprint(outcomes), "[failed]")
		_, err = s.ViewRequest(r.Context(), uid)
		r.wantErr(err, msgbus.ErrNotFound)
		past, err := s.ViewPast(r.Context(), uid)
		r.must(err)
		if len(past) != 1 || past[0].Served || past[0].Outcome != msgbus.FailedOutcome || past[0].Reason != msgbus.Expired || past[0].Began != v.Admitted {
			r.Errorf("it ended as %+v", past)
		}
	})
}

// A page of the backlog must not bring Redis or the relay to their limits because the
// messages are large.
func TestRequestIsSeenWithoutItsData(t *testing.T) {
	r := onReal(t)
	s := r.join()
	m := request(1002)
	m.Data = strings.Repeat("QUJD", 1<<18)
	uid := r.admit(s, m)[0]
	v := r.request(s, uid)
	if v.Bytes < 1<<20 || v.Command != "calc.add" {
		r.Errorf("a large request is seen as %+v", v)
	}
	m = request(1002)
	m.Data, m.ReturnQueue = "[1, \"\\\"dat\\\":\\\"QUJD\\\"\"]", "ret" // no base64, and a trap
	v = r.request(s, r.admit(s, m)[0])
	wantEqual(r, "ret of one with odd data", v.ReturnQueue, "ret")
}

// Of thousands of requests an operator wants those to one twin, in the order in which
// they end.
func TestRequestsArePagedByTheirEnd(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		var all []*msgbus.Message
		for n := range 30 {
			m := request(1002 + uint32(n%3))
			m.Expiration = int64(1000 - n)
			all = append(all, m)
		}
		uids := r.admit(s, all...)
		page := func(twin uint32, skip, most int) string {
			views, total, err := s.ViewRequests(r.Context(), twin, skip, most)
			r.must(err)
			wantEqual(r, "total", total, 30)
			var out []string
			for _, v := range views {
				out = append(out, v.UID)
			}
			return fmt.Sprint(out)
		}
		wantEqual(r, "the first", page(0, 0, 2), fmt.Sprint([]string{uids[29], uids[28]}))
		wantEqual(r, "the next", page(0, 2, 2), fmt.Sprint([]string{uids[27], uids[26]}))
		wantEqual(r, "of one twin", page(1002, 1, 2), fmt.Sprint([]string{uids[24], uids[21]}))
		wantEqual(r, "behind the last", page(1002, 10, 2), "[]")
	})
}

// An operator pauses the lane to a twin that misbehaves: nothing may go there, nothing
// may be lost, and everything must go when he lets it.
func TestPausedLaneSendsNothingUntilItIsResumed(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		first := r.admit(s, request(1002))[0]
		changed, err := s.PauseLane(r.Context(), 1002)
		r.must(err)
		wantEqual(r, "pausing changes something", changed, true)
		wantEqual(r, "what is fetched", ids(r.fetch(s, 1002)), "[]")
		r.refuseArrival(s, 1002, sample, 1)
		second := r.admit(s, request(1002))[0] // what comes has the lane looked at once more
		wantEqual(r, "what is fetched then", ids(r.fetch(s, 1002)), "[]")
		wantEqual(r, "lanes that are due", r.dueLanes(s), "ready [], failing []; no more")
		v := r.request(s, first)
		wantEqual(r, "the request", string(v.State)+" "+string(v.Reason), "waiting paused")
		lanes, err := s.ViewLanes(r.Context())
		r.must(err)
		if len(lanes) != 1 || lanes[0].State != backlog.LanePaused || lanes[0].Requests != 2 || lanes[0].Replies != 1 {
			r.Errorf("lanes: %+v", lanes)
		}
		report, err := s.Check(r.Context())
		r.must(err)
		if len(report.Findings) > 0 {
			r.Errorf("a paused lane is found fault with: %v", report.Findings)
		}
		changed, err = s.PauseLane(r.Context(), 1002)
		r.must(err)
		wantEqual(r, "pausing again changes something", changed, false)

		changed, err = s.ResumeLane(r.Context(), 1002)
		r.must(err)
		wantEqual(r, "resuming changes something", changed, true)
		wantEqual(r, "lanes that are due", r.dueLanes(s), "ready [1002], failing []; no more")
		wantEqual(r, "what is fetched", ids(r.fetch(s, 1002)), fmt.Sprintf("[1002 %s 1001.1 %s %s]", sample, first, second))
	})
}

// A service that is gone: its queue must be seen, with what waits in it, and apart from
// those that work.
func TestQueuesAreSeenWithWhoTakesFromThem(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push("msgbus.system.local", "{}", "{}", "{}")
		r.take(s, msgbus.LocalQueue)
		r.push("msgbus.system.local", "{}")
		wantEqual(r, "outcome", r.accept(s, 1002, sample, arrival(1), arrival(2)), "[accepted accepted]")
		r.must(r.rdb.Do(r.Context(), "ZADD", "msgbus.system.served", r.now().UnixMilli(), "echo").Err())
		r.must(r.rdb.Set(r.Context(), "msgbus.odd", "text", 0).Err())
		r.must(r.rdb.Do(r.Context(), "ZADD", "msgbus.system.served", 1, "odd").Err())
		r.announce("c1", "echo", "calc.sub", "odd")
		r.announce("c2", "calc.sub")
		r.announce("gone", "calc.sub")
		r.push(takenBy("c1", "echo"), nth(1), nth(2))
		r.push(takenBy("gone", "calc.sub"), nth(3))
		r.must(r.rdb.Set(r.Context(), takenBy("c1", "odd"), "text", 0).Err())
		r.must(r.rdb.ZAdd(r.Context(), consumersKey, redis.Z{Score: 1, Member: "gone calc.sub"}, redis.Z{Member: "none"}).Err())
		views, err := s.ViewQueues(r.Context())
		r.must(err)
		var out []string
		for _, v := range views {
			out = append(out, fmt.Sprintf("%s %t %d %d %d %t %t", v.Name, v.Service, v.Length, v.Claimed, v.Announced, v.Served.IsZero(), v.Unserved()))
		}
		wantEqual(r, "queues", strings.Join(out, "; "),
			"local false 1 3 0 true false; remote false 0 0 0 true false; reply false 0 0 0 true false; "+
				"echo true 0 2 1 false false; odd true -1 0 1 false false; calc.add true 2 0 0 true true; calc.sub true 0 1 2 true false")
		messages, err := s.ViewQueue(r.Context(), "calc.add", true, 1, 7)
		r.must(err)
		wantEqual(r, "its first message", fmt.Sprint(messages), "[request]")
	})
}

// A dead letter is mended and tried again: it must go where it came from, once, and not
// be buried as poison before anybody looks at it.
func TestDeadLetterGoesBackToWhereItCameFrom(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push("msgbus.system.local", "not JSON")
		c := r.take(s, msgbus.LocalQueue)
		_, err := s.Bury(r.Context(), c, 0, refusal())
		r.must(err)
		r.must(s.Drop(r.Context(), c))
		uid := r.admit(s, request(1002))[0]
		r.must(r.rdb.Set(r.Context(), "app.ret", "text", 0).Err())
		_, err = s.Answer(r.Context(), nil, []msgbus.Answer{{Entry: r.entry(s, uid), Position: -1, Body: []byte("the answer")}})
		r.must(err)

		letters, _, err := s.DeadLetters(r.Context(), "", "", 10, 3)
		r.must(err)
		var out []string
		for _, l := range letters {
			out = append(out, fmt.Sprintf("%s %s %s %q %d", l.Queue, l.Reason, l.To, l.Message, l.Bytes))
		}
		wantEqual(r, "dead letters", strings.Join(out, "; "), `reply wrong_type app.ret "the" 10; local malformed  "not" 8`)
		before, _, err := s.DeadLetters(r.Context(), letters[0].ID, "", 10, 3)
		r.must(err)
		wantEqual(r, "those before the first", len(before), 1)

		answer, bad := letters[0].ID, letters[1].ID
		if err := s.RetryDeadLetter(r.Context(), answer); err == nil || !strings.Contains(err.Error(), "app.ret is not a list") {
			r.Errorf("an answer goes to a key that is no list: %v", err)
		}
		r.must(r.rdb.Del(r.Context(), "app.ret").Err())
		r.must(s.RetryDeadLetter(r.Context(), answer))
		r.wantList("app.ret", "the answer")
		r.wantErr(s.RetryDeadLetter(r.Context(), answer), msgbus.ErrNotFound)

		r.must(s.RetryDeadLetter(r.Context(), bad))
		r.wantList("msgbus.system.local", "not JSON")
		wantEqual(r, "dead letters that are left", r.rdb.XLen(r.Context(), "msgbus.system.dead").Val(), 0)
	})
}

// Of many dead letters an operator sees some twice, or some never, or is sent on to a
// page on which there are none.
func TestDeadLettersOfAReasonArePagedAndNamed(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		for n := range 250 {
			r.must(r.rdb.XAdd(r.Context(), &redis.XAddArgs{Stream: "msgbus.system.dead", ID: fmt.Sprintf("%d-1", n+1),
				Values: []string{"queue", "local", "reason", []string{"malformed", "poison"}[n%2], "message", "x"}}).Err())
		}
		for reason, total := range map[msgbus.Reason]int{"": 250, msgbus.Poison: 125, msgbus.BadVersion: 0} {
			ids, err := s.DeadIDs(r.Context(), reason)
			r.must(err)
			wantEqual(r, "how many are named", len(ids), total)
			var paged []string
			for before, first := "", true; first || before != ""; first = false {
				letters, next, err := s.DeadLetters(r.Context(), before, reason, 25, 1)
				r.must(err)
				for _, l := range letters {
					paged = append(paged, l.ID)
				}
				if before = next; next != "" && len(letters) != 25 || next == "" && len(letters) != min(total, 25) {
					r.Errorf("a page of %q has %d, and the next begins before %q", reason, len(letters), next)
				}
			}
			wantEqual(r, "the ids of the pages", fmt.Sprint(paged), fmt.Sprint(ids))
		}
		ids, err := s.DeadIDs(r.Context(), msgbus.Poison)
		r.must(err)
		wantEqual(r, "the latest and the oldest", ids[0]+" "+ids[len(ids)-1], "250-1 2-1")
		n, err := s.DropDeadLetters(r.Context(), ids...)
		r.must(err)
		wantEqual(r, "dropped", n, 125)
	})
}

// What cannot be put back anywhere stays a dead letter until somebody drops it.
func TestDeadLetterOfALaneIsOnlyDropped(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		uid := r.admit(s, request(1002))[0]
		b := r.fetch(s, 1002)
		r.must(s.BuryParcel(r.Context(), b.Parcels[0], msgbus.Refuse(msgbus.Poison, "it makes the relay panic")))
		letters, _, err := s.DeadLetters(r.Context(), "", "", 10, 1000)
		r.must(err)
		if len(letters) != 1 || letters[0].Queue != "lane" || !strings.Contains(letters[0].Message, uid) {
			r.Fatalf("dead letters: %+v", letters)
		}
		r.wantErr(s.RetryDeadLetter(r.Context(), letters[0].ID), backlog.ErrNoRetry)
		n, err := s.DropDeadLetters(r.Context(), letters[0].ID, "1-1")
		r.must(err)
		wantEqual(r, "dropped", n, 1)
		_, err = s.DeadLetter(r.Context(), letters[0].ID)
		r.wantErr(err, msgbus.ErrNotFound)
	})
}

// A message that ended three relays is buried. Once the relay is mended an operator
// tries it again, and that must be a try.
func TestPoisonThatIsTriedAgainIsNoSuspect(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, "killer")
		for range 3 {
			for len(r.take(s, msgbus.LocalQueue).Messages) == 0 { // it waits in the relay's youth
			}
			s = r.crash()
		}
		c := r.take(s, msgbus.LocalQueue)
		wantEqual(r, "poison", c.Poison, true)
		_, err := s.Bury(r.Context(), c, 0, refusal())
		r.must(err)
		r.must(s.Drop(r.Context(), c))
		letters, _, err := s.DeadLetters(r.Context(), "", "", 1, 1)
		r.must(err)
		r.must(s.RetryDeadLetter(r.Context(), letters[0].ID))
		c = r.take(s, msgbus.LocalQueue)
		wantEqual(r, "what comes again", fmt.Sprint(c.Messages, c.Poison), "[killer] false")
	})
}

// An app writes over the key under which the ends of requests are kept for traces: that
// must cost the traces, and no request its end.
//
// Broken by: call instead of pcall in note_ended.
func TestRequestEndsThoughNobodyCanNoteIt(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		uid := r.admit(s, request(1002))[0]
		r.must(r.rdb.Set(r.Context(), "msgbus.system.ended", "text", 0).Err())
		outcomes, err := s.Answer(r.Context(), nil, []msgbus.Answer{{Entry: r.entry(s, uid), Position: -1, Body: []byte("the answer")}})
		r.must(err)
		wantEqual(r, "its end", fmt.Sprint(outcomes), "[answered]")
		stats, err := s.Stats(r.Context())
		r.must(err)
		wantEqual(r, "answered and waiting", fmt.Sprint(stats.Answered, stats.Waiting), "1 0")
	})
}

// A million requests that end together must not leave a copy of their ends in Redis:
// what traces need has a bound however large the steps are.
//
// Broken by: a bound on the number of steps only.
func TestWhatIsKeptOfEndedRequestsIsBounded(t *testing.T) {
	r := onReal(t)
	s := r.join()
	const each, steps = 256, 80
	requests := make([]*msgbus.Message, each)
	for i := range requests {
		requests[i] = request(1002)
	}
	for range steps {
		raws, err := s.Entries(r.Context(), r.admit(s, requests...))
		r.must(err)
		var answers []msgbus.Answer
		for _, raw := range raws {
			entry, err := s.ParseEntry(raw)
			r.must(err)
			answers = append(answers, msgbus.Answer{Entry: entry, Position: -1, Body: []byte("the answer")})
		}
		_, err = s.Answer(r.Context(), nil, answers)
		r.must(err)
	}
	// Redis trims whole nodes, and may keep some entries more.
	if kept := each * r.rdb.XLen(r.Context(), "msgbus.system.ended").Val(); kept < 16_384 || kept > 20_000 {
		r.Errorf("the ends of %d requests are kept, want those of the latest 16,384", kept)
	}
}

// One operator pauses a lane and another, or a script of his, retries what waits on it:
// then the twin is called that was to be left alone.
func TestRetryLiftsNoPause(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.admit(s, request(1002))
		r.fetch(s, 1002)
		r.fail(s, 1002, unreachable())
		r.must(s.RetryLane(r.Context(), 1002))
		wantEqual(r, "what is sent after a retry", len(r.fetch(s, 1002).Parcels), 1)
		r.fail(s, 1002, unreachable())

		_, err := s.PauseLane(r.Context(), 1002)
		r.must(err)
		r.unchanged("a retry of a paused lane", func() { r.wantErr(s.RetryLane(r.Context(), 1002), backlog.ErrPaused) })
		_, err = s.ResumeLane(r.Context(), 1002)
		r.must(err)
		wantEqual(r, "what is sent once it is resumed", len(r.fetch(s, 1002).Parcels), 1)
	})
}
