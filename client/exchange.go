package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// An exchange is one request and what comes back to it. All but what is said otherwise
// is guarded by the inbox's mutex.
type exchange struct {
	c        *Client        // never changes, as all of this part
	id       string         // "" of one that is one-way
	parcel   *parcel        // on its way to Redis
	progress func(Progress) // nil when nobody asked for it
	overdue  *time.Timer    // when even the relay's error has not come

	left   []uint32            // twins that have not answered, in the caller's order
	asked  map[uint32]struct{} // twins that the caller has named, and others that have answered
	seqs   map[uint32]int64    // of each twin's latest interim reply
	of     int                 // twins of which the relay alone knows, that have not answered; -1: it has not said how many
	events []event             // in their order, not taken yet
	ready  chan struct{}       // of capacity 1: there is an event
}

// An event is an interim reply, or how the request ended for one twin.
type event struct {
	interim *Progress
	end     *Reply
	last    bool // nothing more comes
}

// maxInterim is how many interim replies of a request may wait for its caller.
const maxInterim = 1000

// begin sends a request and returns at once. Whoever gets an exchange must end it.
func (c *Client) begin(ctx context.Context, twins []uint32, cmd string, in any, o callOptions) (*exchange, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m, life, err := c.request(ctx, twins, cmd, in, o)
	if err != nil {
		return nil, err
	}
	x := &exchange{
		c: c, id: m.ext.id, progress: o.progress, overdue: time.NewTimer(life + c.grace),
		left: slices.Clone(m.destinations), asked: make(map[uint32]struct{}, len(m.destinations)), seqs: make(map[uint32]int64), ready: make(chan struct{}, 1),
	}
	for _, twin := range m.destinations {
		x.asked[twin] = struct{}{}
	}
	if m.ext.group != "" || m.ext.topic != "" {
		x.of = -1
	}
	x.parcel = &parcel{raw: string(m.append(nil)), done: func(err error) {
		if err != nil {
			c.in.fail(x, err)
		}
	}}
	if err := c.in.expect(x); err != nil {
		return nil, err
	}
	c.out.put(x.parcel)
	return x, nil
}

// request makes the message. life is how long it may take.
func (c *Client) request(ctx context.Context, twins []uint32, cmd string, in any, o callOptions) (m *outgoing, life time.Duration, err error) {
	switch {
	case cmd == "":
		return nil, 0, errors.New("a request needs a command")
	case o.topic != "" && !msgbus.ValidTopic(o.topic):
		return nil, 0, fmt.Errorf("%q is no topic", o.topic)
	case len(twins) == 0 && o.group == "" && o.topic == "":
		return nil, 0, errors.New("a request needs a twin")
	case slices.Contains(twins, 0):
		return nil, 0, errors.New("there is no twin 0")
	case o.err != nil:
		return nil, 0, o.err
	}
	data, err := encodeData(in)
	if err != nil {
		return nil, 0, fmt.Errorf("encode the data of %s: %w", cmd, err)
	}
	now := time.Now()
	life = min(o.life(ctx, now), maxExpiration*time.Second)
	m = &outgoing{
		command: cmd, destinations: unique(twins), data: data, schema: o.schema, ret: c.list,
		now: now.Unix(), exp: expiration(now, life), retries: o.retries, trace: o.trace,
		ext: extension{
			id: c.nextID(), tag: o.tag, mandatory: o.mandatory, oneway: o.oneway,
			group: o.group, topic: o.topic, durable: o.durable, retain: o.retain,
		},
	}
	if o.progress != nil {
		m.ext.progress = c.list
	}
	return m, life, nil
}

// unique leaves out the second and later mentions of a twin.
func unique(twins []uint32) []uint32 {
	if len(twins) == 1 {
		return []uint32{twins[0]}
	}
	seen := make(map[uint32]struct{}, len(twins))
	var kept []uint32
	for _, t := range twins {
		if _, again := seen[t]; !again {
			seen[t] = struct{}{}
			kept = append(kept, t)
		}
	}
	return kept
}

