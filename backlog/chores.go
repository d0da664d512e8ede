package backlog

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Chores tells which kinds of housekeeping there is anything for, by one exchange: most
// relays have nothing to do most of the time.
func (s *Store) Chores(ctx context.Context) (msgbus.Chores, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	some := func(keys ...string) *redis.IntCmd { return pipe.Exists(ctx, keys...) }
	deadlines := some(s.keys.repliesDeadlines(), s.keys.openDeadlines())
	commands := some(s.keys.unread())
	subscriptions := some(s.keys.subscriptions(), s.keys.subscribed())
	names := some(s.keys.presence())
	consumers := some(s.keys.consumers())
	if _, err := pipe.Exec(ctx); err != nil {
		return msgbus.Chores{}, fmt.Errorf("find out what there is to keep house for: %w", translate(err))
	}
	return msgbus.Chores{
		Deadlines: deadlines.Val() > 0, Commands: commands.Val() > 0, Subscriptions: subscriptions.Val() > 0,
		Names: names.Val() > 0, Consumers: consumers.Val() > 0,
	}, nil
}
