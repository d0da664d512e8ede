package backlog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// An EventsView is who hears of what, and what is kept of it.
type EventsView struct {
	Listening  []Listening  `json:"listening"`  // connections on this machine, by pattern
	Wanted     []Wanted     `json:"wanted"`     // by apps of this machine, of other twins
	Subscribed []Subscribed `json:"subscribed"` // other twins
	Streams    []StreamView `json:"streams"`
	Retained   int64        `json:"retained"` // topics of which the latest event is kept
}

// Listening is how many connections hear a pattern.
type Listening struct {
	Pattern     string `json:"pattern"`
	Connections int64  `json:"connections"`
}

// Wanted is what an app of this machine wants of another twin.
type Wanted struct {
	Pattern string    `json:"pattern"`
	Twin    uint32    `json:"twin"`
	App     string    `json:"app"`
	Asked   time.Time `json:"asked"` // when the twin was asked last; zero: not yet
}

// Subscribed is what another twin wants of this one.
type Subscribed struct {
	Pattern string    `json:"pattern"`
	Twin    uint32    `json:"twin"`
	Until   time.Time `json:"until"` // if it does not ask again
}

// A StreamView is what is kept of an exchange.
type StreamView struct {
	Exchange string    `json:"exchange"`
	Events   int64     `json:"events"`
	Groups   int       `json:"groups"` // of workers that share them
	Latest   time.Time `json:"latest"` // when the latest event came
}

// ViewEvents returns who hears of what. Keys of another type hold nothing; Check names them.
func (s *Store) ViewEvents(ctx context.Context) (*EventsView, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := strconv.FormatInt(s.Now().UnixMilli(), 10)
	pipe := s.rdb.Pipeline()
	channels := pipe.PubSubChannels(ctx, escapeGlob(s.keys.channel(""))+"*")
	wanted := pipe.ZRange(ctx, s.keys.subscriptions(), 0, viewMost-1)
	asked := pipe.ZRangeWithScores(ctx, s.keys.subscribed(), 0, subscriptionsMost-1)
	subscribers := pipe.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{Key: s.keys.subscribers(), Start: "(" + now, Stop: "+inf", ByScore: true, Count: viewMost})
	streams := pipe.ZRevRangeWithScores(ctx, s.keys.streams(), 0, viewMost-1)
	retained := pipe.HLen(ctx, s.keys.retained())
	if _, err := pipe.Exec(ctx); err != nil && !isWrongType(err) {
		return nil, fmt.Errorf("look at the events: %w", translate(err))
	}
	v := &EventsView{
		Wanted: viewWanted(wanted.Val(), asked.Val()), Subscribed: viewSubscribed(subscribers.Val()), Retained: retained.Val(),
	}
	var err error
	if v.Listening, err = s.viewListening(ctx, channels.Val()); err != nil {
		return nil, fmt.Errorf("count who listens to events: %w", translate(err))
	}
	if v.Streams, err = s.viewStreams(ctx, streams.Val()); err != nil {
		return nil, fmt.Errorf("look at the streams of events: %w", translate(err))
	}
	return v, nil
}

func (s *Store) viewListening(ctx context.Context, channels []string) ([]Listening, error) {
	all := []Listening{}
	if len(channels) == 0 {
		return all, nil
	}
	slices.Sort(channels)
	if len(channels) > viewMost {
		channels = channels[:viewMost]
	}
	counts, err := s.rdb.PubSubNumSub(ctx, channels...).Result()
	for _, c := range channels {
		all = append(all, Listening{strings.TrimPrefix(c, s.keys.channel("")), counts[c]})
	}
	return all, err
}

// viewWanted reads members of the subscriptions, and when their twins were asked.
func viewWanted(members []string, asked []redis.Z) []Wanted {
	at := make(map[string]time.Time, len(asked))
	for _, z := range asked {
		at[fmt.Sprint(z.Member)] = time.UnixMilli(int64(z.Score))
	}
	all := []Wanted{}
	for _, m := range members {
		app, wanted, _ := strings.Cut(m, " ")
		for _, w := range parseSubscriptions([]string{wanted}) {
			all = append(all, Wanted{Pattern: w.Pattern, Twin: w.Twin, App: app, Asked: at[wanted]})
		}
	}
	slices.SortFunc(all, func(a, b Wanted) int { return cmp.Or(cmp.Compare(a.Twin, b.Twin), cmp.Compare(a.Pattern, b.Pattern)) })
	return all
}

func viewSubscribed(members []redis.Z) []Subscribed {
	all := []Subscribed{}
	for _, z := range members {
		for _, w := range parseSubscriptions([]string{fmt.Sprint(z.Member)}) {
			all = append(all, Subscribed{Pattern: w.Pattern, Twin: w.Twin, Until: time.UnixMilli(int64(z.Score))})
		}
	}
	slices.SortFunc(all, func(a, b Subscribed) int {
		return cmp.Or(cmp.Compare(a.Twin, b.Twin), cmp.Compare(a.Pattern, b.Pattern))
	})
	return all
}

func (s *Store) viewStreams(ctx context.Context, exchanges []redis.Z) ([]StreamView, error) {
	all := []StreamView{}
	pipe := s.rdb.Pipeline()
	var lengths []*redis.IntCmd
	var groups []*redis.XInfoGroupsCmd
	for _, z := range exchanges {
		exchange := fmt.Sprint(z.Member)
		all = append(all, StreamView{Exchange: exchange, Latest: time.UnixMilli(int64(z.Score))})
		lengths = append(lengths, pipe.XLen(ctx, s.keys.stream(exchange)))
		groups = append(groups, pipe.XInfoGroups(ctx, s.keys.stream(exchange)))
	}
	_, err := pipe.Exec(ctx)
	for i := range all {
		all[i].Events, all[i].Groups = lengths[i].Val(), len(groups[i].Val())
	}
	if err != nil && (isWrongType(err) || strings.Contains(err.Error(), "no such key")) { // somebody deleted it
		err = nil
	}
	return all, err
}

// A PresenceView is a name that an app of this machine has.
type PresenceView struct {
	Name string        `json:"name"`
	Left time.Duration `json:"left_ns"` // of its lease; 0: it has ended
	Says string        `json:"says"`    // the app, of itself
}

// ViewPresence returns the names that apps have, in their order.
func (s *Store) ViewPresence(ctx context.Context) ([]PresenceView, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	names, err := s.rdb.ZRange(ctx, s.keys.presence(), 0, viewMost-1).Result()
	if err != nil && !isWrongType(err) {
		return nil, fmt.Errorf("list who is present: %w", translate(err))
	}
	pipe := s.rdb.Pipeline()
	left, says := make([]*redis.DurationCmd, len(names)), make([]*redis.StringCmd, len(names))
	for i, name := range names {
		left[i], says[i] = pipe.PTTL(ctx, s.keys.present(name)), pipe.Get(ctx, s.keys.present(name))
	}
	if _, err := pipe.Exec(ctx); err != nil && !isNil(err) && !isWrongType(err) {
		return nil, fmt.Errorf("look who is present: %w", translate(err))
	}
	all := []PresenceView{}
	for i, name := range names {
		all = append(all, PresenceView{Name: name, Left: max(0, left[i].Val()), Says: says[i].Val()})
	}
	return all, nil
}
