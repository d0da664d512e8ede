package backlog

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// What operators look at. Nothing here changes anything, and each reads a bounded
// part of what there is, of one instant for each lane or request.

const (
	viewMost      = 1000     // queues and lanes that are read at most
	viewStep      = 500      // names that are read at once while some of them are looked for
	viewEntryMost = 16 << 10 // bytes of an entry without its data
)

// A QueueView is a list that relays or services take from.
type QueueView struct {
	Name    string    `json:"name"`    // "local", "remote" or "reply"; or a command
	Service bool      `json:"service"` // a service takes from it, not the relay
	Length  int64     `json:"length"`  // messages that wait; -1: the key is no list
	Claimed int64     `json:"claimed"` // … that a relay, or a service that has announced itself, has taken and not dealt with
	Served  time.Time `json:"served"`  // of a service: when it was last seen to take; zero: never
	// Announced is how many services have announced themselves for the command and live.
	Announced int64 `json:"announced"`
}

// Unserved tells of a command that nobody has announced, or was ever seen to take from.
func (v QueueView) Unserved() bool { return v.Service && v.Announced == 0 && v.Served.IsZero() }

// ViewQueues returns the relay's three queues, and then those of services that are
// known: that have taken from theirs, that other twins have called, or that have
// announced themselves.
func (s *Store) ViewQueues(ctx context.Context) ([]QueueView, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	sessions := pipe.ZRange(ctx, s.keys.sessions(), 0, viewMost-1)
	served := pipe.ZRevRangeWithScores(ctx, s.keys.served(), 0, viewMost-1)
	unread := pipe.ZRange(ctx, s.keys.unread(), 0, viewMost-1)
	consumers := pipe.ZRangeWithScores(ctx, s.keys.consumers(), 0, viewMost-1) // those that live first
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("list the queues: %w", translate(err))
	}
	v := queueViews{at: make(map[string]int)}
	claims := make(map[string]int) // key of a list → whose queue it was taken from
	for i, q := range queues {
		v.views = append(v.views, QueueView{Name: string(q)})
		for _, session := range sessions.Val() {
			claims[s.keys.claim(session, q)] = i
		}
	}
	for _, z := range served.Val() {
		cmd, _ := z.Member.(string)
		v.service(cmd).Served = time.UnixMilli(int64(z.Score))
	}
	for _, cmd := range unread.Val() {
		v.service(cmd)
	}
	for _, z := range consumers.Val() {
		member, _ := z.Member.(string)
		consumer, cmd, ok := parseConsumer(member)
		if !ok {
			continue
		}
		if service := v.service(cmd); z.Score == 0 {
			service.Announced++
		}
		claims[s.keys.taken(consumer, cmd)] = v.at[cmd]
	}
	if err := s.countQueues(ctx, v.views, claims); err != nil {
		return nil, fmt.Errorf("read the lengths of the queues: %w", err)
	}
	return v.views, nil
}

// queueViews are views of queues, those of services by their commands.
type queueViews struct {
	views []QueueView
	at    map[string]int
}

func (v *queueViews) service(cmd string) *QueueView {
	at, known := v.at[cmd]
	if !known {
		at = len(v.views)
		v.at[cmd] = at
		v.views = append(v.views, QueueView{Name: cmd, Service: true})
	}
	return &v.views[at]
}

// countQueues reads how much waits in each queue, and in the lists to which somebody has
// taken from them.
func (s *Store) countQueues(ctx context.Context, views []QueueView, claims map[string]int) error {
	pipe := s.rdb.Pipeline()
	lengths := make([]*redis.IntCmd, len(views))
	for i, v := range views {
		lengths[i] = pipe.LLen(ctx, s.queueKey(v.Name, v.Service))
	}
	taken := make(map[*redis.IntCmd]int, len(claims))
	for key, at := range claims {
		taken[pipe.LLen(ctx, key)] = at
	}
	_, err := pipe.Exec(ctx)
	if err != nil && !strings.HasPrefix(err.Error(), "WRONGTYPE") {
		return translate(err)
	}
	for i := range views {
		views[i].Length = lengths[i].Val()
		if lengths[i].Err() != nil {
			views[i].Length = -1
		}
	}
	for n, at := range taken {
		views[at].Claimed += n.Val()
	}
	return nil
}

// queueKey is where a queue is that [Store.ViewQueues] names.
func (s *Store) queueKey(name string, service bool) string {
	if service {
		return s.keys.command(name)
	}
	return s.keys.system(name)
}

