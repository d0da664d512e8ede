package backlog

import (
	"context"
	"fmt"

	"github.com/msgbusd/msgbusd/msgbus"
)

// presentMost bounds the names that are looked at in one step.
const presentMost = 10_000

// Gone forgets the names of apps that have ended without saying so, and pushes the request
// that publishes it, in one step; event returns that, or nil for none. It returns how many
// those were, and a *msgbus.HeldError for a while after Redis's clock was set.
func (s *Store) Gone(ctx context.Context, event func(name string) []byte) (int, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	names, err := s.rdb.ZRange(call, s.keys.presence(), 0, presentMost-1).Result()
	if err != nil && !isWrongType(err) {
		return 0, fmt.Errorf("list who is present: %w", translate(err))
	}
	if len(names) == 0 {
		return 0, nil
	}
	keys := []string{s.keys.presence(), s.keys.queue(msgbus.LocalQueue)}
	args := []any{s.opts.Grace.Milliseconds()}
	for _, name := range names {
		keys = append(keys, s.keys.present(name))
		args = append(args, name, event(name))
	}
	gone, err := s.expiring(ctx, s.scripts.presence, keys, args...).Int()
	if err != nil {
		return 0, fmt.Errorf("find out who has gone: %w", err)
	}
	return gone, nil
}
