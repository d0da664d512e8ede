package backlog

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// queues are those that are claimed from, in the order of recovery.
var queues = [...]msgbus.Queue{msgbus.LocalQueue, msgbus.RemoteQueue, msgbus.ReplyQueue}

// leaseSlack is how much longer than this relay's the lease of another may be,
// before it is taken for one from before Redis's clock was set back.
const leaseSlack = 30 * time.Second

// mostSuperseded is how many sessions before its own a process remembers. A session of
// before them has no lease any more.
const mostSuperseded = 16

// Join begins a session: the right to claim, admit and answer, for as long as
// it is renewed. An older session of the same instance ends at once and its
// claims go back to their queues. It returns msgbus.ErrSuperseded when this
// Store had a session and another process has joined under the name since.
func (s *Store) Join(ctx context.Context) error {
	s.joining.Lock()
	defer s.joining.Unlock()
	if s.next == "" {
		s.next = randomID()
	}
	session := s.next
	sent := s.clock.monotonic()
	previous := s.currentSession()
	args := []any{s.opts.Instance, session, previous, s.opts.Lease.Milliseconds()}
	for _, older := range s.superseded {
		args = append(args, older)
	}
	result, err := s.run(ctx, s.scripts.join, []string{s.keys.sessions(), s.keys.instances(), s.keys.epoch()}, args...).StringSlice()
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if err := s.readClock(ctx, result, sent); err != nil {
		return err
	}
	if result[1] == "superseded" {
		return msgbus.ErrSuperseded
	}
	s.next = ""
	s.noteSuperseded(result[3])
	if previous == "" {
		s.began.Store(int64(sent))
	}
	s.session.Store(&session)
	s.learnEpoch(result[2])
	if previous != "" && previous != session {
		// It was late, or Redis was away; nothing that it claimed has ended this process.
		if _, err := s.recoverSession(ctx, previous, alive); err != nil {
			return err
		}
	}
	_, err = s.Recover(ctx)
	return err
}

// noteSuperseded remembers which session this process has put an end to, the latest few.
func (s *Store) noteSuperseded(older string) {
	if older == "" {
		return
	}
	s.superseded = append(s.superseded, older)
	s.superseded = s.superseded[max(0, len(s.superseded)-mostSuperseded):]
}

// Renew keeps the session for another lease. It returns msgbus.ErrFenced when
// the session has ended.
func (s *Store) Renew(ctx context.Context) error {
	sent := s.clock.monotonic()
	result, err := s.run(ctx, s.scripts.renew, []string{s.keys.sessions()},
		s.currentSession(), s.opts.Lease.Milliseconds()).StringSlice()
	if err != nil {
		return fmt.Errorf("renew the session: %w", err)
	}
	if err := s.readClock(ctx, result, sent); err != nil {
		return err
	}
	if result[1] == "fenced" {
		return msgbus.ErrFenced
	}
	return nil
}

// Lease returns how long a session lives without a Renew.
func (s *Store) Lease() time.Duration { return s.opts.Lease }

// Leave ends the session and gives its claims back at once.
func (s *Store) Leave(ctx context.Context) error {
	session := s.currentSession()
	if session == "" {
		return nil
	}
	keys := []string{s.keys.sessions(), s.keys.instances(), s.keys.suspects()}
	err := s.run(ctx, s.scripts.leave, append(keys, s.claimsOf(session)...), s.opts.Instance, session).Err()
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

// Recover gives the claims of ended sessions back to the heads of their queues
// and returns the number of messages. Any of them may be what ended its relay:
// Take hands each one out alone from then on.
func (s *Store) Recover(ctx context.Context) (int, error) {
	ended, err := s.run(ctx, s.scripts.ended, []string{s.keys.sessions()},
		s.opts.Lease.Milliseconds(), leaseSlack.Milliseconds()).StringSlice()
	if err != nil {
		return 0, fmt.Errorf("find ended sessions: %w", err)
	}
	total := 0
	for _, session := range ended {
		given, err := s.recoverSession(ctx, session, crashed)
		if err != nil {
			return total, err
		}
		total += given
	}
	return total, nil
}

// An end is how the relay of a session fared.
type end bool

const (
	alive   end = false // it is this one
	crashed end = true  // as far as one can tell
)

func (s *Store) recoverSession(ctx context.Context, session string, how end) (int, error) {
	keys := append([]string{s.keys.sessions(), s.keys.suspects()}, s.claimsOf(session)...)
	given, err := s.run(ctx, s.scripts.recover, keys, session, 2*s.opts.Block.Milliseconds(), flag(how == crashed)).Int()
	if err != nil {
		return 0, fmt.Errorf("recover claims: %w", err)
	}
	if given > 0 {
		s.opts.Observer.ClaimsExpired(given)
	}
	return max(given, 0), nil
}

// claimsOf returns the pairs of claim and queue of a session.
func (s *Store) claimsOf(session string) []string {
	var pairs []string
	for _, q := range queues {
		pairs = append(pairs, s.keys.claim(session, q), s.keys.queue(q))
	}
	return pairs
}

func (s *Store) currentSession() string {
	if p := s.session.Load(); p != nil {
		return *p
	}
	return ""
}

// readClock takes Redis's time from the first element of the answer of a script
// that was sent when the monotonic clock said so.
func (s *Store) readClock(ctx context.Context, result []string, sent time.Duration) error {
	if len(result) < 2 {
		return fmt.Errorf("unexpected answer of a script: %q", result)
	}
	us, err := strconv.ParseInt(result[0], 10, 64)
	if err != nil {
		return fmt.Errorf("unexpected time in a script's answer: %w", err)
	}
	return s.learnTime(ctx, us, sent)
}

// randomID returns 16 random bytes in hex: the name of a session or an epoch.
func randomID() string { return randomHex(16) }

// isNil tells an absent key from a failure.
func isNil(err error) bool { return err == redis.Nil }
