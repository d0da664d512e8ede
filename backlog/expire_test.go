package backlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// due names what Due returns.
func (r *rig) due(s *backlog.Store) string {
	r.Helper()
	entries, err := s.Due(r.Context())
	r.must(err)
	return uidsOf(entries)
}

// A request whose peer never answers waits for ever, or one ends too early.
func TestRequestsAreDueAtTheirDeadline(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		life := func(seconds int64) *msgbus.Message {
			m := request(1002)
			m.Expiration = seconds
			return m
		}
		uids := r.admit(s, life(600), life(60), life(300))
		wantEqual(r, "at once", r.due(s), "[]")
		r.advance(58 * time.Second)
		wantEqual(r, "before the first deadline", r.due(s), "[]")
		r.advance(3 * time.Second)
		wantEqual(r, "after it", r.due(s), "["+uids[1]+"]")
		wantEqual(r, "as long as nobody ended it", r.due(s), "["+uids[1]+"]")
		r.advance(10 * time.Minute)
		wantEqual(r, "oldest deadline first", r.due(s), fmt.Sprint([]string{uids[1], uids[2], uids[0]}))
		r.answer(s, failure(r.entry(s, uids[1]), "expired"))
		r.must(r.rdb.HDel(r.Context(), "msgbus.system.backlog", uids[2]).Err())
		wantEqual(r, "without those that are gone", r.due(s), "["+uids[0]+"]")
		wantEqual(r, "deadlines kept", r.rdb.ZCard(r.Context(), "msgbus.system.deadlines").Val(), 1)
	})
}

// An entry that nobody can read keeps others from expiring, or comes up again
// every second for ever.
func TestUnreadableEntryGoesToTheDeadLetters(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		uids := r.admit(s, request(1002), request(1002), request(1002))
		r.must(r.rdb.HSet(r.Context(), "msgbus.system.backlog", uids[1], "garbage").Err())
		r.advance(2 * time.Minute)
		wantEqual(r, "due", r.due(s), fmt.Sprint([]string{uids[0], uids[2]}))
		dead := r.rdb.XRange(r.Context(), "msgbus.system.dead", "-", "+").Val()
		wantEqual(r, "dead letters", len(dead), 1)
		wantEqual(r, "message", dead[0].Values["message"].(string), "garbage")
		wantEqual(r, "deadlines left", r.rdb.ZCard(r.Context(), "msgbus.system.deadlines").Val(), 2)
	})
}

// Replies for a twin that never comes back, and records of requests that no
// service answers, fill Redis.
func TestWhatItsSourceHasEndedIsForgotten(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		const many = 600 // more than one step's worth
		var all []msgbus.Acceptance
		for n := range uint64(many) {
			a := arrival(n + 1)
			a.IsReply = n%2 == 0
			all = append(all, a)
		}
		long := arrival(many + 1)
		long.Life = time.Hour
		r.accept(s, 1003, sample, append(all, long)...)
		r.accept(s, 1004, sample, arrival(2)) // the same uid of another source
		longToo := arrival(4)
		longToo.Life = time.Hour
		r.accept(s, 1004, sample, longToo)

		forget := func(want int) {
			r.Helper()
			n, err := s.ForgetExpired(r.Context())
			r.must(err)
			wantEqual(r, "replies forgotten", n, want)
		}
		forget(0)
		r.advance(2 * time.Minute)
		forget(many / 2)
		forget(0)
		wantEqual(r, "open records", r.rdb.HLen(r.Context(), "msgbus.system.open").Val(), 2)
		wantEqual(r, "their deadlines", r.rdb.ZCard(r.Context(), "msgbus.system.open.deadlines").Val(), 2)
		opens := r.opens(s, "1001.4")
		wantEqual(r, "records of 1001.4", fmt.Sprint(len(opens), opens[0].Source), "1 1004")
		wantEqual(r, "lane", r.fetch(s, 1003).Wait < 0, true)
		wantEqual(r, "replies", r.rdb.Exists(r.Context(), "msgbus.system.replies").Val(), 0)
		wantEqual(r, "a reply from now on", r.departOpen(s, &msgbus.Open{UID: "1001.2", Source: 1003, Epoch: sample,
			Record: "1003 " + sample + " 1 1 calc.add"}, "x"), "[late]")
	})
}

// Requests expire though their replies are here, or the record of a twin is lost.
func TestSmallReadings(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		r.must(s.Ping(r.Context()))
		r.push(replyQueue, "a", "b")
		for _, where := range []string{"queue", "claim"} {
			n, err := s.RepliesUnderWay(r.Context())
			r.must(err)
			wantEqual(r, "replies in the "+where, n, 2)
			r.take(s, msgbus.ReplyQueue)
		}

		_, err := s.LoadTwin(r.Context(), 1002)
		r.wantErr(err, msgbus.ErrNotFound)
		r.must(s.SaveTwin(r.Context(), 1002, []byte("record"), time.Hour))
		record, err := s.LoadTwin(r.Context(), 1002)
		r.must(err)
		wantEqual(r, "record", string(record), "record")
		r.advance(2 * time.Hour)
		_, err = s.LoadTwin(r.Context(), 1002)
		r.wantErr(err, msgbus.ErrNotFound)
	})
}

// A few hundred large requests that end together make an answer that Redis
// cannot give in time, so none of them ever ends.
func TestWhatEndsInOneStepIsBoundedInBytes(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
		large := request(1002)
		large.Data = strings.Repeat("A", 3<<20)
		large.Retry = 0
		uids := r.admit(s, large, large, large)
		r.fetch(s, 1002)
		wantEqual(r, "ended by a failure", r.fail(s, 1002, unreachable()), fmt.Sprint(uids[:2]))
		more, err := s.Exhausted(r.Context(), 1002)
		r.must(err)
		wantEqual(r, "more of them", len(more), 2)
		r.advance(2 * time.Hour)
		wantEqual(r, "due", r.due(s), fmt.Sprint(uids[:2]))
	})
}
