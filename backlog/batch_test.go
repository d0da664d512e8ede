package backlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/msgbus"
)

// twoRigs returns two embedded servers at the same standing time: what is done to
// both leaves the same in both.
func twoRigs(t *testing.T) (whole, single *rig, advance func()) {
	t.Helper()
	clock := time.Now()
	var rigs []*rig
	var set []func(time.Time)
	for range 2 {
		s := redistest.Embedded(t)
		s.SetTime(clock)
		set = append(set, s.SetTime)
		rigs = append(rigs, &rig{T: t, rdb: s.Client(), url: s.URL()})
	}
	return rigs[0], rigs[1], func() {
		clock = clock.Add(time.Second)
		for _, to := range set {
			to(clock)
		}
	}
}

// forgetSessions removes what has names that are random.
func (r *rig) forgetSessions() {
	r.Helper()
	r.must(r.rdb.Del(r.Context(), "msgbus.system.sessions", "msgbus.system.instances").Err())
}

// sameLeft fails unless two servers hold the same.
func sameLeft(rt *rapid.T, whole, single *rig) {
	if a, b := whole.dump(), single.dump(); a != b {
		rt.Fatalf("Redis after a batch:\n%s\nand after its messages one by one:\n%s", a, b)
	}
}

// A message gets another outcome, or is kept differently, because of those that
// came in the same batch: a bound that is reached in its middle, a number or a uid
// that comes twice, a queue of another type.
//
// Breaks it: leave out of accept.lua any of `queue.length + 1`, `waiting + 1`,
// `commands_unread() + 1`, is_noted, the count of opened in open_here, `signed[digest] = true`.
func TestAcceptedBatchDoesWhatItsMessagesDoOneByOne(t *testing.T) {
	whole, single, advance := twoRigs(t)
	rapid.Check(t, func(rt *rapid.T) {
		whole.must(whole.rdb.FlushAll(rt.Context()).Err())
		single.must(single.rdb.FlushAll(rt.Context()).Err())
		small := func(o *backlog.Options) { o.MaxQueue, o.MaxReplies, o.MaxUnread = 6, 5, 2 }
		one, many := single.join(small), whole.join(small)
		for _, r := range []*rig{whole, single} {
			r.must(r.rdb.Set(r.Context(), "msgbus.wrong", "text", 0).Err())
			r.forgetSessions()
			r.push("msgbus.kept", "a", "b", "c") // somebody else's list: no end is set
		}
		for range rapid.IntRange(1, 4).Draw(rt, "calls") {
			source := rapid.SampledFrom([]uint32{1003, 1004, self}).Draw(rt, "source")
			epoch := rapid.SampledFrom([]string{"", "aa", "bb", "cc", "dd", "ee"}).Draw(rt, "epoch")
			var batch []msgbus.Acceptance
			for range rapid.IntRange(1, 14).Draw(rt, "size") {
				n := rapid.Uint64Range(1, 12).Draw(rt, "number")
				if rapid.IntRange(0, 9).Draw(rt, "far") == 0 {
					n += backlog.Window
				}
				a := arrival(n)
				a.UID = msgbus.FormatUID(self, rapid.Uint64Range(1, 4).Draw(rt, "uid"))
				a.Command = rapid.SampledFrom([]string{"a", "a", "a", "a", "b", "c", "wrong", "kept", "a\n"}).Draw(rt, "command")
				a.Left = rapid.Bool().Draw(rt, "left")
				a.IsReply = rapid.IntRange(0, 3).Draw(rt, "refused") == 0
				a.Life = time.Duration(rapid.IntRange(1, 3).Draw(rt, "life")) * time.Minute
				a.Digest = rapid.SampledFrom([]string{"", "", "d1", "d2"}).Draw(rt, "digest")
				a.Body = fmt.Append(nil, "body ", len(batch))
				batch = append(batch, a)
			}
			got, err := many.Accept(rt.Context(), nil, source, epoch, batch)
			whole.must(err)
			var want []msgbus.Outcome
			for i := range batch {
				some, err := one.Accept(rt.Context(), nil, source, epoch, batch[i:i+1])
				single.must(err)
				want = append(want, some...)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				rt.Fatalf("outcomes of a batch:\n got %v\nwant %v", got, want)
			}
			sameLeft(rt, whole, single)
			advance()
		}
	})
}

