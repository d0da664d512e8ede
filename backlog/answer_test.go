package backlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

func (r *rig) answer(s *backlog.Store, answers ...msgbus.Answer) string {
	r.Helper()
	out, err := s.Answer(r.Context(), nil, answers)
	r.must(err)
	return fmt.Sprint(out)
}

func reply(e *msgbus.Entry, body string) msgbus.Answer {
	return msgbus.Answer{Entry: e, Position: -1, Body: []byte(body)}
}

func failure(e *msgbus.Entry, body string) msgbus.Answer {
	return msgbus.Answer{Entry: e, Failed: true, Position: -1, Body: []byte(body)}
}

func (r *rig) wantStats(s *backlog.Store, want backlog.Stats) {
	r.Helper()
	got, err := s.Stats(r.Context())
	r.must(err)
	wantEqual(r, "counts", got, want)
}

// An app gets two replies to one request, or one that leaves its entry behind
// to expire with an error.
func TestRequestIsAnsweredOnce(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		uids := r.admit(s, request(1002), request(1003))
		a, b := r.entry(s, uids[0]), r.entry(s, uids[1])
		wantEqual(r, "outcomes", r.answer(s, reply(a, "one"), failure(b, "two"), reply(a, "three")), "[answered failed late]")
		wantEqual(r, "again", r.answer(s, failure(a, "four"), reply(b, "five")), "[late late]")
		r.wantList("app.ret", "one", "two")
		r.wantEnd("app.ret", 30*time.Minute)

		_, err := s.Entry(r.Context(), uids[0])
		r.wantErr(err, msgbus.ErrNotFound)
		for _, left := range []string{"backlog", "deadlines", "lane.1002.requests", "lane.1002.tries"} {
			wantEqual(r, left+" left", r.rdb.Exists(r.Context(), "msgbus.system."+left).Val(), 0)
		}
		r.wantStats(s, backlog.Stats{Accepted: 2, Answered: 1, Failed: 1})
	})
}

// Redis was emptied and the uid given out again: the reply to the old request
// goes to the app of the new one.
func TestReplyToAnEntryThatIsAnotherNowIsLate(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		old := r.entry(s, r.admit(s, request(1002))[0])
		r.must(r.rdb.FlushAll(r.Context()).Err())
		fresh := r.join()
		uid := r.admit(fresh, request(1002))[0]
		wantEqual(r, "uid", uid, old.Message.UID)
		r.unchanged("Answer", func() { wantEqual(r, "outcome", r.answer(fresh, reply(old, "x")), "[late]") })
	})
}

// One app whose return queue is no list keeps the replies of all others from
// arriving, or its reply disappears.
func TestReturnQueueOfAnotherTypeConcernsItsOwnReplyOnly(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		odd := request(1002)
		odd.ReturnQueue = "app.set"
		r.must(r.rdb.SAdd(r.Context(), "app.set", "x").Err())
		uids := r.admit(s, request(1002), odd, request(1002))
		out := r.answer(s, reply(r.entry(s, uids[0]), "one"), reply(r.entry(s, uids[1]), "two"), reply(r.entry(s, uids[2]), "three"))
		wantEqual(r, "outcomes", out, "[answered wrong_type answered]")
		r.wantList("app.ret", "one", "three")
		wantEqual(r, "dead letters", fmt.Sprint(r.dead()), "[reply wrong_type two]")
		wantEqual(r, "backlog left", r.rdb.Exists(r.Context(), "msgbus.system.backlog").Val(), 0)
	})
}

// After a crash the replies of a claim are handled again: those that were
// answered must be known as such.
func TestAnswerFromAClaimMarksItsMessage(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		uids := r.admit(s, request(1002), request(1002))
		a, b := r.entry(s, uids[0]), r.entry(s, uids[1])
		r.push(replyQueue, "x", "y", "z")
		c := r.take(s, msgbus.ReplyQueue)
		fromClaim := func(e *msgbus.Entry, position int) msgbus.Answer {
			return msgbus.Answer{Entry: e, Position: position, Body: []byte("reply")}
		}
		out, err := s.Answer(r.Context(), c, []msgbus.Answer{fromClaim(b, 2), fromClaim(a, 0), fromClaim(a, 1)})
		r.must(err)
		wantEqual(r, "outcomes", fmt.Sprint(out), "[answered answered late]")
		wantEqual(r, "claim", fmt.Sprintf("%q", r.take(s, msgbus.ReplyQueue).Messages), `["\x00dealt with" "\x00dealt with" "\x00dealt with"]`)
	})
}
