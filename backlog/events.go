package backlog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// effect writes an effect as effects.lua reads it. Streams are keys, so they are numbered.
func (s *Store) effect(e *msgbus.Effect, streams *numbering[string]) string {
	if e == nil {
		return ""
	}
	written := struct {
		Event    string   `json:"event,omitempty"`
		Channels []string `json:"channels,omitempty"`
		Exchange string   `json:"exchange,omitempty"`
		Stream   int      `json:"stream,omitempty"`
		Retained string   `json:"retained,omitempty"`
		At       int64    `json:"at,omitempty"`
		Latest   bool     `json:"latest,omitempty"`
		Forget   bool     `json:"forget,omitempty"`
		Patterns []string `json:"patterns,omitempty"`
		Lease    int64    `json:"lease,omitempty"`
	}{Event: e.Event, Channels: e.Channels, Exchange: e.Exchange, Retained: e.Retained, At: e.At, Latest: e.Latest, Forget: e.Forget, Patterns: e.Patterns, Lease: e.Lease}
	if e.Exchange != "" {
		written.Stream = streams.of(s.keys.stream(e.Exchange))
	}
	text, _ := json.Marshal(written) // of nothing that JSON cannot write
	return string(text)
}

// Listeners returns who listens to topics on this machine now.
func (s *Store) Listeners(ctx context.Context, topics []string) ([]msgbus.Listeners, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	prefix := s.keys.channel("")
	channels, err := s.rdb.PubSubChannels(ctx, escapeGlob(prefix)+"*").Result()
	if err != nil {
		return nil, fmt.Errorf("list who listens to events: %w", translate(err))
	}
	found := make([]msgbus.Listeners, len(topics))
	var wanted []string
	for i, topic := range topics {
		for _, c := range channels {
			if msgbus.MatchTopic(strings.TrimPrefix(c, prefix), topic) {
				found[i].Channels = append(found[i].Channels, c)
			}
		}
		wanted = append(wanted, found[i].Channels...)
	}
	if len(wanted) == 0 {
		return found, nil
	}
	counts, err := s.rdb.PubSubNumSub(ctx, wanted...).Result()
	if err != nil {
		return nil, fmt.Errorf("count who listens to events: %w", translate(err))
	}
	for i := range found {
		for _, c := range found[i].Channels {
			found[i].Count += counts[c]
		}
	}
	return found, nil
}

// escapeGlob writes text so that a pattern of Redis stands for nothing but it.
func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(text)
}

// Subscribers returns which other twins want events, and which, as long as they have said
// so lately.
func (s *Store) Subscribers(ctx context.Context) ([]msgbus.Subscription, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now := strconv.FormatInt(s.Now().UnixMilli(), 10)
	members, err := s.rdb.ZRangeArgs(ctx, redis.ZRangeArgs{Key: s.keys.subscribers(), Start: "(" + now, Stop: "+inf", ByScore: true}).Result()
	if err != nil && !isWrongType(err) {
		return nil, fmt.Errorf("list subscribers: %w", translate(err))
	}
	return parseSubscriptions(members), nil
}

// parseSubscriptions reads "<twin> <pattern>".
func parseSubscriptions(members []string) []msgbus.Subscription {
	var all []msgbus.Subscription
	for _, m := range members {
		twin, pattern, _ := strings.Cut(m, " ")
		if id, err := strconv.ParseUint(twin, 10, 32); err == nil && msgbus.ValidPattern(pattern) {
			all = append(all, msgbus.Subscription{Twin: uint32(id), Pattern: pattern})
		}
	}
	return all
}

// Subscribed returns what this machine's apps want of other twins, as far as those were
// asked for it.
func (s *Store) Subscribed(ctx context.Context) ([]msgbus.Subscription, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	members, err := s.rdb.ZRange(ctx, s.keys.subscriptions(), 0, subscriptionsMost-1).Result()
	if err != nil && !isWrongType(err) {
		return nil, fmt.Errorf("list subscriptions: %w", translate(err))
	}
	for i, m := range members {
		_, members[i], _ = strings.Cut(m, " ") // whose it is
	}
	return parseSubscriptions(members), nil
}

// subscriptionsMost bounds the subscriptions of this machine's apps that are looked at.
const subscriptionsMost = 10_000

// isWrongType tells that somebody else wrote over a key: it holds nothing of ours then.
func isWrongType(err error) bool { return strings.HasPrefix(err.Error(), "WRONGTYPE") }

// Retained returns the latest events of this twin's own topics that match one of the patterns.
func (s *Store) Retained(ctx context.Context, patterns []string) ([]string, error) {
	var events []string
	own := id(s.opts.Twin) + " "
	for cursor := uint64(0); ; {
		page, next, err := s.scanRetained(ctx, cursor, own+"*")
		if err != nil && !isWrongType(err) {
			return nil, fmt.Errorf("read retained events: %w", translate(err))
		}
		for i := 0; i+1 < len(page); i += 2 {
			topic := strings.TrimPrefix(page[i], own)
			if slices.ContainsFunc(patterns, func(p string) bool { return msgbus.MatchTopic(p, topic) }) {
				events = append(events, page[i+1])
			}
		}
		if cursor = next; cursor == 0 {
			return events, nil
		}
	}
}

