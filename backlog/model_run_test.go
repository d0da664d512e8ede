package backlog_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A happening is something that happens to a world. What it cannot happen to, it
// leaves alone.
type happening struct {
	Do    string
	Which int  // of several; a number of messages, a length of time
	Odd   bool // the rarer way: the answer is lost, the relay is slow, the service replies twice
}

// The happenings by how often they come.
var happenings = strings.Fields(`
	push push push push push take take take admit admit admit send send send deliver deliver deliver deliver
	serve serve collect collect depart depart sendBack sendBack settle settleBack redeliver redeliver drop later later
	replyAgain replyAgain expire answer wait wait crash crash stop start start wake wake strand leave copy copy restart setBack flush anew`)

func drawHappening(t *rapid.T) happening {
	return happening{rapid.SampledFrom(happenings).Draw(t, "what"), rapid.IntRange(0, 7).Draw(t, "which"), rapid.IntRange(0, 4).Draw(t, "odd") == 4}
}

// An app waits in vain or gets two replies, a stranger's reply, or an error for
// what was done; a service does the same work twice: after a crash, a repeat, a
// lease that ran out, a Redis that came back with less than it had.
func TestPromiseIsKeptWhateverHappens(t *testing.T) {
	source, peer := onRealMovingClock(t), onRealMovingClock(t)
	observers := []*backlog.Store{source.open(), peer.open()}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, &twin{rig: source, id: self, observer: observers[0]}, &twin{rig: peer, id: peerTwin, observer: observers[1]})
		defer w.close()
		for _, s := range rapid.SliceOfN(rapid.Custom(drawHappening), 40, 200).Draw(rt, "steps") {
			w.do(s)
			w.look()
		}
		w.heal()
	})
}

func newWorld(rt *rapid.T, source, peer *twin) *world {
	relays := rapid.IntRange(1, 2).Draw(rt, "relays a twin")
	w := &world{promise: newPromise(rt, relays == 1), source: source, peer: peer, clock: source.now(), posted: make(map[string]bool)}
	source.safe, peer.safe = rapid.Bool().Draw(rt, "Redis here is safe"), rapid.Bool().Draw(rt, "Redis there is safe")
	for _, t := range []*twin{source, peer} {
		w.must(t.rdb.FlushAll(rt.Context()).Err())
		t.relays, t.silent, t.saved = make([]*worker, relays), nil, nil
		for i := range relays {
			w.start(t, i)
		}
	}
	w.serviceIsKnown()
	return w
}

// serviceIsKnown spares the service's queue its end, which an unread one has.
func (w *world) serviceIsKnown() {
	w.must(w.peer.rdb.Do(w.Context(), "ZADD", "msgbus.system.served", 1, "calc.add").Err())
}

func (w *world) close() {
	for _, t := range []*twin{w.source, w.peer} {
		for _, r := range slices.Concat(t.relays, t.silent) {
			if r != nil {
				_ = r.Close()
			}
		}
	}
}

// do lets something happen, and the relays carry on where it cannot.
func (w *world) do(s happening) {
	w.Helper()
	for i := range usual {
		if w.happens(s) {
			return
		}
		s.Do = usual[(s.Which+i)%len(usual)]
	}
}

// usual is what relays and services do all day, the end of the way first, so
// that messages move on.
var usual = strings.Fields("settleBack deliver sendBack depart collect serve settle deliver send admit take expire")

// happens tells whether what is to happen can.
func (w *world) happens(s happening) bool {
	w.Helper()
	here, there := w.source.alive(s.Which), w.peer.alive(s.Which)
	switch s.Do {
	case "push":
		life := []time.Duration{2 * time.Hour, 2 * time.Hour, 5 * time.Second, time.Minute}[s.Which%4]
		for range 1 + s.Which/3 {
			kind := served
			if s.Odd {
				kind = []string{unserved, unreadable, ignored}[len(w.requests)%3]
			}
			w.push(life, kind)
		}
	case "take":
		if here == nil || !w.claimable(here, msgbus.LocalQueue) {
			return false
		}
		w.take(here)
	case "admit":
		if here == nil || here.local == nil {
			return false
		}
		w.admit(here)
	case "send":
		return here != nil && len(here.sent) == 0 && w.send(here, peerTwin)
	case "sendBack":
		return there != nil && len(there.sent) == 0 && w.send(there, self)
	case "deliver", "redeliver", "drop", "later":
		return w.carry(s)
	case "settle":
		return here != nil && w.settle(here, peerTwin, s.Odd || s.Which > 5)
	case "settleBack":
		return there != nil && w.settle(there, self, s.Odd || s.Which > 5)
	case "serve":
		return w.serveSome(s)
	case "collect":
		if there == nil || !w.claimable(there, msgbus.ReplyQueue) {
			return false
		}
		w.collect(there)
	case "depart":
		if there == nil || there.replies == nil {
			return false
		}
		w.depart(there, s.Odd && s.Which < 4)
	case "replyAgain":
		if len(w.replied) == 0 {
			return false
		}
		w.must(w.peer.rdb.RPush(w.Context(), replyQueue, w.replied[len(w.replied)-1-s.Which%len(w.replied)]).Err())
	case "expire":
		return here != nil && w.expire(here, s.Odd)
	case "answer":
		if len(w.answers) == 0 {
			return false
		}
		w.answer(s.Which % len(w.answers))
	case "wait":
		w.wait([]time.Duration{time.Second, 3 * time.Second, 12 * time.Second, 25 * time.Second}[s.Which%4])
		if s.Odd {
			w.wait(time.Hour)
		}
	default:
		t := w.source
		if s.Which%2 == 1 {
			t = w.peer
		}
		return w.trouble(t, s, s.Which/2%len(t.relays))
	}
	return true
}

