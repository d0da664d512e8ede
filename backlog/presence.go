package backlog

import (
	"context"
	"fmt"
)

// presentMost bounds the names that are looked at in one step.
const presentMost = 10_000

// Gone forgets the names of apps that have ended without saying so, and returns them. Each
// is returned to one relay only.
func (s *Store) Gone(ctx context.Context) ([]string, error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	names, err := s.rdb.ZRange(call, s.keys.presence(), 0, presentMost-1).Result()
	if err != nil && !isWrongType(err) {
		return nil, fmt.Errorf("list who is present: %w", translate(err))
	}
	if len(names) == 0 {
		return nil, nil
	}
	keys, args := []string{s.keys.presence()}, make([]any, len(names))
	for i, name := range names {
		keys = append(keys, s.keys.present(name))
		args[i] = name
	}
	gone, err := s.run(ctx, s.scripts.presence, keys, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("find out who has gone: %w", err)
	}
	return gone, nil
}