// Replies of a claim close each other's records, or one is sent twice.
//
// Breaks it: leave is_sent out of depart.lua.
func TestDepartingBatchDoesWhatItsRepliesDoOneByOne(t *testing.T) {
	whole, single, _ := twoRigs(t)
	rapid.Check(t, func(rt *rapid.T) {
		whole.must(whole.rdb.FlushAll(rt.Context()).Err())
		single.must(single.rdb.FlushAll(rt.Context()).Err())
		stores := map[*rig]*backlog.Store{whole: whole.join(), single: single.join()}
		var opens []msgbus.Open
		for _, r := range []*rig{whole, single} {
			opens = nil
			for n := range uint64(3) {
				for _, source := range []uint32{1003, 1004} {
					for _, epoch := range []string{"", "aa"} {
						r.accept(stores[r], source, epoch, arrival(n+1))
					}
				}
				opens = append(opens, r.opens(stores[r], arrival(n+1).UID)...)
			}
			for i := range opens {
				lost := opens[i]
				lost.Record = ""
				opens = append(opens, lost)
			}
		}
		size := rapid.IntRange(1, 12).Draw(rt, "size")
		var batch []msgbus.Departure
		for i := range size {
			o := &opens[rapid.IntRange(0, len(opens)-1).Draw(rt, "open")]
			batch = append(batch, msgbus.Departure{Open: o, Body: fmt.Append(nil, "reply ", i)})
		}
		outcomes := map[*rig]string{}
		for _, r := range []*rig{whole, single} {
			step := 1
			if r == whole {
				step = len(batch)
			}
			for i := 0; i < len(batch); i += step {
				r.push(replyQueue, numbered(step)...)
				c := r.take(stores[r], msgbus.ReplyQueue)
				out, err := stores[r].Depart(rt.Context(), c, batch[i:i+step])
				r.must(err)
				outcomes[r] += strings.Trim(fmt.Sprint(out), "[]") + " "
			}
			// Of one step they have an order, in microseconds.
			r.must(r.rdb.Del(r.Context(), "msgbus.system.lane.1003.replies", "msgbus.system.lane.1004.replies").Err())
			r.must(stores[r].Leave(r.Context()))
			r.forgetSessions()
		}
		if outcomes[whole] != outcomes[single] {
			rt.Fatalf("outcomes of a batch:\n got %s\nwant %s", outcomes[whole], outcomes[single])
		}
		sameLeft(rt, whole, single)
	})
}

