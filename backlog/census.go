package backlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// A Census counts what is neither waiting nor ended.
type Census struct {
	Live  int64 `json:"live_sessions"`  // sessions of relays at work
	Ended int64 `json:"ended_sessions"` // sessions whose claims may not all have been given back
	Dead  int64 `json:"dead_letters"`   // dead letters
}

// Census counts sessions and dead letters. A key of another type holds none;
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
	if _, err := pipe.Exec(ctx); err != nil && !strings.HasPrefix(err.Error(), "WRONGTYPE") {
		return Census{}, fmt.Errorf("count sessions and dead letters: %w", translate(err))
	}
	return Census{Live: live.Val(), Ended: ended.Val(), Dead: dead.Val()}, nil
}
