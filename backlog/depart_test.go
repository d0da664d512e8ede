package backlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

func (r *rig) opens(s *backlog.Store, uid string) []msgbus.Open {
	r.Helper()
	all, err := s.Opens(r.Context(), []string{"1001.999999", uid})
	r.must(err)
	wantEqual(r, "records of an unknown uid", len(all[0]), 0)
	return all[1]
}

// depart sends a service's reply to the one request that is open under uid.
func (r *rig) depart(s *backlog.Store, uid, body string) {
	r.Helper()
	opens := r.opens(s, uid)
	wantEqual(r, "open records of "+uid, len(opens), 1)
	wantEqual(r, "outcome", r.departOpen(s, &opens[0], body), "[sent]")
}

func (r *rig) departOpen(s *backlog.Store, o *msgbus.Open, body string) string {
	r.Helper()
	r.push(replyQueue, body)
	c := r.take(s, msgbus.ReplyQueue)
	out, err := s.Depart(r.Context(), c, []msgbus.Departure{{Open: o, Body: []byte(body)}})
	r.must(err)
	return fmt.Sprint(out)
}

// A service that answers twice makes the source count a second reply, or
// closes somebody else's request.
func TestFirstReplyClosesItsRecordAndASecondIsLate(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.accept(s, 1003, sample, arrival(5))
		r.accept(s, 1004, sample, arrival(5))
		opens := r.opens(s, "1001.5")
		wantEqual(r, "records", len(opens), 2)
		wantEqual(r, "first record", fmt.Sprint(opens[0].UID, opens[0].Source, opens[0].Epoch, opens[0].Command), fmt.Sprint("1001.5", 1003, sample, "calc.add"))

		wantEqual(r, "first reply", r.departOpen(s, &opens[0], "one"), "[sent]")
		wantEqual(r, "second reply", r.departOpen(s, &opens[0], "two"), "[late]")
		left := r.opens(s, "1001.5")
		wantEqual(r, "records left", fmt.Sprint(len(left), left[0].Source), "1 1004")
		wantEqual(r, "on the lane", r.fetch(s, 1003).Parcels[0].Body, "one")
		wantEqual(r, "parcels", len(r.fetch(s, 1003).Parcels), 1)
		wantEqual(r, "reply to the other", r.departOpen(s, &left[0], "three"), "[sent]")
		wantEqual(r, "records in the end", len(r.opens(s, "1001.5")), 0)
		wantEqual(r, "deadlines in the end", r.rdb.ZCard(r.Context(), "msgbus.system.open.deadlines").Val(), 0)
	})
}

// A request that came before Redis lost its memory gets no reply.
func TestReplyWithoutARecordIsSentByItsOwnDestination(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		o := &msgbus.Open{UID: "1001.5", Source: 1003}
		wantEqual(r, "outcome", r.departOpen(s, o, "reply"), "[sent]")
		wantEqual(r, "on the lane", fmt.Sprint(r.fetch(s, 1003).Parcels), "[{reply 1003 - 1001.5 reply}]")
		at := time.UnixMilli(int64(r.rdb.ZScore(r.Context(), "msgbus.system.replies.deadlines", "1003 - 1001.5").Val()))
		r.within("its deadline", at, r.now().Add(time.Hour), time.Minute)
	})
}

// Replies of one claim arrive in another order, or again after a crash.
func TestRepliesOfAClaimDepartInOrderAndTogether(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		var departures []msgbus.Departure
		want := []string{}
		for n := range uint64(30) {
			r.accept(s, 1003, sample, arrival(n+1))
			o := r.opens(s, fmt.Sprint("1001.", n+1))[0]
			r.push(replyQueue, o.UID)
			departures = append(departures, msgbus.Departure{Open: &o, Body: []byte(o.UID)})
			want = append(want, "1003 "+sample+" "+o.UID)
		}
		c := r.take(s, msgbus.ReplyQueue)
		_, err := s.Depart(r.Context(), c, departures)
		r.must(err)
		wantEqual(r, "left of the claim", r.rdb.LLen(r.Context(), "msgbus.system.claim."+c.Session+".reply").Val(), 0)
		wantEqual(r, "lane", ids(r.fetch(s, 1003)), fmt.Sprint(want))
	})
}

// A source that has lost its counters uses a uid again. The reply to the new
// request must not be taken for ambiguous, and nothing may be left behind.
func TestSourceThatUsesAUidAgainHasOneOpenRecord(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		for i := range 2 {
			a := arrival(5)
			a.Digest, a.Now = fmt.Sprint("digest ", i), r.now().Unix()
			wantEqual(r, "outcome", r.accept(s, 1003, "", a), "[accepted]")
		}
		r.depart(s, "1001.5", "reply")
		wantEqual(r, "records", len(r.opens(s, "1001.5")), 0)
	})
}

// The relay's own apps may use any text as a command; a newline in it must not
// look like a second record.
func TestRecordOfACommandWithControlCharacters(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		a := arrival(5)
		a.Command = "two\nlines and\ttabs"
		r.accept(s, self, sample, a)
		r.wantList("msgbus.two\nlines and\ttabs", "request 5")
		r.depart(s, "1001.5", "reply")
		wantEqual(r, "open records", r.rdb.Exists(r.Context(), "msgbus.system.open").Val(), 0)
	})
}

// A service that answers twice must not replace the answer that waits for its
// twin to come back, whose record Redis has lost.
func TestSecondReplyWithoutARecordDoesNotReplaceTheFirst(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		lost := &msgbus.Open{UID: "1001.5", Source: 1003, Epoch: "ab"}
		wantEqual(r, "first", r.departOpen(s, lost, "first"), "[sent]")
		wantEqual(r, "second", r.departOpen(s, lost, "second"), "[late]")
		wantEqual(r, "on the lane", r.fetch(s, 1003).Parcels[0].Body, "first")
	})
}
