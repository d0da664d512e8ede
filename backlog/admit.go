package backlog

import (
	"context"
	"fmt"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Admit gives each destination of each request its uid, a backlog entry and a
// place on its lane, and drops the claim: all in one step. The requests are
// what is left of the claim. It returns the uids, in the order of requests and
// destinations.
func (s *Store) Admit(ctx context.Context, c *msgbus.Claim, requests []msgbus.Admission) ([]string, error) {
	position := make(map[uint32]int) // of a destination, from 1
	var twins []uint32
	for _, r := range requests {
		for _, dst := range r.Message.Destinations {
			if position[dst] == 0 {
				twins = append(twins, dst)
				position[dst] = len(twins)
			}
		}
	}

	keys := []string{s.keys.sessions(), s.claimKey(c), s.keys.epoch(), s.keys.backlog(), s.keys.deadlines(), s.keys.lanes(), s.keys.stats()}
	args := []any{s.currentSession(), randomID(), s.knownEpoch(), id(s.opts.Twin), s.opts.MaxLife.Milliseconds(), len(twins)}
	for _, twin := range twins {
		t := id(twin)
		keys = append(keys, s.keys.counter(t), s.keys.lane(t), s.keys.laneRequests(t), s.keys.laneTries(t))
		args = append(args, t)
	}
	for _, r := range requests {
		m := r.Message
		// An absolute expiration is told from 0: its end is what counts.
		kind, life := "for", int64(m.Lifetime(0).Seconds())
		if m.HasAbsoluteExpiration() {
			kind, life = "until", m.Expiration
		}
		args = append(args, r.Start, kind, life, m.Retry, m.Dialect.String(), m.AppendEntryTail(nil), len(m.Destinations))
		for _, dst := range m.Destinations {
			args = append(args, position[dst])
		}
	}

	result, err := s.run(ctx, s.scripts.admit, keys, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("admit %d requests: %w", len(requests), err)
	}
	s.mu.Lock()
	s.epoch = result[0]
	s.mu.Unlock()
	return result[1:], nil
}

// knownEpoch returns the latest epoch that Redis told, or "". A Redis that
// knows none while we do has lost everything.
func (s *Store) knownEpoch() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}
