package backlog_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// Uids of the archived daemon's form: published relays and the archived
// tools count on `<dst>.<n>` without gaps.
func TestUidsCountUpPerDestination(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		uids := r.admit(s, request(1002, 1003), request(1003), request(1002, 4_000_000_000))
		uids = append(uids, r.admit(s, request(1003))...)
		wantEqual(r, "uids", fmt.Sprint(uids), "[1002.1 1003.1 1003.2 1002.2 4000000000.1 1003.3]")
		wantEqual(r, "counter", r.rdb.Get(r.Context(), "msgbus.counter.1003").Val(), "3")
	})
}

// A request loses a field on its way through the backlog, and the app waits in
// the wrong place or the service does something else.
func TestEntryHoldsAllOfTheRequest(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		m, err := msgbus.Decode([]byte(`{"ver":1,"ref":"my \"ref\"","cmd":"calc.add","exp":77,"dat":"MQ==",` +
			`"dst":["1002","1003"],"ret":"app \u00e9 ]}\n\"msgbusd\":{","shm":"s","now":5,"tag":"kept","x":{"y":[1.5e300]}}`))
		r.must(err)
		m.Retry = 3
		uids := r.admit(s, m)
		for i, dst := range []uint32{1002, 1003} {
			e := r.entry(s, uids[i])
			got := e.Message
			wantEqual(r, "uid", got.UID, uids[i])
			wantEqual(r, "src and dst", fmt.Sprint(got.Source, got.Destinations), fmt.Sprint(self, []uint32{dst}))
			wantEqual(r, "dialect", fmt.Sprint(e.Dialect, got.Dialect), "ref ref")
			wantEqual(r, "epoch", len(e.Epoch), 32)
			want := *m
			want.UID, want.Source, want.Destinations = got.UID, got.Source, got.Destinations
			wantEqual(r, "message", string(got.AppendEntryTail(nil)), string(want.AppendEntryTail(nil)))
			wantEqual(r, "note", len(got.Note), 0)
			r.within("admission", e.Admitted, r.now(), time.Minute)
			wantEqual(r, "life", e.Deadline.Sub(e.Admitted), 77*time.Second)
		}
	})
}

// within is for times that a slow machine moves.
func (r *rig) within(what string, got, want time.Time, most time.Duration) {
	r.Helper()
	if d := got.Sub(want).Abs(); d > most {
		r.Fatalf("%s is %v, more than %v from %v", what, got, most, want)
	}
}

// A request with the clock of a badly set app expires at once, or never.
func TestDeadlineCountsFromABelievableNow(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.MaxLife = 48 * time.Hour })
		now := r.now().Unix()
		const hour, day = 3600, 86400
		for _, tc := range []struct {
			name     string
			now, exp int64
			want     int64 // seconds after the second of the admission
		}{
			{"no now", 0, 60, 60},
			{"the specification's example of 2021", 1_621_944_461, 60, 60},
			{"an hour old", now - hour, 2 * hour, hour},
			{"an hour old and over", now - hour, 60, 60 - hour},
			{"almost 24 h old", now - day + 60, 2 * day, day + 60},
			{"over 24 h old", now - day - 60, 60, 60},
			{"the future", now + hour, 60, 60},
			{"milliseconds", now * 1000, 60, 60},
			{"negative", -5, 60, 60},
			{"exp 0 is an hour", 0, 0, hour},
			{"absolute exp", 0, now + 600, 600},
			{"absolute exp does not look at now", now - hour, now + 600, 600},
			{"absolute exp in the past", 0, now - 600, -600},
			{"absolute exp too late", 0, now + 30*day, 2 * day},
			{"exp too long", 0, 30 * day, 2 * day},
			{"exp too long from an old now", now - hour, 2*day + 1800, 2*day - 1800},
			{"endless exp", 0, 1 << 62, 2 * day},
			{"negative exp", 0, -60, -60},
		} {
			m := request(1002)
			m.Now, m.Expiration = tc.now, tc.exp
			e := r.entry(s, r.admit(s, m)[0])
			// The case knows the second in which it began, and takes less than a minute.
			d := e.Deadline.Sub(time.Unix(now+tc.want, 0))
			if d < -time.Second || d > 50*time.Second {
				r.Errorf("%s: deadline is %v from what was to be", tc.name, d)
			}
			score := r.rdb.ZScore(r.Context(), "msgbus.system.deadlines", e.Message.UID).Val()
			wantEqual(r, "deadline in the index", int64(score), e.Deadline.UnixMilli())
		}
	})
}