// note takes what came for the request. It needs the inbox's mutex.
func (x *exchange) note(r *reply) {
	if r.ext.status != "" {
		x.noteInterim(r)
		return
	}
	_, known := x.asked[r.source]
	if r.failure != nil && (r.uid == "" || !known && x.of == 0) {
		// The relay could not take it at all. Then there is one error, of the own twin.
		x.endAll(r.answer)
		return
	}
	i := slices.Index(x.left, r.source)
	switch {
	case i >= 0:
		x.left = slices.Delete(x.left, i, i+1)
	case x.of != 0 && !known:
		x.asked[r.source] = struct{}{}
	default:
		return // it has answered
	}
	if x.of < 0 {
		x.of = max(int(r.ext.of), 1)
	}
	if x.of > 0 {
		x.of--
	}
	x.add(event{end: r.answer(r.source), last: x.isDone()})
}

// isDone tells whether nothing more comes.
func (x *exchange) isDone() bool { return len(x.left) == 0 && x.of == 0 }

func (x *exchange) noteInterim(r *reply) {
	_, known := x.asked[r.source]
	if x.progress == nil || !slices.Contains(x.left, r.source) && (known || x.of == 0) {
		return
	}
	// One may come twice. Counting begins anew when another service has the request.
	if last := x.seqs[r.source]; r.ext.seq <= last && (r.ext.seq != 1 || last == 1) {
		return
	}
	x.seqs[r.source] = r.ext.seq
	if len(x.events) >= maxInterim {
		oldest := slices.IndexFunc(x.events, func(e event) bool { return e.interim != nil })
		if oldest >= 0 {
			x.events = slices.Delete(x.events, oldest, oldest+1)
		}
	}
	x.add(event{interim: r.interim()})
}

// endAll ends the request for all twins that have not answered.
func (x *exchange) endAll(end func(twin uint32) *Reply) {
	left := x.left
	if x.of != 0 {
		left = []uint32{0} // nobody knows which
	}
	x.left, x.of = nil, 0
	for i, twin := range left {
		x.add(event{end: end(twin), last: i == len(left)-1})
	}
}

func (x *exchange) add(e event) {
	x.events = append(x.events, e)
	select {
	case x.ready <- struct{}{}:
	default: // it is said already
	}
}

func (x *exchange) pop() (event, bool) {
	if len(x.events) == 0 {
		return event{}, false
	}
	e := x.events[0]
	x.events = x.events[1:]
	return e, true
}

// all yields how the request ended for each twin.
func (x *exchange) all(ctx context.Context) iter.Seq[*Reply] {
	return func(yield func(*Reply) bool) {
		for {
			reply, last := x.next(ctx)
			if !yield(reply) || last {
				return
			}
		}
	}
}

// next waits for how the request ended for another twin, and hands over interim replies
// meanwhile. It must not be called again when that was the last.
func (x *exchange) next(ctx context.Context) (reply *Reply, last bool) {
	for {
		e, ok := x.c.in.next(x)
		switch {
		case ok && e.end != nil:
			return e.end, e.last
		case ok:
			x.progress(*e.interim)
			continue
		}
		select {
		case <-x.ready:
		case <-ctx.Done():
			x.c.in.fail(x, ctx.Err())
		case <-x.overdue.C:
			x.c.in.fail(x, ErrNoAnswer)
		}
	}
}

// end forgets the request. What has not left for Redis by now stays here.
func (x *exchange) end() {
	x.overdue.Stop()
	x.c.out.withdraw(x.parcel)
	x.c.in.forget(x)
}

// expiration is exp for a life that begins now, in seconds after now cut to seconds:
// never less than life, and never what would be read as a point in time.
func expiration(now time.Time, life time.Duration) int64 {
	end := now.Add(life)
	exp := end.Unix() - now.Unix()
	if end.Nanosecond() > 0 {
		exp++
	}
	return min(max(exp, 1), maxExpiration)
}

// maxExpiration is the largest exp that is not a point in time. The relay cuts it
// further.
const maxExpiration = 1_000_000_000

func encodeTag(tag any) (json.RawMessage, error) {
	raw, err := json.Marshal(tag)
	if err == nil && len(raw) > msgbus.MaxTag {
		err = fmt.Errorf("it has %d bytes, at most %d are carried", len(raw), msgbus.MaxTag)
	}
	if err != nil {
		return nil, fmt.Errorf("encode the tag: %w", err)
	}
	return raw, nil
}
