package backlog

import (
	"context"
	"encoding/json"
	"fmt"
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
		Patterns []string `json:"patterns,omitempty"`
		Lease    int64    `json:"lease,omitempty"`
	}{Event: e.Event, Channels: e.Channels, Exchange: e.Exchange, Retained: e.Retained, Patterns: e.Patterns, Lease: e.Lease}
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
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	all, err := s.rdb.HGetAll(ctx, s.keys.retained()).Result()
	if err != nil && !isWrongType(err) {
		return nil, fmt.Errorf("read retained events: %w", translate(err))
	}
	var events []string
	own := id(s.opts.Twin) + " "
	for name, event := range all {
		topic, ours := strings.CutPrefix(name, own)
		for _, p := range patterns {
			if ours && msgbus.MatchTopic(p, topic) {
				events = append(events, event)
				break
			}
		}
	}
	return events, nil
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

// DueSubscriptions forgets the subscriptions of apps that have gone, and returns those that
// other twins must be asked for now, and those that nobody wants any more. Each is returned
// to one relay only.
func (s *Store) DueSubscriptions(ctx context.Context) (due, ended []msgbus.Subscription, err error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	listed, asked := pipe.ZRange(call, s.keys.subscriptions(), 0, subscriptionsMost-1), pipe.Exists(call, s.keys.subscribed())
	if _, err := pipe.Exec(call); err != nil && !isWrongType(err) {
		return nil, nil, fmt.Errorf("list subscriptions: %w", translate(err))
	}
	members := listed.Val()
	if len(members) == 0 && asked.Val() == 0 {
		return nil, nil, nil
	}
	consumers := newNumbering[string]()
	for _, m := range members {
		name, _, _ := strings.Cut(m, " ")
		consumers.of(name)
	}
	keys := []string{s.keys.subscriptions(), s.keys.subscribed()}
	args := []any{renewEvery.Milliseconds(), len(consumers.names)}
	for _, name := range consumers.names {
		keys = append(keys, s.keys.consumer(name))
	}
	for _, m := range members {
		name, wanted, _ := strings.Cut(m, " ")
		args = append(args, consumers.of(name), wanted, m)
	}
	result, err := s.run(ctx, s.scripts.subscriptions, keys, args...).Slice()
	if err != nil || len(result) != 2 {
		return nil, nil, fmt.Errorf("renew subscriptions: %w", err)
	}
	return parseSubscriptions(texts(result[0])), parseSubscriptions(texts(result[1])), nil
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
