package backlog_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// peerTwin is the twin that the requests of this model go to.
const peerTwin = 1002

const serviceQueue = "msgbus.calc.add"

// block is how long a relay waits in Redis for a message. No worker does: it
// takes when there is something.
const block = 10 * time.Second

// A world is two twins with a Redis each, their relays, and what is between
// them on the wire. What relays do with their storage is what package relay
// does, one call at a time.
type world struct {
	*promise
	source, peer *twin
	wire         []letter
	answers      []pending // made by a relay and not written yet
	replied      []string  // what the service has answered
	signatures   int
	posted       map[string]bool // signatures that a relay has taken
	clock        time.Time       // of both, but for the time that the test itself takes
}

// A twin is one Redis and the relays that serve it.
type twin struct {
	*rig
	id       uint32
	observer *backlog.Store // never joins
	relays   []*worker      // by instance; nil while none runs
	silent   []*worker      // stopped, or killed: they may yet wake up
	saved    func()         // sets what the promise knows back to the copy on disk
	copied   time.Time
	safe     bool // its Redis suffers nothing
}

// A worker is one relay's session and what it has in hand.
type worker struct {
	*backlog.Store
	twin       *twin
	instance   int
	session    string
	local      *msgbus.Claim
	replies    *msgbus.Claim
	departures []msgbus.Departure
	sent       []msgbus.Parcel // its lane's batch on the wire
	told       []msgbus.Parcel // … of which the other side has said that it has them
	later      []msgbus.Parcel // … or that it takes them later
	knows      bool            // an epoch of its Redis
	leaseEnds  time.Time
	ended      bool // its session: it must change nothing
}

// A letter is a message on its way to the other twin.
type letter struct {
	from   *worker
	parcel msgbus.Parcel
	epoch  string
	uid    string
	number uint64
	body   string
	life   time.Duration
	kind   string // of the request
	digest string // of the signature over all that came with it; "" in version 1
}

