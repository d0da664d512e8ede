package backlog

import (
	"context"
	"fmt"
)

// PauseLane keeps anything from being sent to a twin until [Store.ResumeLane], also
// over restarts. Requests end at their deadlines all the same. What is being sent
// now goes on. It tells whether the lane was not paused before.
func (s *Store) PauseLane(ctx context.Context, twin uint32) (bool, error) {
	return s.pauseLane(ctx, twin, true)
}

// ResumeLane lets the lane to a twin go on, at once. For one that is not paused that
// ends its rest. It tells whether the lane was paused.
func (s *Store) ResumeLane(ctx context.Context, twin uint32) (bool, error) {
	return s.pauseLane(ctx, twin, false)
}

func (s *Store) pauseLane(ctx context.Context, twin uint32, paused bool) (bool, error) {
	t := id(twin)
	changed, err := s.run(ctx, s.scripts.pause, []string{s.keys.lanesPaused(), s.keys.lanes(), s.keys.lanesLater()}, t, flag(paused)).Int()
	if err != nil {
		return false, fmt.Errorf("pause or resume the lane to twin %d: %w", twin, err)
	}
	return changed == 1, nil
}
