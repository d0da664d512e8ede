package backlog

import (
	"context"
	"fmt"
	"strconv"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Answer ends requests: each entry goes and its reply is pushed, or nothing
// happens to it. c is the claim that the replies came from, nil when they did
// not come from one. The outcomes are msgbus.Answered, FailedOutcome, TooLate,
// KeptOutcome or QueueWrongType.
func (s *Store) Answer(ctx context.Context, c *msgbus.Claim, answers []msgbus.Answer) ([]msgbus.Outcome, error) {
	session, claim := s.claimAtStake(c)
	keys := []string{s.keys.backlog(), s.keys.deadlines(), s.keys.stats(), s.keys.dead(), s.keys.sessions(), claim}
	args := []any{session, int(msgbus.ReplyQueueTTL.Seconds()), s.opts.MaxDead}
	for _, a := range answers {
		m := a.Entry.Message
		lane := id(m.Destinations[0])
		keys = append(keys, m.ReturnQueue, s.keys.laneRequests(lane), s.keys.laneTries(lane), s.keys.laneLater(lane))
		outcome, position := "answered", ""
		if a.Failed {
			outcome = "failed"
		}
		if c != nil && a.Position >= 0 {
			position = strconv.Itoa(a.Position)
		}
		args = append(args, m.UID, a.Entry.Head, outcome, flag(m.Proxied), position, a.Body)
	}
	result, err := s.run(ctx, s.scripts.answer, keys, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("answer %d requests: %w", len(answers), err)
	}
	return outcomes(result), nil
}

// Stats are counts since the prefix was first used.
type Stats struct {
	Accepted int64 // requests that entered the backlog
	Answered int64 // … that ended with a service's reply
	Failed   int64 // … that ended with an error of the bus
	Waiting  int64 // … that have not ended

	Archived int64 // the archived daemon's entries, as long as Adopt has not accepted them
}

// AddUp tells whether what became of each accepted request is known.
func (s Stats) AddUp() bool { return s.Accepted == s.Answered+s.Failed+s.Waiting }

// Stats reads the counts, all of the same instant.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	n, err := s.run(ctx, s.scripts.counts, []string{s.keys.stats(), s.keys.backlog(), s.keys.deadlines()}).Int64Slice()
	if err != nil {
		return Stats{}, fmt.Errorf("read the counts: %w", err)
	}
	return Stats{Accepted: n[0], Answered: n[1], Failed: n[2], Waiting: n[3], Archived: n[4]}, nil
}
