package backlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// youth is how long after its start a relay handles no message that two relays
// have ended with: it would be buried if this one ended too, be it for a reason
// of its own.
const youth = time.Second

// isYoung tells whether this relay has only begun.
func (s *Store) isYoung() bool {
	return s.clock.monotonic()-time.Duration(s.began.Load()) < youth
}

// errApart: the next message of a queue must be alone, and another claim of this
// session has a message that must be, or the relay is too young for it.
var errApart = errors.New("the next message is a suspect that must wait")

// apartPoll is how often a taker looks whether its suspect may be taken: about
// as long as another one is handled.
const apartPoll = 5 * time.Millisecond

// Bury moves a message of a claim to the dead letters, whatever it says. It
// returns false when the message has been dealt with before.
func (s *Store) Bury(ctx context.Context, c *msgbus.Claim, position int, why *msgbus.Refusal) (bool, error) {
	outcome, err := s.refuse(ctx, c, position, why, "", nil, true)
	return outcome == "buried", err
}

// SetApart has the messages of a claim come again one by one: something went
// wrong with one of them, and nobody knows with which.
func (s *Store) SetApart(ctx context.Context, c *msgbus.Claim) error {
	err := s.run(ctx, s.scripts.setApart, []string{s.keys.sessions(), s.claimKey(c), s.keys.suspects()}, c.Session).Err()
	if err != nil {
		return fmt.Errorf("set the messages of a claim apart: %w", err)
	}
	return nil
}

// Tell pushes an error to an app whose message was buried.
func (s *Store) Tell(ctx context.Context, returnQueue string, reply []byte) error {
	err := s.run(ctx, s.scripts.tell, []string{s.keys.sessions(), returnQueue}, reply, int(msgbus.ReplyQueueTTL.Seconds())).Err()
	if err != nil {
		return fmt.Errorf("tell an app: %w", err)
	}
	return nil
}

// BuryParcel moves what waits on a lane to the dead letters.
func (s *Store) BuryParcel(ctx context.Context, p msgbus.Parcel, why *msgbus.Refusal) error {
	return s.discard(ctx, p, "lane", why)
}

// discard moves what nobody can handle from the backlog, or from the replies
// that wait, to the dead letters, unless it has changed since it was read.
func (s *Store) discard(ctx context.Context, p msgbus.Parcel, where string, why *msgbus.Refusal) error {
	var keys []string
	if p.Kind == msgbus.ReplyParcel {
		twin, _, _ := strings.Cut(p.ID, " ")
		keys = []string{s.keys.replies(), s.keys.repliesDeadlines(), s.keys.dead(), s.keys.stats(), s.keys.laneReplies(twin)}
	} else {
		dst, _, _ := msgbus.ParseUID(p.ID) // that of a proxied request names no lane: 0
		lane := id(dst)
		keys = []string{s.keys.backlog(), s.keys.deadlines(), s.keys.dead(), s.keys.stats(), s.keys.laneRequests(lane), s.keys.laneTries(lane), s.keys.laneLater(lane)}
	}
	err := s.run(ctx, s.scripts.discard, keys, p.ID, s.bounds.Load().MaxDead, where, string(why.Reason), why.Text, p.Body,
		flag(p.Kind == msgbus.RequestParcel)).Err()
	if err != nil {
		return fmt.Errorf("discard %s: %w", p.ID, err)
	}
	return nil
}
