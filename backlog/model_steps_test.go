package backlog_test

import (
	"strconv"
	"strings"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// settle takes off the lane what the other side has, and puts off what it takes
// later. With failed, the rest is tried again after a rest.
func (w *world) settle(r *worker, to uint32, failed bool) bool {
	w.Helper()
	if len(r.sent) == 0 {
		return false
	}
	if len(r.told)+len(r.later) > 0 {
		o := msgbus.Settlement{Answered: true, Settled: r.told, PutOff: r.later}
		o.Why = msgbus.Deferral{Reason: msgbus.QueueFull, After: time.Duration(len(w.requests)%25) * time.Second}
		w.must(r.Settle(w.Context(), to, o)) // one in both lists was delivered twice
	}
	if failed && len(r.told)+len(r.later) < len(r.sent) {
		ended, err := r.Fail(w.Context(), to, unreachable())
		w.must(err)
		for _, e := range ended {
			n, err := strconv.Atoi(e.Message.Data)
			w.must(err)
			w.requests[n].unlucky = true
		}
		w.fail(r, ended, false)
	}
	r.sent, r.told, r.later = nil, nil, nil
	return true
}

// serve is the service: it takes a request and replies, or not, or twice.
func (w *world) serve(times int) {
	w.Helper()
	body, err := w.peer.rdb.LPop(w.Context(), serviceQueue).Result()
	w.must(err)
	w.there.queue = w.there.queue[1:]
	n, _ := strconv.Atoi(strings.Fields(body)[0])
	if w.requests[n].kind != ignored {
		w.replied = append(w.replied, body)
		for range times {
			w.must(w.peer.rdb.RPush(w.Context(), replyQueue, body).Err())
		}
	}
}

// takeNow does not wait: a claim that a stranded BLMOVE fills is looked into at once by
// a relay whose own BLMOVE failed, and else when that ends.
func (r *worker) takeNow(w *world, q msgbus.Queue) (*msgbus.Claim, error) {
	r.ForgetDrained()
	return r.Take(w.Context(), q)
}

// collect claims services' replies and finds the records that they answer.
func (w *world) collect(r *worker) {
	w.Helper()
	c, err := r.takeNow(w, msgbus.ReplyQueue)
	if w.fenced(r, err) || len(c.Messages) == 0 {
		return
	}
	r.replies, r.departures = c, nil
	taken := map[string]bool{}
	for _, text := range c.Messages {
		if text == msgbus.DealtWith {
			continue
		}
		f := strings.Fields(text) // number, epoch, uid
		opens, err := r.Opens(w.Context(), f[2:])
		w.must(err)
		open := &msgbus.Open{UID: f[2], Source: self, Epoch: f[1]}
		for _, o := range opens[0] {
			if o.Epoch == f[1] && !taken[o.Record+o.UID] {
				open = &o
				taken[o.Record+o.UID] = true
			}
		}
		r.departures = append(r.departures, msgbus.Departure{Open: open, Body: []byte("reply " + f[0])})
	}
}

// depart sends on what was collected. A relay that dies before does not.
func (w *world) depart(r *worker, dies bool) {
	w.Helper()
	c := r.replies
	r.replies = nil
	if dies {
		w.stop(r.twin, r.instance)
		return
	}
	if len(r.departures) > 0 {
		out, err := r.Depart(w.Context(), c, r.departures)
		if w.fenced(r, err) {
			return
		}
		for i, d := range r.departures {
			if d.Open.Record != "" {
				w.departed(d.Open.Epoch+" "+d.Open.UID, out[i])
			}
		}
		return
	}
	w.fenced(r, r.Drop(w.Context(), c))
}

// wake lets a relay go on that has been silent for a while, with what it had in
// hand. If its session has ended nothing changes.
func (w *world) wake(r *worker) {
	w.Helper()
	before := r.twin.dump()
	err := r.Renew(w.Context())
	if err == nil {
		r.leaseEnds = w.clock.Add(r.Lease())
	}
	over := w.fenced(r, err)
	if r.local != nil {
		w.admit(r)
	}
	if r.replies != nil {
		w.depart(r, false)
	}
	if over || r.local == nil && w.claimable(r, msgbus.LocalQueue) {
		w.take(r)
	}
	if over && r.twin.dump() != before {
		w.Fatalf("a session that has ended changes Redis:\n%s\nwas\n%s", r.twin.dump(), before)
	}
}

// claimable tells whether a relay finds something in a queue: where it does not,
// it waits.
func (w *world) claimable(r *worker, q msgbus.Queue) bool {
	w.Helper()
	return w.length(r.twin, "msgbus.system."+string(q))+w.length(r.twin, claimOf(r, q)) > 0
}

func claimOf(r *worker, q msgbus.Queue) string {
	return "msgbus.system.claim." + r.session + "." + string(q)
}

func (w *world) length(t *twin, key string) int64 {
	w.Helper()
	n, err := t.rdb.LLen(w.Context(), key).Result()
	w.must(err)
	return n
}

// strand serves a BLMOVE whose relay waits for it no more. Order is not promised
// then.
func (w *world) strand(r *worker) bool {
	w.Helper()
	q := msgbus.LocalQueue
	if r.twin == w.peer {
		q = msgbus.ReplyQueue
	}
	lease, err := r.twin.rdb.ZScore(w.Context(), "msgbus.system.sessions", r.session).Result()
	if err != nil || lease < 0 && r.twin.now().After(time.UnixMilli(int64(-lease)).Add(block)) {
		return false // it was served or ended before
	}
	w.alone = false
	return r.twin.rdb.LMove(w.Context(), "msgbus.system."+string(q), claimOf(r, q), "LEFT", "RIGHT").Err() == nil
}