// ViewQueue returns the first messages of a queue, no more than `most` and of each no
// more than so many bytes.
func (s *Store) ViewQueue(ctx context.Context, name string, service bool, most, bytes int) ([]string, error) {
	messages, err := s.run(ctx, s.scripts.viewQueue, []string{s.queueKey(name, service)}, most, bytes).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("look into queue %s: %w", name, err)
	}
	return messages, nil
}

// A LaneView is what waits for one twin, and how that fares.
type LaneView struct {
	Twin     uint32        `json:"twin"`
	State    LaneState     `json:"state"`
	At       time.Time     `json:"at"` // failing, put off: when it goes on; paused: since when; otherwise zero
	Requests int64         `json:"requests"`
	PutOff   int64         `json:"put_off"` // of the requests
	Replies  int64         `json:"replies"`
	Failures int64         `json:"failures"` // attempts that failed, one after another
	Reason   msgbus.Reason `json:"reason"`   // why it waits, where somebody knows
	Detail   string        `json:"detail"`
	Oldest   string        `json:"oldest"` // uid of the oldest request; "" without one
}

// A LaneState is what a lane waits for.
type LaneState string

// The states of a lane on which something waits.
const (
	LaneWaiting LaneState = "waiting" // for its turn
	LaneSending LaneState = "sending"
	LaneFailing LaneState = "failing" // it rests, since the last attempt failed
	LanePutOff  LaneState = "put_off" // the peer takes later what waits
	LanePaused  LaneState = "paused"  // by an operator
)

// ViewLanes returns the lanes on which something waits, and those that are paused, by
// twin.
func (s *Store) ViewLanes(ctx context.Context) ([]LaneView, error) {
	short, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	var indexes []*redis.StringSliceCmd
	for _, key := range []string{s.keys.lanesPaused(), s.keys.lanes(), s.keys.lanesLater()} {
		indexes = append(indexes, pipe.ZRange(short, key, 0, viewMost-1))
	}
	if _, err := pipe.Exec(short); err != nil {
		return nil, fmt.Errorf("list the lanes: %w", translate(err))
	}
	var twins []uint32
	for _, index := range indexes {
		for _, name := range index.Val() {
			if twin, err := strconv.ParseUint(name, 10, 32); err == nil { // Check names the others
				twins = append(twins, uint32(twin))
			}
		}
	}
	slices.Sort(twins)
	twins = slices.Compact(twins)
	if len(twins) > viewMost {
		twins = twins[:viewMost]
	}
	return s.viewLanes(ctx, twins)
}

// ViewLane returns the lane to a twin, also when nothing waits on it.
func (s *Store) ViewLane(ctx context.Context, twin uint32) (LaneView, error) {
	views, err := s.viewLanes(ctx, []uint32{twin})
	if err != nil {
		return LaneView{}, err
	}
	return views[0], nil
}

func (s *Store) viewLanes(ctx context.Context, twins []uint32) ([]LaneView, error) {
	keys := []string{s.keys.sessions(), s.keys.lanes(), s.keys.lanesLater(), s.keys.lanesPaused()}
	var args []any
	for _, twin := range twins {
		t := id(twin)
		keys = append(keys, s.keys.lane(t), s.keys.laneRequests(t), s.keys.laneLater(t), s.keys.laneReplies(t))
		args = append(args, t)
	}
	result, err := s.run(ctx, s.scripts.viewLanes, keys, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("look at the lanes: %w", err)
	}
	number := func(text string) int64 {
		n, _ := strconv.ParseInt(text, 10, 64)
		return n
	}
	views := make([]LaneView, len(twins))
	for i, twin := range twins {
		f := result[1+9*i : 10+9*i]
		views[i] = LaneView{
			Twin: twin, State: LaneState(f[0]), Requests: number(f[2]), PutOff: number(f[3]), Replies: number(f[4]),
			Failures: number(f[5]), Reason: msgbus.Reason(f[6]), Detail: f[7], Oldest: f[8],
		}
		if f[1] != "" {
			views[i].At = time.UnixMilli(number(f[1]))
		}
	}
	return views, nil
}

// A RequestView is a request of the backlog, without its data.
type RequestView struct {
	UID         string        `json:"uid"`
	Twin        uint32        `json:"twin"` // that it goes to
	Command     string        `json:"command"`
	ReturnQueue string        `json:"return_queue"`
	Admitted    time.Time     `json:"admitted"`
	Deadline    time.Time     `json:"deadline"`
	State       RequestState  `json:"state"`
	TriesLeft   int           `json:"tries_left"` // attempts that may still fail; -1: it is not on its lane any more
	Reason      msgbus.Reason `json:"reason"`     // why it waits or is put off, where somebody knows
	Detail      string        `json:"detail"`
	Bytes       int           `json:"bytes"` // of its entry
}

