package backlog

import (
	"context"
	"errors"
	"fmt"
)

// PauseLane keeps anything from being sent to a twin until [Store.ResumeLane], also
// over restarts. Requests end at their deadlines all the same. What is being sent
// now goes on. It tells whether the lane was not paused before.
func (s *Store) PauseLane(ctx context.Context, twin uint32) (bool, error) {
	return s.pauseLane(ctx, twin, "pause")
}

// ResumeLane lets the lane to a twin go on, at once. It tells whether the lane was
// paused; [Store.RetryLane] is for one that is not.
func (s *Store) ResumeLane(ctx context.Context, twin uint32) (bool, error) {
	return s.pauseLane(ctx, twin, "resume")
}

// ErrPaused: an operator has paused a lane, which only [Store.ResumeLane] undoes.
var ErrPaused = errors.New("is paused")

// RetryLane ends the rest of the lane to a twin: it is due now. It returns ErrPaused,
// and changes nothing, when the lane is paused.
func (s *Store) RetryLane(ctx context.Context, twin uint32) error {
	paused, err := s.pauseLane(ctx, twin, "retry")
	if err == nil && paused {
		err = fmt.Errorf("the lane to twin %d %w", twin, ErrPaused)
	}
	return err
}

func (s *Store) pauseLane(ctx context.Context, twin uint32, what string) (bool, error) {
	t := id(twin)
	changed, err := s.run(ctx, s.scripts.pause, []string{s.keys.lanesPaused(), s.keys.lanes(), s.keys.lanesLater()}, t, what).Int()
	if err != nil {
		return false, fmt.Errorf("%s the lane to twin %d: %w", what, twin, err)
	}
	return changed == 1, nil
}
