package backlog

import (
	"context"
	"fmt"

	"github.com/msgbusd/msgbusd/msgbus"
)

// admitMost is how many destinations one step admits. Redis serves nobody else
// meanwhile: this many take it about 0.2 s.
const admitMost = 10_000

// AdmitAndFetch gives each destination of each request its uid, a backlog entry and a
// place on its lane, and takes the request off the claim: all in one step. The
// requests are what is left of the claim, in its order. It returns the uids, in
// the order of requests and destinations. Requests to very many destinations
// are admitted in several steps; after an error the claim still holds those
// that were not.
//
// In the same exchange it fetches from the lane to a twin, unless that is 0. The
// batch is nil when it could not be fetched.
func (s *Store) AdmitAndFetch(ctx context.Context, c *msgbus.Claim, requests []msgbus.Admission, twin uint32) ([]string, *msgbus.Batch, error) {
	var uids []string
	split := false
	for {
		n, destinations := 0, 0
		for n < len(requests) && (n == 0 || destinations+len(requests[n].Message.Destinations) <= admitMost) {
			destinations += len(requests[n].Message.Destinations)
			n++
		}
		head := 0
		if split = split || n < len(requests); split {
			head = n
		}
		fetch := twin
		if n < len(requests) {
			fetch = 0 // until all are there
		}
		some, batch, err := s.admit(ctx, c, requests[:n], head, fetch)
		if err != nil {
			return nil, nil, fmt.Errorf("admit %d requests: %w", n, err)
		}
		uids = append(uids, some...)
		if requests = requests[n:]; len(requests) == 0 {
			s.setDrained(c.Queue, c.Room > len(uids))
			return uids, batch, nil
		}
	}
}

// admit admits requests in one step, which are the first `head` messages of the
// claim that were not dealt with, or with 0 all that was seen of it.
func (s *Store) admit(ctx context.Context, c *msgbus.Claim, requests []msgbus.Admission, head int, fetch uint32) ([]string, *msgbus.Batch, error) {
	twins := newNumbering[uint32]()
	for _, r := range requests {
		for _, dst := range r.Message.Destinations {
			twins.of(dst)
		}
	}

	keys := []string{s.keys.sessions(), s.claimKey(c), s.keys.epoch(), s.keys.backlog(), s.keys.deadlines(), s.keys.lanes(), s.keys.stats()}
	args := []any{c.Session, randomID(), s.knownEpoch(), id(s.opts.Twin), s.opts.MaxLife.Milliseconds(), head, len(c.Messages), len(twins.names)}
	for _, twin := range twins.names {
		t := id(twin)
		keys = append(keys, s.keys.counter(t), s.keys.lane(t), s.keys.laneRequests(t), s.keys.laneTries(t))
		args = append(args, t)
	}
	for _, r := range requests {
		m := r.Message
		kind, life := lifeOf(m)
		args = append(args, r.Start, kind, life, m.Retry, m.Dialect.String(), m.AppendEntryTail(nil), len(m.Destinations))
		for _, dst := range m.Destinations {
			args = append(args, twins.of(dst))
		}
	}

	admitted, batch := s.withFetch(ctx, call{s.scripts.admit, keys, args}, fetch)
	result, err := admitted.StringSlice()
	if err != nil {
		return nil, nil, err
	}
	s.learnEpoch(result[0])
	return result[1:], batch, nil
}

// lifeOf tells scripts how long a request lives: 'for' so many seconds, or
// 'until' a time.
func lifeOf(m *msgbus.Message) (kind string, seconds int64) {
	if m.HasAbsoluteExpiration() {
		return "until", m.Expiration
	}
	return "for", int64(m.Lifetime(0).Seconds())
}

func (s *Store) learnEpoch(epoch string) {
	if epoch == "" {
		return // Redis knows none: what we know tells it that it has lost all
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch = epoch
}

// knownEpoch returns the latest epoch that Redis told, or "". A Redis that
// knows none while we do has lost everything.
func (s *Store) knownEpoch() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}