// Answers of one batch: a request that is ended twice, a return queue that is no
// list, one that the service has answered to itself.
//
// Breaks it: leave is_ended or `queue.length + 1` out of answer.lua.
func TestAnsweringBatchDoesWhatItsAnswersDoOneByOne(t *testing.T) {
	whole, single, _ := twoRigs(t)
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 12).Draw(rt, "size")
		type pick struct {
			entry, position int
			failed, proxied bool
		}
		var picks []pick
		for i := range size {
			p := pick{rapid.IntRange(0, 5).Draw(rt, "entry"), i, rapid.Bool().Draw(rt, "failed"), rapid.Bool().Draw(rt, "proxied")}
			if rapid.Bool().Draw(rt, "no position") {
				p.position = -1
			}
			picks = append(picks, p)
		}
		outcomes := map[*rig]string{}
		for _, r := range []*rig{whole, single} {
			r.must(r.rdb.FlushAll(rt.Context()).Err())
			r.must(r.rdb.Set(rt.Context(), "app.text", "text", 0).Err())
			s := r.join()
			var requests []*msgbus.Message
			for i := range 6 {
				m := request(uint32(1002 + i%2))
				m.ReturnQueue = []string{"app.a", "app.b", "app.text"}[i%3]
				requests = append(requests, m)
			}
			var answers []msgbus.Answer
			uids := r.admit(s, requests...)
			for i, p := range picks {
				e := r.entry(s, uids[p.entry])
				e.Message.Proxied = p.proxied
				answers = append(answers, msgbus.Answer{Entry: e, Failed: p.failed, Position: p.position, Body: fmt.Append(nil, "reply ", i)})
			}
			r.push(replyQueue, numbered(size)...)
			c := r.take(s, msgbus.ReplyQueue)
			step := 1
			if r == whole {
				step = len(answers)
			}
			for i := 0; i < len(answers); i += step {
				out, err := s.Answer(rt.Context(), c, answers[i:i+step])
				r.must(err)
				outcomes[r] += strings.Trim(fmt.Sprint(out), "[]") + " "
			}
			r.must(s.Leave(rt.Context()))
			r.forgetSessions()
			// The epoch and what names it are random, and the ids of dead letters times.
			r.must(r.rdb.Del(rt.Context(), "msgbus.system.epoch", "msgbus.system.lane.1002", "msgbus.system.lane.1003").Err())
			for uid := range r.rdb.HGetAll(rt.Context(), "msgbus.system.backlog").Val() {
				r.must(r.rdb.HSet(rt.Context(), "msgbus.system.backlog", uid, "entry").Err())
			}
			dead := r.rdb.XRange(rt.Context(), "msgbus.system.dead", "-", "+").Val()
			for i := range dead {
				dead[i].ID = ""
			}
			outcomes[r] += fmt.Sprint(dead)
			r.must(r.rdb.Del(rt.Context(), "msgbus.system.dead").Err())
		}
		if outcomes[whole] != outcomes[single] {
			rt.Fatalf("outcomes of a batch:\n got %s\nwant %s", outcomes[whole], outcomes[single])
		}
		sameLeft(rt, whole, single)
	})
}

// A batch has more messages, or a message more destinations, than one call of a
// command takes.
//
// Breaks it: let AT_ONCE be 100000.
func TestBatchesAreLargerThanOneCallOfACommand(t *testing.T) {
	r := onReal(t)
	s := r.join(func(o *backlog.Options) { o.MaxBatch, o.MaxTake = 1<<20, 1<<20 })
	const many = 5000
	twins := make([]uint32, many)
	for i := range twins {
		twins[i] = uint32(2000 + i)
	}
	wantEqual(r, "uids of one request", len(r.admit(s, request(twins...))), many)

	requests := make([]*msgbus.Message, many)
	for i := range requests {
		requests[i] = request(1002)
	}
	uids := r.admit(s, requests...)
	wantEqual(r, "last uid", uids[many-1], msgbus.FormatUID(1002, many))
	b := r.fetch(s, 1002)
	wantEqual(r, "batch", ids(b), fmt.Sprint(uids))
	r.settle(s, 1002, true, b.Parcels...)
	wantEqual(r, "left on the lane", len(r.fetch(s, 1002).Parcels), 0)
	var answers []msgbus.Answer
	for i, p := range b.Parcels {
		e, err := backlog.ParseEntry(p.Body)
		r.must(err)
		answers = append(answers, msgbus.Answer{Entry: e, Position: -1, Body: fmt.Append(nil, i)})
	}
	wantEqual(r, "outcomes", strings.Count(r.answer(s, answers...), "answered"), many)
	got := r.list("app.ret")
	wantEqual(r, "replies", fmt.Sprintln(len(got), got[0], got[many-1]), fmt.Sprintln(many, 0, many-1))

	var arrivals []msgbus.Acceptance
	for n := range uint64(many) {
		arrivals = append(arrivals, arrival(n+1))
	}
	wantEqual(r, "accepted", strings.Count(r.accept(s, 1003, sample, arrivals...), "accepted"), many)
	wantEqual(r, "repeats", strings.Count(r.accept(s, 1003, sample, arrivals...), "repeat"), many)
	replies := make([]string, many)
	var departures []msgbus.Departure
	for i := range replies {
		replies[i] = fmt.Sprint("reply ", i)
		o := r.opens(s, arrivals[i].UID)
		departures = append(departures, msgbus.Departure{Open: &o[0], Body: []byte(replies[i])})
	}
	r.push(replyQueue, replies...)
	c := r.take(s, msgbus.ReplyQueue)
	wantEqual(r, "claim", fmt.Sprint(c.Messages), fmt.Sprint(replies))
	out, err := s.Depart(r.Context(), c, departures)
	r.must(err)
	wantEqual(r, "sent", strings.Count(fmt.Sprint(out), "sent"), many)
	b = r.fetch(s, 1003)
	wantEqual(r, "replies on the lane", fmt.Sprintln(len(b.Parcels), b.Parcels[many-1].Body), fmt.Sprintln(many, replies[many-1]))
	r.settle(s, 1003, true, b.Parcels...)
	wantEqual(r, "replies kept", r.rdb.HLen(r.Context(), "msgbus.system.replies").Val(), 0)
}

