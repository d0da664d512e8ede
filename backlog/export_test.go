package backlog

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// BeforeCommand makes a store ask before each command, which an error keeps
// from being sent.
func (s *Store) BeforeCommand(ask func() error) { s.rdb.AddHook(askFirst{ask, func() {}}) }

// AfterCommand makes a store tell of each command before its answer is read.
func (s *Store) AfterCommand(tell func()) {
	s.rdb.AddHook(askFirst{func() error { return nil }, tell})
}

// FakeMonotonic puts read in the place of the monotonic clock. It must be called
// before Join.
func (s *Store) FakeMonotonic(read func() time.Duration) { s.clock.monotonic = read }

// ForgetDrained has the next Take of each queue look at once, as after a failure.
func (s *Store) ForgetDrained() {
	for i := range s.drained {
		s.drained[i].Store(false)
	}
}

type askFirst struct {
	ask  func() error
	tell func()
}

func (askFirst) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h askFirst) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := h.ask(); err != nil {
			cmd.SetErr(err)
			return err
		}
		defer h.tell()
		return next(ctx, cmd)
	}
}

func (h askFirst) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := h.ask(); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		defer h.tell()
		return next(ctx, cmds)
	}
}

// Admit and Depart are the steps alone.
func (s *Store) Admit(ctx context.Context, c *msgbus.Claim, requests []msgbus.Admission) ([]string, error) {
	uids, _, err := s.AdmitAndFetch(ctx, c, requests, 0)
	return uids, err
}

func (s *Store) Depart(ctx context.Context, c *msgbus.Claim, departures []msgbus.Departure) ([]msgbus.Outcome, error) {
	outcomes, _, err := s.DepartAndFetch(ctx, c, departures, 0)
	return outcomes, err
}

// Discard is what becomes of an entry that cannot be read.
func (s *Store) Discard(ctx context.Context, uid, raw string) error {
	return s.discardEntry(ctx, uid, raw, errors.New("a test"))
}