// A RequestState is where a request is on its way.
type RequestState string

// The states of a request that has not ended.
const (
	RequestWaiting RequestState = "waiting" // on its lane
	RequestPutOff  RequestState = "put_off" // the peer takes it later
	RequestSent    RequestState = "sent"    // the peer has it; the reply is awaited
)

// ViewRequests returns requests of the backlog in the order in which they end, and
// how many there are in all. The first `skip` are left out, and then no more than
// `most` returned. With a twin it is those to that twin.
func (s *Store) ViewRequests(ctx context.Context, twin uint32, skip, most int) (views []RequestView, total int64, err error) {
	if total, err = s.countRequests(ctx); err != nil {
		return nil, 0, err
	}
	prefix := ""
	if twin != 0 {
		prefix = id(twin) + "."
	}
	var uids []string
	for from := int64(0); len(uids) < most; from += viewStep {
		page, err := s.viewNames(ctx, from)
		if err != nil {
			return nil, 0, err
		}
		for _, uid := range page {
			if !strings.HasPrefix(uid, prefix) {
				continue
			}
			if skip > 0 {
				skip--
				continue
			}
			if len(uids) < most {
				uids = append(uids, uid)
			}
		}
		if len(page) < viewStep {
			break
		}
	}
	views, err = s.ViewNamed(ctx, uids...)
	return views, total, err
}

func (s *Store) countRequests(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	n, err := s.rdb.ZCard(ctx, s.keys.deadlines()).Result()
	if err != nil {
		return 0, fmt.Errorf("count the requests: %w", translate(err))
	}
	return n, nil
}

// viewNames returns uids in the order of their deadlines.
func (s *Store) viewNames(ctx context.Context, from int64) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	uids, err := s.rdb.ZRange(ctx, s.keys.deadlines(), from, from+viewStep-1).Result()
	if err != nil {
		return nil, fmt.Errorf("list the requests: %w", translate(err))
	}
	return uids, nil
}

// ViewRequest returns one request of the backlog, or msgbus.ErrNotFound.
func (s *Store) ViewRequest(ctx context.Context, uid string) (RequestView, error) {
	views, err := s.ViewNamed(ctx, uid)
	if err != nil {
		return RequestView{}, err
	}
	if len(views) == 0 {
		return RequestView{}, msgbus.ErrNotFound
	}
	return views[0], nil
}

// ViewNamed returns those of some requests that have not ended, in their order.
func (s *Store) ViewNamed(ctx context.Context, uids ...string) ([]RequestView, error) {
	if len(uids) == 0 {
		return nil, nil
	}
	keys := []string{s.keys.backlog(), s.keys.deadlines(), s.keys.lanesPaused()}
	args := []any{viewEntryMost}
	for _, uid := range uids {
		dst, _, _ := msgbus.ParseUID(uid) // one from /zbus-cmd has no lane: 0
		t := id(dst)
		keys = append(keys, s.keys.lane(t), s.keys.laneRequests(t), s.keys.laneLater(t), s.keys.laneTries(t))
		args = append(args, uid, t)
	}
	result, err := s.run(ctx, s.scripts.viewRequests, keys, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("look at requests: %w", err)
	}
	var views []RequestView
	for i := 0; i+6 < len(result); i += 7 {
		views = append(views, requestView(result[i:i+7]))
	}
	return views, nil
}

// requestView reads what the script tells of one request. Of an entry that cannot be
// read, which Check names, the uid is all that is known.
func requestView(f []string) RequestView {
	v := RequestView{UID: f[0], State: RequestState(f[3]), TriesLeft: -1, Reason: msgbus.Reason(f[5]), Detail: f[6]}
	v.Twin, _, _ = msgbus.ParseUID(v.UID)
	v.Bytes, _ = strconv.Atoi(f[1])
	if left, err := strconv.Atoi(f[4]); err == nil {
		v.TriesLeft = max(0, left-1)
	}
	e, err := ParseEntry(f[2])
	if err != nil {
		return v
	}
	v.Command, v.ReturnQueue, v.Admitted, v.Deadline = e.Message.Command, e.Message.ReturnQueue, e.Admitted, e.Deadline
	v.Twin = e.Message.Destinations[0]
	return v
}