func (s *Store) scanRetained(ctx context.Context, cursor uint64, match string) (page []string, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.rdb.HScan(ctx, s.keys.retained(), cursor, match, 100).Result()
}

// PushLocal pushes requests of the relay's own, as an app does.
func (s *Store) PushLocal(ctx context.Context, requests [][]byte) error {
	if len(requests) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	values := make([]any, len(requests))
	for i, r := range requests {
		values[i] = r
	}
	if err := s.rdb.RPush(ctx, s.keys.queue(msgbus.LocalQueue), values...).Err(); err != nil {
		return fmt.Errorf("push %d requests: %w", len(requests), translate(err))
	}
	return nil
}

// renewEvery is how often a twin is asked again for what this machine's apps want.
const renewEvery = 20 * time.Second

// DueSubscriptions forgets the subscriptions of apps that have gone for the grace, and returns
// those that other twins must be asked for now, and those that nobody wants any more. Each is
// returned to one relay only. It returns a *msgbus.HeldError for a while after Redis's clock
// was set.
func (s *Store) DueSubscriptions(ctx context.Context) (due []msgbus.DueSubscription, ended []msgbus.Subscription, err error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	members, err := s.rdb.ZRange(call, s.keys.subscriptions(), 0, subscriptionsMost-1).Result()
	if err != nil && !isWrongType(err) {
		return nil, nil, fmt.Errorf("list subscriptions: %w", translate(err))
	}
	consumers := newNumbering[string]()
	for _, m := range members {
		name, _, _ := strings.Cut(m, " ")
		consumers.of(name)
	}
	keys := []string{s.keys.subscriptions(), s.keys.subscribed()}
	args := []any{renewEvery.Milliseconds(), s.opts.Grace.Milliseconds(), len(consumers.names)}
	for _, name := range consumers.names {
		keys = append(keys, s.keys.consumer(name))
	}
	for _, m := range members {
		name, wanted, _ := strings.Cut(m, " ")
		args = append(args, consumers.of(name), wanted, m)
	}
	result, err := s.expiring(ctx, s.scripts.subscriptions, keys, args...).Slice()
	if err == nil && len(result) != 2 {
		err = fmt.Errorf("%d elements in a script's answer", len(result))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("renew subscriptions: %w", err)
	}
	for _, text := range texts(result[0]) {
		ms, wanted, _ := strings.Cut(text, " ")
		lease, err := strconv.ParseInt(ms, 10, 64)
		if some := parseSubscriptions([]string{wanted}); err == nil && len(some) == 1 {
			due = append(due, msgbus.DueSubscription{Subscription: some[0], Lease: time.Duration(lease) * time.Millisecond})
		}
	}
	return due, parseSubscriptions(texts(result[1])), nil
}

// EventRoom tells of twins how many more events may wait for each of them: in all, those that
// cannot be joined must leave half of the backlog to requests.
func (s *Store) EventRoom(ctx context.Context, twins []uint32) ([]msgbus.EventRoom, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	kept := pipe.HLen(ctx, s.keys.backlog())
	waiting := make([]*redis.IntCmd, 0, 2*len(twins))
	for _, twin := range twins {
		waiting = append(waiting, pipe.ZCard(ctx, s.keys.laneRequests(id(twin))), pipe.ZCard(ctx, s.keys.laneLater(id(twin))))
	}
	if _, err := pipe.Exec(ctx); err != nil && !isWrongType(err) {
		return nil, fmt.Errorf("find out what room events have: %w", translate(err))
	}
	most := s.bounds.Load().MaxBacklog
	inAll := (most+1)/2 - int(kept.Val())
	rooms := make([]msgbus.EventRoom, len(twins))
	for i := range twins {
		n := int(waiting[2*i].Val() + waiting[2*i+1].Val())
		rooms[i] = msgbus.EventRoom{Lossy: min(inAll, (most+99)/100-n), Durable: min(inAll, (most+9)/10-n)}
	}
	return rooms, nil
}

// BuryRequests keeps requests of this machine's apps among the dead letters, as they would be
// pushed again.
func (s *Store) BuryRequests(ctx context.Context, why *msgbus.Refusal, requests [][]byte) error {
	if len(requests) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	for _, r := range requests {
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: s.keys.dead(), MaxLen: int64(s.bounds.Load().MaxDead), Approx: true, Values: []any{
			"queue", string(msgbus.LocalQueue), "reason", string(why.Reason), "detail", why.Text, "to", "", "message", r,
		}})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("bury %d requests: %w", len(requests), translate(err))
	}
	return nil
}

// texts is an answer of Redis that is a list of texts.
func texts(v any) []string {
	list, _ := v.([]any)
	all := make([]string, 0, len(list))
	for _, item := range list {
		if text, ok := item.(string); ok {
			all = append(all, text)
		}
	}
	return all
}