// carry moves letters: some arrive, some arrive and are still on their way, some
// never arrive, and some are to come later.
func (w *world) carry(s happening) bool {
	w.Helper()
	if len(w.wire) == 0 {
		return false
	}
	for range min(len(w.wire), 1+s.Which/2) {
		i := s.Which % len(w.wire)
		l := w.wire[i]
		if s.Do != "redeliver" {
			w.wire = slices.Delete(w.wire, i, i+1)
		}
		switch s.Do {
		case "drop":
		case "later":
			w.putOff(l)
		default:
			w.deliver(l, s.Which, s.Do == "deliver" && !s.Odd, s.Odd)
		}
	}
	return true
}

func (w *world) serveSome(s happening) bool {
	w.Helper()
	if len(w.there.queue) == 0 {
		return false
	}
	for range min(len(w.there.queue), 1+s.Which/2) {
		times := 1
		if s.Odd {
			times = 2 // a service that was started twice
		}
		w.serve(times)
	}
	return true
}

// trouble is what becomes of a relay of a twin, or of its Redis.
func (w *world) trouble(t *twin, s happening, instance int) bool {
	w.Helper()
	r := t.relays[instance]
	switch s.Do {
	case "crash":
		w.stop(t, instance)
		w.start(t, instance)
	case "stop":
		w.stop(t, instance)
	case "start":
		if r == nil {
			w.start(t, instance)
		}
		return r == nil
	case "strand":
		if old := len(t.silent); old > 0 && (r == nil || s.Odd) {
			r = t.silent[old-1]
		}
		return r != nil && w.strand(r)
	case "leave":
		if r == nil {
			return false
		}
		w.must(r.Leave(w.Context()))
		r.ended = true
		w.stop(t, instance)
	case "wake":
		if len(t.silent) == 0 {
			return false
		}
		w.wake(t.silent[len(t.silent)-1-instance%len(t.silent)])
	default:
		if t.safe {
			return false
		}
		return w.disaster(t, s.Do)
	}
	return true
}

// stop is kill -9, or a process that the machine lets wait.
func (w *world) stop(t *twin, instance int) {
	if r := t.relays[instance]; r != nil {
		t.silent, t.relays[instance] = append(t.silent, r), nil
	}
}

// wait lets time pass. Relays that run keep their sessions and look after those
// of others.
func (w *world) wait(d time.Duration) {
	w.Helper()
	w.clock = w.clock.Add(d)
	for _, t := range []*twin{w.source, w.peer} {
		t.advance(d)
		for _, r := range t.relays {
			if r != nil && !w.fenced(r, r.Renew(w.Context())) {
				r.leaseEnds = w.clock.Add(r.Lease())
			}
		}
		if r := t.alive(0); r != nil {
			_, err := r.Recover(w.Context())
			w.must(err)
			w.recovered(t)
		}
	}
}

// disaster is what becomes of a Redis.
func (w *world) disaster(t *twin, what string) bool {
	w.Helper()
	switch {
	case what == "copy":
		w.save(t)
	case what == "restart":
		w.save(t)
		w.restart(t)
	case what == "anew": // the machine is set up anew; what it was still writes what it was about to
		for i := range t.relays {
			w.stop(t, i)
		}
		w.disaster(t, "flush")
		for i := range t.relays {
			w.start(t, i)
		}
	case what == "flush":
		w.must(t.rdb.FlushAll(w.Context()).Err())
		if t == w.source {
			w.sourceLost(sourceHistory{answers: map[int]string{}, latest: -1})
		} else {
			w.peerLost(newPeerHistory())
			w.serviceIsKnown()
		}
		for _, r := range t.silent {
			r.ended = true
		}
	case what == "setBack" && t.saved != nil:
		t.saved()
		w.restart(t)
		for _, r := range slices.Concat(t.relays, t.silent) {
			if r != nil {
				r.ended = false // as far as this Redis knows
				// A Redis takes longer to come back than a relay that runs to write
				// what it claimed, and the write fails.
				r.local, r.replies, r.departures = nil, nil, nil
			}
		}
	default:
		return false
	}
	return true
}

// save writes a copy of what a Redis holds, from which it starts the next time.
func (w *world) save(t *twin) {
	w.Helper()
	w.must(t.rdb.Save(w.Context()).Err())
	t.copied = w.clock
	if t == w.source {
		copied := w.here.clone()
		t.saved = func() { w.sourceLost(copied) }
	} else {
		copied := w.there.clone()
		t.saved = func() { w.peerLost(copied) }
	}
}

// restart starts a Redis anew and waits until all connections have noticed.
func (w *world) restart(t *twin) {
	w.Helper()
	t.rig.restart()
	eventually(t.T, "the new Redis is reached", func() bool { return t.rdb.Ping(w.Context()).Err() == nil })
	for _, r := range append(slices.Concat(t.relays, t.silent), &worker{Store: t.observer}) {
		if r != nil {
			eventually(t.T, "the new Redis is reached", func() bool { return r.Ping(w.Context()) == nil })
		}
	}
}
