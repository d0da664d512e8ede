package backlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// fullPoll is how often a taker asks again while Redis or the backlog is full.
const fullPoll = 250 * time.Millisecond

// Take waits for messages in a queue and claims them, oldest first. It returns
// a claim without messages when none came for a while. A claim that was not
// dropped is handed out again, with what is left of it: a session has one claim
// on a queue, so messages keep their order whatever happens to it. What a relay
// ended with comes alone.
func (s *Store) Take(ctx context.Context, q msgbus.Queue) (*msgbus.Claim, error) {
	claim := &msgbus.Claim{Queue: q, Session: s.currentSession()}
	if !s.setDrained(q, false) {
		err := s.fill(ctx, claim)
		if errors.Is(err, errApart) {
			return claim, pause(ctx, apartPoll)
		}
		if err != nil || len(claim.Messages) > 0 {
			return claim, err
		}
	}
	return claim, s.await(ctx, claim)
}

// await waits for a message and takes it into the claim, with what else is there.
func (s *Store) await(ctx context.Context, c *msgbus.Claim) error {
	taking := s.taking(c)
	pipe := s.blocking.Pipeline()
	moved := pipe.BLMove(ctx, s.keys.queue(c.Queue), s.claimKey(c), "LEFT", "RIGHT", s.opts.Block)
	taken := taking.script.EvalSha(ctx, pipe, taking.keys, taking.args...)
	_, _ = pipe.Exec(ctx) // each command has its error
	err := translate(moved.Err())
	isFull := errors.Is(err, msgbus.ErrStorageFull)
	switch {
	case s.interrupted.Load():
		return context.Canceled
	case err != nil && !isNil(err) && !isFull:
		return fmt.Errorf("wait for messages in %s: %w", s.keys.queue(c.Queue), err)
	case isNoScript(taken.Err()):
		err = s.fill(ctx, c)
	default:
		taken.SetErr(translate(taken.Err()))
		err = s.filled(c, taken)
	}
	switch {
	case errors.Is(err, msgbus.ErrFenced):
		// The message went to a claim that may have been recovered for the last time.
		_, giveBack := s.recoverSession(context.WithoutCancel(ctx), c.Session, alive)
		return errors.Join(err, giveBack)
	case errors.Is(err, errApart):
		return pause(ctx, apartPoll)
	case err == nil && isFull && len(c.Messages) == 0:
		// Redis refuses BLMOVE when it is full, and lets the script go on.
		return pause(ctx, fullPoll)
	case err == nil && len(c.Messages) == 0:
		s.setDrained(c.Queue, c.Room > 0) // nothing came, so the next one can be waited for at once, too
	}
	return err
}

// setDrained notes whether there is nothing in the claim on a queue, and room for more,
// and returns what was noted before.
func (s *Store) setDrained(q msgbus.Queue, drained bool) (before bool) {
	return s.drained[slices.Index(queues[:], q)].Swap(drained)
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// fill takes what is there, without waiting.
func (s *Store) fill(ctx context.Context, c *msgbus.Claim) error {
	return s.filled(c, s.call(ctx, s.taking(c)))
}

// taking is the script that takes what is there.
func (s *Store) taking(c *msgbus.Claim) call {
	bound := 0
	if c.Queue == msgbus.LocalQueue {
		bound = s.bounds.Load().MaxBacklog
	}
	keys := []string{s.keys.sessions(), s.keys.queue(c.Queue), s.claimKey(c), s.keys.backlog(), s.keys.suspects()}
	for _, q := range queues {
		if q != c.Queue {
			keys = append(keys, s.keys.claim(c.Session, q))
		}
	}
	return call{s.scripts.take, keys, []any{c.Session, s.opts.MaxTake, s.opts.MaxTakeBytes, bound, flag(s.isYoung())}}
}

// filled reads what was taken.
func (s *Store) filled(c *msgbus.Claim, taken *redis.Cmd) error {
	result, err := taken.StringSlice()
	if err != nil {
		return fmt.Errorf("take from %s: %w", s.keys.queue(c.Queue), err)
	}
	if c.Room = math.MaxInt; result[1] != "" {
		if c.Room, err = strconv.Atoi(result[1]); err != nil {
			return fmt.Errorf("take from %s: unexpected room: %w", s.keys.queue(c.Queue), err)
		}
	}
	c.Poison, c.Messages = result[0] == "1", result[2:]
	return nil
}

// Refuse ends the message at a position of a claim that cannot be handled.
// reply, if not nil, goes to the return queue, unless that key holds another
// type. The dead letters keep the message when nobody could be told, and, with
// keep, in any case.
func (s *Store) Refuse(ctx context.Context, c *msgbus.Claim, position int, why *msgbus.Refusal, returnQueue string, reply []byte, keep bool) error {
	_, err := s.refuse(ctx, c, position, why, returnQueue, reply, keep)
	return err
}

func (s *Store) refuse(ctx context.Context, c *msgbus.Claim, position int, why *msgbus.Refusal, returnQueue string, reply []byte, keep bool) (outcome string, err error) {
	keys := []string{s.keys.sessions(), s.claimKey(c), s.keys.dead()}
	if reply != nil && returnQueue != "" {
		keys = append(keys, returnQueue)
	}
	outcome, err = s.run(ctx, s.scripts.refuse, keys, c.Session, position, s.bounds.Load().MaxDead, string(c.Queue),
		string(why.Reason), why.Text, reply, int(msgbus.ReplyQueueTTL.Seconds()), flag(keep)).Text()
	if err != nil {
		return "", fmt.Errorf("refuse a message: %w", err)
	}
	return outcome, nil
}

// Drop ends a claim of which every message has been dealt with.
func (s *Store) Drop(ctx context.Context, c *msgbus.Claim) error {
	err := s.run(ctx, s.scripts.dropClaim, []string{s.keys.sessions(), s.claimKey(c)}, c.Session, len(c.Messages)).Err()
	if err != nil {
		return fmt.Errorf("drop a claim: %w", err)
	}
	s.setDrained(c.Queue, c.Room > 0)
	return nil
}

// claimKey names a claim by the session under which it was taken. That is not
// always the current one: a relay that was fenced and has joined again may still
// be at work on a claim that others have by now.
func (s *Store) claimKey(c *msgbus.Claim) string { return s.keys.claim(c.Session, c.Queue) }

// claimAtStake returns the session and the key of a claim, for scripts that serve
// messages without one too: they look at the key only when there is a session.
func (s *Store) claimAtStake(c *msgbus.Claim) (session, key string) {
	if c == nil {
		return "", s.keys.claim("none", msgbus.ReplyQueue)
	}
	return c.Session, s.claimKey(c)
}

// outcomes reads what a script says of each message.
func outcomes(result []string) []msgbus.Outcome {
	out := make([]msgbus.Outcome, len(result))
	for i, o := range result {
		out[i] = msgbus.Outcome(o)
	}
	return out
}

// flag is how scripts are told of a truth.
func flag(on bool) string {
	if on {
		return "1"
	}
	return ""
}
