package backlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Window is W: how many of a source's latest numbers a receiver can tell from
// repeats, and so how far a lane may run ahead of its oldest request.
const Window = 65_536

// The rest of a lane after a failed attempt: doubling, and never in step with
// other lanes.
const (
	firstRest = time.Second
	// longestRest is the cap of a lane's rest, a peer's Retry-After included.
	longestRest = 20 * time.Second
	restJitter  = 0.2
	// farthestRest is more than any lane rests or any reply waits. What is due
	// later was written before Redis's clock was set back, and is due now.
	farthestRest = 30 * time.Second
	farthestHold = time.Second // the same for a reply, see publishedHold
)

// laneHold is how long a lane in service is not offered to other relays, which
// then find that its owner lives. After a crash the lane waits no longer than
// that, once the owner's session has ended.
const laneHold = time.Second

// exhaustedMost is how many requests end in one step of a failing lane.
const exhaustedMost = 256

// endedBytes is about how large the entries are that end in one step.
const endedBytes = 4 << 20

// Fetch reads what the lane to twin has to send next and makes the lane this
// session's. Nothing leaves the lane before Settle.
func (s *Store) Fetch(ctx context.Context, twin uint32) (*msgbus.Batch, error) {
	return fetched(twin, s.call(ctx, s.fetching(twin)))
}

// fetching is the script that fetches.
func (s *Store) fetching(twin uint32) call {
	t := id(twin)
	return call{s.scripts.fetch,
		[]string{s.keys.sessions(), s.keys.lanes(), s.keys.lane(t), s.keys.laneRequests(t), s.keys.laneReplies(t), s.keys.backlog(), s.keys.replies(), s.keys.laneTries(t),
			s.keys.laneLater(t), s.keys.lanesLater(), s.keys.lanesPaused()},
		[]any{s.currentSession(), t, s.opts.MaxBatch, s.opts.MaxBatchBytes, Window, laneHold.Milliseconds(),
			farthestRest.Milliseconds(), farthestHold.Microseconds()}}
}

// fetched reads what was fetched.
func fetched(twin uint32, cmd *redis.Cmd) (*msgbus.Batch, error) {
	result, err := cmd.StringSlice()
	if err != nil {
		return nil, fmt.Errorf("fetch from lane %d: %w", twin, err)
	}
	switch result[0] {
	case "batch":
		b := &msgbus.Batch{Probe: result[1] == "1", Parcels: make([]msgbus.Parcel, 0, len(result)/3)}
		for i := 2; i+2 < len(result); i += 3 {
			b.Parcels = append(b.Parcels, msgbus.Parcel{Kind: msgbus.ParcelKind(result[i]), ID: result[i+1], Body: result[i+2]})
		}
		return b, nil
	case "wait":
		ms, err := strconv.ParseInt(result[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("fetch from lane %d: unexpected wait: %w", twin, err)
		}
		return &msgbus.Batch{Wait: time.Duration(ms) * time.Millisecond}, nil
	default: // idle, owned
		return &msgbus.Batch{Wait: -1}, nil
	}
}

// withFetch runs a step, and in the same exchange fetches from the lane to a twin,
// unless that is 0. The batch is nil when it could not be fetched: then the lane is
// to be asked once more, on its own account.
func (s *Store) withFetch(ctx context.Context, step call, twin uint32) (*redis.Cmd, *msgbus.Batch) {
	if twin == 0 {
		return s.call(ctx, step), nil
	}
	cmds := s.exchange(ctx, step, s.fetching(twin))
	batch, err := fetched(twin, cmds[1])
	if err != nil {
		batch = nil
	}
	return cmds[0], batch
}

// Settle takes parcels whose outcome is known off the lane, and puts off what the
// peer takes later: for 1 to 20 s, or less if something was put off before. What
// is put off comes back oldest first.
func (s *Store) Settle(ctx context.Context, twin uint32, o msgbus.Settlement) error {
	_, err := s.settle(ctx, twin, o, 0)
	return err
}

// SettleAndFetch is Settle and Fetch in one exchange. The batch is nil when it could
// not be fetched.
func (s *Store) SettleAndFetch(ctx context.Context, twin uint32, o msgbus.Settlement) (*msgbus.Batch, error) {
	return s.settle(ctx, twin, o, twin)
}

func (s *Store) settle(ctx context.Context, twin uint32, o msgbus.Settlement, fetch uint32) (*msgbus.Batch, error) {
	t := id(twin)
	rest := min(max(o.Why.After, firstRest), longestRest)
	var requests, replies, putOff []any
	for _, p := range o.Settled {
		if p.Kind == msgbus.ReplyParcel {
			replies = append(replies, p.ID)
		} else {
			requests = append(requests, p.ID)
		}
	}
	for _, p := range o.PutOff {
		putOff = append(putOff, p.ID)
	}
	args := []any{flag(o.Answered), t, rest.Milliseconds(), string(o.Why.Reason), o.Why.Detail, len(requests), len(replies)}
	args = slices.Concat(args, requests, replies, putOff)
	settled, batch := s.withFetch(ctx, call{s.scripts.settle,
		[]string{s.keys.lane(t), s.keys.laneRequests(t), s.keys.laneTries(t), s.keys.laneReplies(t), s.keys.replies(), s.keys.repliesDeadlines(),
			s.keys.laneLater(t), s.keys.lanesLater()},
		args}, fetch)
	if err := settled.Err(); err != nil {
		return nil, fmt.Errorf("settle lane %d: %w", twin, err)
	}
	return batch, nil
}

// Fail notes a failed attempt and lets the lane rest. It returns requests whose
// tries are used up: the caller must end them, and ask Exhausted for more.
func (s *Store) Fail(ctx context.Context, twin uint32, f msgbus.Failure) ([]*msgbus.Entry, error) {
	t := id(twin)
	first, longest, counts := firstRest, longestRest, true
	factor := 1 - restJitter + 2*restJitter*rand.Float64()
	if f.Rest > 0 {
		first, counts = min(f.Rest, longestRest), false
		longest = first
		factor = 1 + restJitter*rand.Float64() // no earlier than asked
	}
	pairs, err := s.run(ctx, s.scripts.fail,
		[]string{s.keys.lanes(), s.keys.lane(t), s.keys.laneTries(t), s.keys.backlog()},
		s.currentSession(), t, first.Milliseconds(), longest.Milliseconds(), int(1000*factor), flag(counts),
		string(f.Reason), f.Detail, exhaustedMost, endedBytes).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("note the failure of lane %d: %w", twin, err)
	}
	return s.entries(ctx, pairs)
}