// Pending answers were made from entries that may be others by now.
type pending struct {
	by      *worker
	answers []msgbus.Answer
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// start begins a relay of an instance, as a new process: an earlier session of
// the name is fenced.
func (w *world) start(t *twin, instance int) *worker {
	w.Helper()
	addr, err := backlog.ParseURL(t.url)
	w.must(err)
	s, err := backlog.Open(backlog.Options{Redis: addr, Twin: t.id, Instance: strconv.Itoa(instance), MaxTake: 4, MaxBatch: 4, Block: block})
	w.must(err)
	s.FakeMonotonic(t.rig.monotonic)
	r := &worker{Store: s, twin: t, instance: instance}
	t.relays[instance] = r
	w.join(r)
	return r
}

// join begins a session. What the worker holds stays with the one before.
func (w *world) join(r *worker) {
	w.Helper()
	err := r.Join(w.Context())
	if errors.Is(err, msgbus.ErrSuperseded) && (!w.clock.After(r.twin.copied.Add(r.Lease()+time.Second)) || w.livesAgain(r)) {
		// The copy that Redis was set back to is of when an earlier process lived, or it
		// has woken up since and goes on.
		w.stop(r.twin, r.instance)
		w.start(r.twin, r.instance)
		return
	}
	w.must(err)
	for _, old := range r.twin.silent {
		old.ended = old.ended || old.instance == r.instance
	}
	w.recovered(r.twin)
	r.session, err = r.twin.rdb.HGet(w.Context(), "msgbus.system.instances", strconv.Itoa(r.instance)).Result()
	w.must(err)
	r.knows = r.knows || w.here.hasEpoch && r.twin == w.source
	r.leaseEnds = w.clock.Add(r.Lease())
	r.local, r.replies, r.departures = nil, nil, nil
}

// livesAgain tells whether an earlier process of the same instance has a session.
func (w *world) livesAgain(r *worker) bool {
	return slices.ContainsFunc(r.twin.silent, func(old *worker) bool {
		return old.instance == r.instance && w.clock.Before(old.leaseEnds.Add(time.Second))
	})
}

// recovered notes that the sessions whose leases have run out were fenced.
func (w *world) recovered(t *twin) {
	for _, old := range t.silent {
		old.ended = old.ended || w.clock.After(old.leaseEnds)
	}
}

// alive returns a relay that runs, or nil.
func (t *twin) alive(which int) *worker {
	for i := range t.relays {
		if r := t.relays[(which+i)%len(t.relays)]; r != nil {
			return r
		}
	}
	return nil
}

// fenced tells whether a step found the session ended, and begins another one,
// as a relay that runs would.
func (w *world) fenced(r *worker, err error) bool {
	w.Helper()
	if errors.Is(err, msgbus.ErrFenced) {
		if slices.Contains(r.twin.relays, r) {
			w.join(r)
		}
		return true
	}
	w.must(err)
	if r.ended {
		w.Fatal("a session that has ended changes something")
	}
	return false
}

// push is an app's.
func (w *world) push(life time.Duration, kind string) {
	w.requests = append(w.requests, &appRequest{life: life, kind: kind})
	w.must(w.source.rdb.RPush(w.Context(), localQueue, len(w.requests)-1).Err())
}

// take claims what waits for the relay of the source.
func (w *world) take(r *worker) {
	w.Helper()
	c, err := r.takeNow(w, msgbus.LocalQueue)
	if !w.fenced(r, err) && len(c.Messages) > 0 {
		r.local = c
	}
}

// admit admits what the worker has claimed, or refuses it.
func (w *world) admit(r *worker) {
	w.Helper()
	var admissions []msgbus.Admission
	var numbers []int
	for i, text := range r.local.Messages {
		if text == msgbus.DealtWith {
			continue
		}
		n, err := strconv.Atoi(text)
		w.must(err)
		req := w.requests[n]
		if req.kind == unreadable {
			err := r.Refuse(w.Context(), r.local, i, refusal(), ret(n), []byte("error "+text), false)
			if w.fenced(r, err) {
				return
			}
			continue
		}
		m := request(peerTwin)
		m.Data, m.ReturnQueue, m.Expiration, m.Retry = text, ret(n), int64(req.life.Seconds()), 3
		admissions, numbers = append(admissions, msgbus.Admission{Message: m}), append(numbers, n)
	}
	c := r.local
	r.local = nil
	if len(admissions) == 0 {
		w.fenced(r, r.Drop(w.Context(), c))
		return
	}
	uids, err := r.Admit(w.Context(), c, admissions)
	if w.fenced(r, err) {
		return
	}
	if !w.here.hasEpoch && !r.knows {
		clear(w.used) // nobody is left who could know
	}
	w.here.hasEpoch, r.knows = true, true
	for i, uid := range uids {
		e, err := r.Entry(w.Context(), uid)
		w.must(err)
		w.admitted(numbers[i], e.Epoch, uid, w.clock.Add(w.requests[numbers[i]].life))
	}
}

func ret(n int) string { return "ret." + strconv.Itoa(n) }

// send puts on the wire what waits for the other twin.
func (w *world) send(r *worker, to uint32) bool {
	w.Helper()
	b, err := r.Fetch(w.Context(), to)
	if w.fenced(r, err) {
		return true
	}
	for _, p := range b.Parcels {
		l := letter{from: r, parcel: p, body: p.Body}
		if p.Kind == msgbus.RequestParcel {
			e, err := r.ParseEntry(p.Body)
			w.must(err)
			n, err := strconv.Atoi(e.Message.Data)
			w.must(err)
			l.uid, l.epoch, l.body, l.kind = p.ID, e.Epoch, e.Message.Data, w.requests[n].kind
			_, l.number, _ = msgbus.ParseUID(p.ID)
			l.life = max(time.Second, e.Deadline.Sub(r.twin.now()))
			if l.number%2 == 0 {
				w.signatures++
				l.digest = strconv.Itoa(w.signatures)
			}
		} else {
			id := strings.Fields(p.ID)
			l.epoch, l.uid = id[1], id[2]
		}
		w.wire = append(w.wire, l)
	}
	r.sent, r.told, r.later = b.Parcels, nil, nil
	return len(b.Parcels) > 0
}

// deliver hands a letter to a relay of the other twin. The sender hears of it
// unless the answer is lost.
func (w *world) deliver(l letter, which int, heard, slow bool) {
	w.Helper()
	to := w.source
	if l.parcel.Kind == msgbus.RequestParcel {
		to = w.peer
	}
	r := to.alive(which)
	switch {
	case r == nil:
		return
	case to == w.peer:
		heard = w.deliverRequest(r, l) && heard
	default:
		heard = w.deliverReply(r, l, slow) && heard
	}
	if heard && slices.ContainsFunc(l.from.sent, func(p msgbus.Parcel) bool { return p == l.parcel }) {
		l.from.told = append(l.from.told, l.parcel)
	}
}

// putOff lets a relay of the other twin say that it takes a request later.
func (w *world) putOff(l letter) {
	if l.parcel.Kind == msgbus.RequestParcel && slices.Contains(l.from.sent, l.parcel) {
		l.from.later = append(l.from.later, l.parcel)
	}
}

// deliverRequest tells whether the answer is that the request has arrived. What
// comes a second time under one signature is refused for it, unless Redis has lost
// the first time.
func (w *world) deliverRequest(r *worker, l letter) bool {
	w.Helper()
	a := msgbus.Acceptance{UID: l.uid, Number: l.number, Command: "calc.add", Life: l.life, Body: []byte(l.body + " " + l.epoch + " " + l.uid)}
	if a.IsReply = l.kind == unserved; a.IsReply {
		a.Body = []byte("refusal " + l.body)
	}
	var out []msgbus.Outcome
	var err error
	if l.digest == "" {
		out, err = r.Accept(w.Context(), nil, self, l.epoch, []msgbus.Acceptance{a})
	} else {
		t := &msgbus.Transfer{Source: self, Epoch: l.epoch, Digest: l.digest}
		out, err = r.AcceptSigned(w.Context(), t, []msgbus.Acceptance{a})
	}
	if errors.Is(err, msgbus.ErrRepeated) && w.posted[l.digest] {
		return false
	}
	w.must(err)
	w.posted[l.digest] = true
	w.accepted(l.epoch+" "+l.uid, string(a.Body), a.IsReply, out[0])
	return true
}

// deliverReply tells whether the reply has been dealt with. A slow relay writes
// the answer some time after it has read the entry.
func (w *world) deliverReply(r *worker, l letter, slow bool) bool {
	w.Helper()
	e, err := r.Entry(w.Context(), l.uid)
	if errors.Is(err, msgbus.ErrNotFound) || err == nil && e.Epoch != l.epoch {
		return true // late
	}
	w.must(err)
	w.pend(r, slow, reply(e, l.body))
	return !slow
}

// expire ends what is due, now or when its relay comes to it.
func (w *world) expire(r *worker, slow bool) bool {
	w.Helper()
	due, err := r.Due(w.Context())
	w.must(err)
	w.fail(r, due, slow)
	return len(due) > 0
}

func (w *world) fail(r *worker, entries []*msgbus.Entry, slow bool) {
	w.Helper()
	var answers []msgbus.Answer
	for _, e := range entries {
		answers = append(answers, failure(e, "error "+e.Message.Data))
	}
	if len(answers) > 0 {
		w.pend(r, slow, answers...)
	}
}

// pend writes answers, now or when the relay comes to it.
func (w *world) pend(r *worker, slow bool, answers ...msgbus.Answer) {
	w.Helper()
	w.answers = append(w.answers, pending{r, answers})
	if !slow {
		w.answer(len(w.answers) - 1)
	}
}

func (w *world) answer(i int) {
	w.Helper()
	a := w.answers[i]
	w.answers = slices.Delete(w.answers, i, i+1)
	_, err := a.by.Answer(w.Context(), nil, a.answers)
	w.must(err)
}
