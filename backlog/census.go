package backlog

import (
	"context"
	"fmt"
	"strconv"
)

// A Census counts what is neither a request nor a reply.
type Census struct {
	Live  int64 `json:"live_sessions"`  // sessions of relays at work
	Ended int64 `json:"ended_sessions"` // sessions whose claims may not all have been given back
	Dead  int64 `json:"dead_letters"`   // dead letters

	Subscriptions int64 `json:"subscriptions"` // what apps of this machine want of other twins
	Subscribers   int64 `json:"subscribers"`   // what other twins want of this one; at most SubscribersMost
	Streams       int64 `json:"streams"`       // exchanges with durable events; at most StreamsMost
	Retained      int64 `json:"retained"`      // topics with a latest event; at most RetainedMost
	Present       int64 `json:"present"`       // names that apps have
}

// Bounds of what is kept for events, as effects.lua has them.
const (
	SubscribersMost = 10_000
	StreamsMost     = 1000
	RetainedMost    = 1000
)

// Census counts sessions, dead letters and what is kept for events. A key of another type holds none;
// Check names it.
func (s *Store) Census(ctx context.Context) (Census, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return Census{}, fmt.Errorf("read Redis's clock: %w", translate(err))
	}
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	pipe := s.rdb.Pipeline()
	live, ended := pipe.ZCount(ctx, s.keys.sessions(), "("+ms, "+inf"), pipe.ZCount(ctx, s.keys.sessions(), "-inf", ms)
	dead := pipe.XLen(ctx, s.keys.dead())
	subscriptions, present := pipe.ZCard(ctx, s.keys.subscriptions()), pipe.ZCard(ctx, s.keys.presence())
	subscribers, streams := pipe.ZCount(ctx, s.keys.subscribers(), "("+ms, "+inf"), pipe.ZCard(ctx, s.keys.streams())
	retained := pipe.HLen(ctx, s.keys.retained())
	if _, err := pipe.Exec(ctx); err != nil && !isWrongType(err) {
		return Census{}, fmt.Errorf("count what is kept: %w", translate(err))
	}
	return Census{
		Live: live.Val(), Ended: ended.Val(), Dead: dead.Val(),
		Subscriptions: subscriptions.Val(), Subscribers: subscribers.Val(), Streams: streams.Val(), Retained: retained.Val(), Present: present.Val(),
	}, nil
}
