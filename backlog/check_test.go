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

func (r *rig) check(s *backlog.Store) *backlog.Report {
	r.Helper()
	report, err := s.Check(r.Context())
	r.must(err)
	return report
}

// findings names what Check finds: key without our prefix, id, state.
func (r *rig) findings(s *backlog.Store) string {
	r.Helper()
	var out []string
	for _, f := range r.check(s).Findings {
		if f.Text == "" || strings.Contains(f.Text, "%!") {
			r.Errorf("finding without a sentence: %+v", f)
		}
		out = append(out, strings.TrimPrefix(f.Key, "msgbus.system.")+"|"+f.ID+"|"+string(f.State))
	}
	return strings.Join(out, "\n")
}

// wantSound fails unless every message is in a state, and the counts add up.
func (r *rig) wantSound(s *backlog.Store, stage string) {
	r.Helper()
	wantEqual(r, "findings "+stage, r.findings(s), "")
	r.wantSum(s)
}

// The check cries wolf, and nobody believes it when a message is lost.
func TestCheckFindsNothingInAnyStageOfAMessage(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		ctx := r.Context()
		s := r.open(func(o *backlog.Options) { o.Lease = 24 * time.Hour; o.MaxBatch = 2 })
		r.wantSound(s, "before anything")
		r.must(s.Join(ctx))
		r.push(localQueue, "{}", "{}")
		r.wantSound(s, "queued")
		r.take(s, msgbus.LocalQueue)
		r.wantSound(s, "claimed")
		uids := r.admit(s, request(1002, 1003), request(1002), request(1002), request(self))
		r.wantSound(s, "admitted")
		b := r.fetch(s, 1002)
		r.wantSound(s, "fetched")
		r.settle(s, 1002, true, b.Parcels...)
		r.wantSound(s, "sent")
		r.fetch(s, 1002)
		r.fail(s, 1002, unreachable())
		r.wantSound(s, "failed")
		r.advance(2 * time.Second)
		r.fetch(s, 1002)
		busy := unreachable()
		busy.Rest = time.Hour
		r.fail(s, 1002, busy)
		r.wantSound(s, "told to rest for long")
		r.answer(s, reply(r.entry(s, uids[0]), "one"), failure(r.entry(s, uids[2]), "expired"))
		r.wantSound(s, "answered")
		if report := r.check(s); report.Messages != 3 {
			r.Errorf("looked at %d messages, want 3", report.Messages)
		}

		r.accept(s, 1003, sample, arrival(1), arrival(2))
		r.accept(s, 1004, "", arrival(1))
		r.accept(s, 1003, "aa", arrival(1))
		r.wantSound(s, "accepted")
		r.depart(s, "1001.2", "reply")
		r.wantSound(s, "departed")
		r.refuseArrival(s, 1005, sample, 1)
		r.refuseArrival(s, 1006, "", 1)
		r.wantSound(s, "refused")
		r.accept(s, 1003, sample, arrival(200_000))
		r.wantSound(s, "far ahead")
		r.settle(s, 1005, true, r.fetch(s, 1005).Parcels...)
		r.wantSound(s, "reply sent")
		r.serve("calc.add")
		r.takeStock(s)
		r.accept(s, 1003, sample, arrival(200_001))
		r.wantSound(s, "served")
		r.proxy(s, resultQueue, "d", "calc.sub")
		r.wantSound(s, "proxied")

		now := r.now().Unix()
		r.must(r.rdb.HSet(ctx, "msgbus.system.backlog", "1002.900", archived("1002.900", now, 600)).Err())
		r.must(r.rdb.HSet(ctx, "msgbus.system.retry", "1", "retry").Err())
		r.wantSound(s, "with what the archived daemon left")
		r.adopt(s, 2)
		r.wantSound(s, "adopted")

		b2 := r.join(instance("b"))
		r.push(localQueue, "{}")
		r.take(b2, msgbus.LocalQueue)
		r.must(b2.Leave(ctx))
		r.wantSound(s, "after a relay has left")
		r.join(instance("b")) // and is killed
		r.advance(time.Minute)
		r.recover(s, 0)
		for {
			due, err := s.Due(ctx)
			r.must(err)
			if len(due) == 0 {
				break
			}
			for _, e := range due {
				r.answer(s, failure(e, "expired"))
			}
		}
		_, err := s.ForgetExpired(ctx)
		r.must(err)
		r.wantSound(s, "expired")
	})
}

