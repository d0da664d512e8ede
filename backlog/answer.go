package backlog

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Answer ends requests: each entry goes and its reply is pushed, or nothing
// happens to it. One that nobody waits for goes, and if it failed its body is kept in
// the dead letters. c is the claim that the replies came from, nil when they did
// not come from one. The outcomes are msgbus.Answered, FailedOutcome, TooLate,
// KeptOutcome or QueueWrongType; DeliveredOutcome or
// BuriedOutcome of requests that nobody waits for.
func (s *Store) Answer(ctx context.Context, c *msgbus.Claim, answers []msgbus.Answer) ([]msgbus.Outcome, error) {
	return answered(answers, s.call(ctx, s.answering(c, answers)))
}

// AnswerSigned is Answer for the replies of a transfer, whose signature it notes in the
// same exchange, also when there are none. It returns msgbus.ErrRepeated when that was
// accepted before: replies that did not end their requests then have ended them now.
func (s *Store) AnswerSigned(ctx context.Context, t *msgbus.Transfer, answers []msgbus.Answer) ([]msgbus.Outcome, error) {
	if t.Digest == "" {
		return s.Answer(ctx, nil, answers)
	}
	noting, err := s.accepting(nil, t, nil)
	if err != nil {
		return nil, err
	}
	cmds := s.exchange(ctx, noting, s.answering(nil, answers))
	if err := cmds[0].Err(); err != nil {
		return nil, fmt.Errorf("note the signature of a transfer of twin %d: %w", t.Source, err)
	}
	return answered(answers, cmds[1])
}

func (s *Store) answering(c *msgbus.Claim, answers []msgbus.Answer) call {
	session, claim := s.claimAtStake(c)
	queues, lanes := newNumbering[string](), newNumbering[uint32]()
	for _, a := range answers {
		if !a.Entry.Message.IsOneWay() {
			queues.of(a.Entry.Message.ReturnQueue)
		}
		lanes.of(a.Entry.Message.Destinations[0])
	}
	keys := []string{s.keys.backlog(), s.keys.deadlines(), s.keys.stats(), s.keys.dead(), s.keys.sessions(), claim, s.keys.ended()}
	keys = append(keys, queues.names...)
	for _, twin := range lanes.names {
		lane := id(twin)
		keys = append(keys, s.keys.laneRequests(lane), s.keys.laneTries(lane), s.keys.laneLater(lane))
	}
	args := []any{session, int(msgbus.ReplyQueueTTL.Seconds()), s.bounds.Load().MaxDead, len(queues.names)}
	for _, a := range answers {
		m := a.Entry.Message
		outcome, position := "answered", ""
		if a.Failed {
			outcome = "failed"
		}
		if c != nil && a.Position >= 0 {
			position = strconv.Itoa(a.Position)
		}
		queue := 0
		if !m.IsOneWay() {
			queue = queues.of(m.ReturnQueue)
		}
		args = append(args, m.UID, a.Entry.Head, outcome, string(a.Reason), stayText(a.Stay), flag(m.Proxied), position, queue, lanes.of(m.Destinations[0]), a.Detail, a.Body)
	}
	return call{s.scripts.answer, keys, args}
}

func answered(answers []msgbus.Answer, cmd *redis.Cmd) ([]msgbus.Outcome, error) {
	result, err := cmd.StringSlice()
	if err != nil {
		return nil, fmt.Errorf("answer %d requests: %w", len(answers), err)
	}
	return outcomes(result), nil
}

// stayText writes a stay as two times in ms, 0 where one is not known.
func stayText(s msgbus.Stay) string {
	if s.Left.IsZero() {
		return ""
	}
	accepted := int64(0)
	if !s.Accepted.IsZero() {
		accepted = s.Accepted.UnixMilli()
	}
	return strconv.FormatInt(accepted, 10) + " " + strconv.FormatInt(s.Left.UnixMilli(), 10)
}

// Stats are counts since the prefix was first used.
type Stats struct {
	Accepted int64 `json:"accepted"` // requests that entered the backlog
	Answered int64 `json:"answered"` // … that ended with a service's reply
	Failed   int64 `json:"failed"`   // … that ended with an error of the bus
	Waiting  int64 `json:"waiting"`  // … that have not ended

	Archived int64 `json:"archived"` // the archived daemon's entries, as long as Adopt has not accepted them
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