// Exhausted returns requests of a lane whose tries are used up and that have
// not been ended.
func (s *Store) Exhausted(ctx context.Context, twin uint32) ([]*msgbus.Entry, error) {
	t := id(twin)
	pairs, err := s.run(ctx, s.scripts.exhausted, []string{s.keys.lane(t), s.keys.laneTries(t), s.keys.backlog()}, exhaustedMost, endedBytes).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("find exhausted requests of lane %d: %w", twin, err)
	}
	return s.entries(ctx, pairs)
}

// Causes returns why each of some requests has not been sent, as far as is
// known: the reason for which it is put off, or else the last failure of its
// lane, if that has not succeeded since.
func (s *Store) Causes(ctx context.Context, entries []*msgbus.Entry) ([]msgbus.Failure, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	putOff := make([]*redis.FloatCmd, len(entries))
	lanes := make(map[uint32]*redis.SliceCmd)
	for i, e := range entries {
		twin := e.Message.Destinations[0]
		putOff[i] = pipe.ZScore(ctx, s.keys.laneLater(id(twin)), e.Message.UID)
		if lanes[twin] == nil {
			lanes[twin] = pipe.HMGet(ctx, s.keys.lane(id(twin)), "reason", "detail", "later_reason", "later_detail")
		}
	}
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) {
		return nil, fmt.Errorf("read why requests were not sent: %w", translate(err))
	}
	causes := make([]msgbus.Failure, len(entries))
	for i, e := range entries {
		var fields [4]string
		for f, v := range lanes[e.Message.Destinations[0]].Val() {
			fields[f], _ = v.(string)
		}
		about := fields[:2]
		if putOff[i].Err() == nil {
			about = fields[2:]
		}
		causes[i] = msgbus.Failure{Reason: msgbus.Reason(about[0]), Detail: about[1]}
	}
	return causes, nil
}

// DueLanes names lanes that have something to do now, at most `most` that can go
// on and `most` that failed last.
func (s *Store) DueLanes(ctx context.Context, most int) (msgbus.DueLanes, error) {
	result, err := s.run(ctx, s.scripts.lanes, []string{s.keys.lanes(), s.keys.lanesLater()}, most, farthestRest.Milliseconds()).Slice()
	if err != nil {
		return msgbus.DueLanes{}, fmt.Errorf("find due lanes: %w", err)
	}
	ms, _ := result[0].(int64)
	due := msgbus.DueLanes{Next: time.Duration(ms) * time.Millisecond}
	for i, into := range []*[]uint32{&due.Ready, &due.Failing} {
		names, _ := result[1+i].([]any)
		for _, v := range names {
			text, _ := v.(string)
			n, err := strconv.ParseUint(text, 10, 32)
			if err != nil {
				return msgbus.DueLanes{}, fmt.Errorf("find due lanes: unexpected twin %q", text)
			}
			*into = append(*into, uint32(n))
		}
	}
	return due, nil
}

// Hasten ends the wait of a failing lane, and tells whether it waited.
func (s *Store) Hasten(ctx context.Context, twin uint32) (bool, error) {
	t := id(twin)
	n, err := s.run(ctx, s.scripts.hasten, []string{s.keys.lanes(), s.keys.lane(t)}, t).Int()
	if err != nil {
		return false, fmt.Errorf("hasten lane %d: %w", twin, err)
	}
	return n == 1, nil
}