// A source that repeats a uid under ever new epochs left deadlines behind,
// which closed nothing.
func TestRecordThatMakesRoomForLaterOnesTakesItsDeadlineAlong(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		for i := range 8 {
			r.accept(s, 1003, fmt.Sprintf("%032x", i+1), arrival(1))
			r.wantSound(s, fmt.Sprintf("after %d epochs", i+1))
		}
		wantEqual(r, "deadlines", r.rdb.ZCard(r.Context(), "msgbus.system.open.deadlines").Val(), 4)
	})
}

// The prefix holds what SCAN takes for a pattern: nothing is looked at, or the
// keys of others.
func TestCheckLooksAtItsOwnPrefixOnly(t *testing.T) {
	onBoth(t, func(r *rig) {
		odd := r.join(func(o *backlog.Options) { o.Prefix = `{a[b]*?\}` })
		r.join()
		r.must(r.rdb.Set(r.Context(), "msgbus.system.backlog", "x", 0).Err())
		r.must(r.rdb.Set(r.Context(), `{a[b]xx\}.system.backlog`, "x", 0).Err())
		wantEqual(r, "findings", len(r.check(odd).Findings), 0)
		r.must(r.rdb.Set(r.Context(), `{a[b]*?\}.system.backlog`, "x", 0).Err())
		wantEqual(r, "findings", len(r.check(odd).Findings), 1)
	})
}

// A store with a million mistakes fills the memory of whoever looks.
func TestCheckNamesTheFirstFindingsAndCountsTheRest(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		var dangling []redis.Z
		for i := range 1000 {
			dangling = append(dangling, redis.Z{Score: 9e12, Member: fmt.Sprintf("1002.%d", i+1)})
		}
		r.must(r.rdb.ZAdd(r.Context(), "msgbus.system.deadlines", dangling...).Err())
		report := r.check(s)
		wantEqual(r, "named", len(report.Findings), 100)
		wantEqual(r, "the rest", report.More, 900)

		for i := range dangling {
			dangling[i].Score = 1
		}
		r.must(r.rdb.ZAdd(r.Context(), "msgbus.system.deadlines", dangling...).Err())
		report = r.check(s)
		wantEqual(r, "named", len(report.Findings), 100)
		wantEqual(r, "the rest, overdue too", report.More, 1900)
	})
}

// Redis's clock was set, and the check takes what the relay does about it for
// lost messages.
func TestCheckFindsNothingAfterRedissClockWasSet(t *testing.T) {
	for name, by := range map[string]time.Duration{"ahead": 2 * time.Hour, "back": -2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			onMovingClocks(t, func(r *rig) {
				s := r.join(func(o *backlog.Options) { o.MaxLife = time.Hour; o.Lease = 3 * time.Hour })
				r.admit(s, request(1002), request(1004))
				r.fetch(s, 1002)
				r.fail(s, 1002, unreachable())
				r.accept(s, 1003, sample, arrival(1), arrival(2))
				r.accept(s, 1003, "", arrival(3))
				r.depart(s, "1001.2", "reply")
				r.step(by)
				if _, err := s.Due(r.Context()); err == nil {
					t.Error("the step was not noticed")
				}
				r.wantSound(s, "when the step is noticed")
				r.advance(2 * time.Minute)
				due, err := s.Due(r.Context())
				r.must(err)
				for _, e := range due {
					r.answer(s, failure(e, "expired"))
				}
				_, err = s.ForgetExpired(r.Context())
				r.must(err)
				r.dueLanes(s)
				r.wantSound(s, "when the hold is over")
			})
		})
	}
}