// A crash between taking and sending loses the request or sends it under two
// uids: all that follows from a claim is there at once, and the claim is gone.
func TestAdmitIsOneStep(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		uids := r.admit(s, request(1002, 1003), request(1002))
		wantEqual(r, "claims", len(r.rdb.Keys(r.Context(), "msgbus.system.claim.*").Val()), 0)
		wantEqual(r, "entries", r.rdb.HLen(r.Context(), "msgbus.system.backlog").Val(), 3)
		wantEqual(r, "due lanes", r.dueLanes(s), "ready [1002 1003], failing []; no more")
		wantEqual(r, "lane of 1002", ids(r.fetch(s, 1002)), fmt.Sprint([]string{uids[0], uids[2]}))
		stats, err := s.Stats(r.Context())
		r.must(err)
		wantEqual(r, "counts", stats, backlog.Stats{Accepted: 3, Waiting: 3})
	})
}

// A key that apps can reach holds nonsense: the whole claim is lost with it,
// because a script does not roll back.
func TestCounterThatIsNoNumberBeginsAnew(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		ctx := r.Context()
		r.must(r.rdb.Set(ctx, "msgbus.counter.1", "many", 0).Err())
		r.must(r.rdb.RPush(ctx, "msgbus.counter.2", "many").Err())
		r.must(r.rdb.Set(ctx, "msgbus.counter.3", "9223372036854775807", 0).Err())
		r.must(r.rdb.Set(ctx, "msgbus.counter.4", "41", 0).Err()) // the archived daemon's
		uids := r.admit(s, request(1, 2, 3, 4))
		wantEqual(r, "uids", len(uids), 4)
		for _, uid := range uids {
			if _, _, ok := msgbus.ParseUID(uid); !ok {
				r.Errorf("uid %s cannot be read", uid)
			}
			r.entry(s, uid)
		}
		wantEqual(r, "number after the archived daemon's", uids[3], "4.42")
	})
}

// A claim with messages to a thousand twins each keeps Redis from serving
// anybody for seconds, and the relay gives up waiting for it.
func TestAdmitTakesManyDestinationsInSeveralSteps(t *testing.T) {
	r := onReal(t)
	s := r.join()
	wide := request()
	for i := range uint32(1000) {
		wide.Destinations = append(wide.Destinations, 2000+i)
	}
	const messages = 25
	r.push(localQueue, numbered(messages+1)...)
	c := r.take(s, msgbus.LocalQueue)
	r.must(s.Refuse(r.Context(), c, 3, refusal(), "", nil, false))
	var admissions []msgbus.Admission
	for range messages {
		admissions = append(admissions, msgbus.Admission{Message: wide})
	}
	r.must(r.rdb.ConfigResetStat(r.Context()).Err())
	uids, err := s.Admit(r.Context(), c, admissions)
	r.must(err)
	wantEqual(r, "uids", len(uids), messages*1000)
	wantEqual(r, "last", uids[len(uids)-1], "2999.25")
	wantEqual(r, "steps", r.calls("evalsha"), 3)
	wantEqual(r, "claims", len(r.rdb.Keys(r.Context(), "msgbus.system.claim.*").Val()), 0)
}

// The relay dies between two steps of one claim: what was admitted is admitted
// again, or the rest is lost.
func TestClaimThatWasAdmittedInPartHoldsTheRest(t *testing.T) {
	// On a real Redis only: the embedded one takes seconds for so many.
	func(r *rig) {
		s := r.join()
		wide := request()
		for i := range uint32(6000) {
			wide.Destinations = append(wide.Destinations, 2000+i)
		}
		r.push(localQueue, numbered(5)...)
		c := r.take(s, msgbus.LocalQueue)
		r.must(s.Refuse(r.Context(), c, 0, refusal(), "", nil, false))
		r.must(s.Refuse(r.Context(), c, 2, refusal(), "", nil, false))

		cut := errors.New("cut off")
		s.BeforeCommand(func() error {
			if r.rdb.HLen(r.Context(), "msgbus.system.backlog").Val() > 0 {
				return cut
			}
			return nil
		})
		_, err := s.Admit(r.Context(), c, []msgbus.Admission{{Message: wide}, {Message: wide}, {Message: request(1002)}})
		r.wantErr(err, cut)
		wantEqual(r, "admitted", r.rdb.HLen(r.Context(), "msgbus.system.backlog").Val(), 6000)
		r.join() // the next process
		r.wantList(localQueue, "message 3", "message 4")
	}(onReal(t))
}