// Somebody has set a counter back: in the middle of a batch a request gets the uid
// of one that waits, and takes its place.
//
// Breaks it: let new_numbers of admit.lua take every number.
func TestBatchGoesAroundAUidThatIsTaken(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		first := r.admit(s, request(1002), request(1002), request(1002), request(1002))
		before := r.entry(s, first[2]).Head
		r.must(r.rdb.HDel(r.Context(), "msgbus.system.backlog", first[0], first[1]).Err())
		r.must(r.rdb.Set(r.Context(), "msgbus.counter.1002", 0, 0).Err())
		uids := r.admit(s, request(1002), request(1002, 1003), request(1002), request(1002))
		wantEqual(r, "what is free and what is of another twin", fmt.Sprint(uids[:3]), "[1002.1 1002.2 1003.1]")
		_, third, _ := msgbus.ParseUID(uids[3])
		_, fourth, _ := msgbus.ParseUID(uids[4])
		if third < uint64(r.now().Add(-time.Hour).UnixMicro()) || fourth != third+1 {
			r.Errorf("the numbers behind are %d and %d", third, fourth)
		}
		wantEqual(r, "entry of the one that waits", r.entry(s, first[2]).Head, before)
		wantEqual(r, "counter", r.rdb.Get(r.Context(), "msgbus.counter.1002").Val(), fmt.Sprint(fourth))
	})
}

// Redis is full when a batch comes whose first message needs no memory: a part of
// it is kept, and comes again with the rest.
//
// Breaks it: let accept.lua begin to write with a ZREM or a make_room.
func TestFullRedisTakesNothingOfABatch(t *testing.T) {
	r := onReal(t)
	s := r.join()
	for i := range 4 { // one more leaves the first out
		r.accept(s, 1003, fmt.Sprint(i), arrival(1))
	}
	r.accept(s, 1003, sample, arrival(5))
	wrong := arrival(6)
	wrong.Command = "wrong"
	r.must(r.rdb.Set(r.Context(), "msgbus.wrong", "text", 0).Err())
	r.full()
	r.unchanged("a batch", func() {
		_, err := s.Accept(r.Context(), nil, 1003, sample, []msgbus.Acceptance{arrival(5), wrong, arrival(1), arrival(7)})
		r.wantErr(err, msgbus.ErrStorageFull)
	})
	r.room()
	wantEqual(r, "when there is room", r.accept(s, 1003, sample, arrival(5), wrong, arrival(1), arrival(7)), "[repeat wrong_type accepted accepted]")
}
