package backlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/msgbusd/msgbusd/msgbus"
)

const expireMost = 256

// Due returns requests whose deadline has passed, at most a step's worth. They
// stay where they are until Answer ends them. It returns a *msgbus.HeldError for
// a while after Redis's clock was set.
func (s *Store) Due(ctx context.Context) ([]*msgbus.Entry, error) {
	pairs, err := s.expiring(ctx, s.scripts.due, []string{s.keys.deadlines(), s.keys.backlog()}, expireMost, endedBytes).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("find expired requests: %w", err)
	}
	return s.entries(ctx, pairs)
}

// ForgetExpired drops replies that could not be delivered before their
// request's deadline, and records of requests that no service answered: the
// source has ended both. It returns how many replies were dropped, and a
// *msgbus.HeldError for a while after Redis's clock was set.
func (s *Store) ForgetExpired(ctx context.Context) (int, error) {
	dropped := 0
	for {
		n, err := s.forgetReplies(ctx)
		dropped += n
		if err != nil {
			return dropped, err
		}
		if n < expireMost {
			break
		}
	}
	for {
		n, err := s.expiring(ctx, s.scripts.closeOpen, []string{s.keys.openDeadlines(), s.keys.open(), s.keys.openCounts(), s.keys.ended()}, expireMost).Int()
		if err != nil {
			return dropped, fmt.Errorf("close expired records: %w", err)
		}
		if n > 0 {
			s.opts.Observer.MessagesFinished(msgbus.ArrivalKind, msgbus.EndFailed, msgbus.Expired, n)
		}
		if n < expireMost {
			return dropped, nil
		}
	}
}

// forgetReplies drops at most a step's worth of expired replies.
func (s *Store) forgetReplies(ctx context.Context) (int, error) {
	ids, err := s.expiring(ctx, s.scripts.dueReplies, []string{s.keys.repliesDeadlines()}, expireMost).StringSlice()
	if err != nil {
		return 0, fmt.Errorf("find expired replies: %w", err)
	}
	byTwin := make(map[uint32][]msgbus.Parcel)
	for _, replyID := range ids {
		head, _, _ := strings.Cut(replyID, " ")
		twin, err := strconv.ParseUint(head, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("find expired replies: unexpected id %q", replyID)
		}
		byTwin[uint32(twin)] = append(byTwin[uint32(twin)], msgbus.Parcel{Kind: msgbus.ReplyParcel, ID: replyID})
	}
	for twin, parcels := range byTwin {
		if err := s.Settle(ctx, twin, msgbus.Settlement{Settled: parcels}); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// TakeStock finds out which commands a service has taken from since they were
// first called.
func (s *Store) TakeStock(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	commands, err := s.rdb.ZRange(call, s.keys.unread(), 0, -1).Result()
	if err != nil {
		return fmt.Errorf("list unread commands: %w", translate(err))
	}
	if len(commands) == 0 {
		return nil
	}
	keys := []string{s.keys.unread(), s.keys.served()}
	args := []any{10 * s.bounds.Load().MaxUnread}
	for _, cmd := range commands {
		keys = append(keys, s.keys.command(cmd))
		args = append(args, cmd)
	}
	if err := s.run(ctx, s.scripts.takeStock, keys, args...).Err(); err != nil {
		return fmt.Errorf("take stock of commands: %w", err)
	}
	return nil
}

// RepliesUnderWay returns how many replies are on this machine and have not ended
// their requests: in the services' queue, in this relay's hands, or on the lane to
// the own twin.
func (s *Store) RepliesUnderWay(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	queued := pipe.LLen(ctx, s.keys.queue(msgbus.ReplyQueue))
	claimed := pipe.LLen(ctx, s.keys.claim(s.currentSession(), msgbus.ReplyQueue))
	own := pipe.ZCard(ctx, s.keys.laneReplies(id(s.opts.Twin)))
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, fmt.Errorf("count the replies that wait: %w", translate(err))
	}
	return queued.Val() + claimed.Val() + own.Val(), nil
}
