package backlog

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// BeforeCommand makes a store ask before each command, which an error keeps
// from being sent.
func (s *Store) BeforeCommand(ask func() error) { s.rdb.AddHook(askFirst(ask)) }

// FakeMonotonic puts read in the place of the monotonic clock. It must be called
// before Join.
func (s *Store) FakeMonotonic(read func() time.Duration) { s.clock.monotonic = read }

type askFirst func() error

func (askFirst) DialHook(next redis.DialHook) redis.DialHook { return next }

func (ask askFirst) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := ask(); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (askFirst) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
