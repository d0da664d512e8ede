package relay

import (
	"context"
	"errors"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// drainFirst is how long at most the replies that wait at the start keep
// requests from expiring.
const drainFirst = 5 * time.Second

// expire ends requests whose deadline has passed, until ctx ends. It closes caughtUp
// when the replies that were there at the start have had their time.
func (r *Relay) expire(ctx context.Context, caughtUp chan<- struct{}) error {
	if adopted, err := r.backlog.Adopt(ctx); err != nil && ctx.Err() == nil {
		r.log.Warn().Err(err).Msg("cannot look for what the archived daemon left; restart to try again")
	} else if adopted > 0 {
		r.log.Info().Int("requests", adopted).Msg("took over what the archived daemon left")
	}
	r.awaitReplies(ctx)
	close(caughtUp)
	var outage onset
	for sleep(ctx, time.Second) {
		err := r.guard("expiry", func() error { return r.expireDue(ctx) })
		var held *msgbus.HeldError
		switch {
		case errors.As(err, &held):
			r.heldBack(held)
		case err == nil:
			outage.end(func(time.Duration) {})
			r.held.end(func(d time.Duration) { r.log.Info().Dur("took", d).Msg("requests expire again") })
		case ctx.Err() == nil:
			outage.begin(cause(err), func() { r.log.Warn().Err(err).Msg("cannot end expired requests; trying again") })
		}
	}
	return nil
}

// heldBack tells that nothing expires for a while, and why.
func (r *Relay) heldBack(held *msgbus.HeldError) {
	r.held.begin(held.Error(), func() {
		r.log.Warn().Str("way", held.Way()).Str("by", held.By.Abs().Round(time.Second).String()).Str("for", held.For.String()).
			Msg("the clock of Redis was set; nothing expires for a while")
	})
}

// awaitReplies waits until the replies that were there at the start have ended
// their requests, or gone to other twins' lanes.
func (r *Relay) awaitReplies(ctx context.Context) {
	limit, cancel := context.WithTimeout(ctx, drainFirst)
	defer cancel()
	for {
		n, err := r.backlog.RepliesUnderWay(limit)
		if err == nil && n == 0 || !sleep(limit, 50*time.Millisecond) {
			return
		}
	}
}

func (r *Relay) expireDue(ctx context.Context) error {
	for {
		due, err := r.backlog.Due(ctx)
		if len(due) == 0 {
			return err
		}
		if err != nil {
			r.log.Error().Err(err).Msg("cannot discard an entry that cannot be read; trying again")
		}
		causes := r.causes(ctx, due)
		err = r.endWithError(ctx, due, msgbus.Expired, func(e *msgbus.Entry) string {
			return r.expiredText(e) + causes[e]
		})
		if err != nil {
			return err
		}
	}
}

// causes says of each request why it was not sent, if that is known. How full a
// queue is, is told of its own command.
func (r *Relay) causes(ctx context.Context, entries []*msgbus.Entry) map[*msgbus.Entry]string {
	texts := make(map[*msgbus.Entry]string)
	causes, err := r.backlog.Causes(ctx, entries)
	if err != nil {
		return texts
	}
	for i, e := range entries {
		switch f := causes[i]; f.Reason {
		case "":
		case msgbus.QueueFull:
			texts[e] = ": " + queueFull(e.Message.Command).Text
		default:
			texts[e] = ": " + f.Error()
		}
	}
	return texts
}

// housekeep forgets what has run out, finds out which commands are served, and gives back
// what services had taken that have ended, from caughtUp on until ctx ends.
func (r *Relay) housekeep(ctx context.Context, caughtUp <-chan struct{}) error {
	select {
	case <-caughtUp: // a reply that is late because no relay ran is late for a good reason
	case <-ctx.Done():
	}
	for sleep(ctx, time.Second) {
		if err := r.keepHouse(ctx); err != nil && ctx.Err() == nil {
			r.log.Debug().Err(err).Msg("cannot keep house; trying again")
		}
	}
	return nil
}

// keepHouse does what there is to do now.
func (r *Relay) keepHouse(ctx context.Context) error {
	chores, err := r.backlog.Chores(ctx)
	if err != nil {
		return err
	}
	var held *msgbus.HeldError // which expire tells about
	// What keeps one from its work, such as a key of another type, need not keep the others.
	do := func(is bool, work func(context.Context) error) {
		if !is {
			return
		}
		if failed := work(ctx); !errors.As(failed, &held) {
			err = errors.Join(err, failed)
		}
	}
	do(chores.Deadlines, r.forgetExpired)
	do(chores.Commands, r.backlog.TakeStock)
	do(chores.Subscriptions, r.renewSubscriptions)
	do(chores.Names, r.tellWhoHasGone)
	do(chores.Consumers, r.giveBack)
	return err
}

// forgetExpired drops what nobody waits for any more at other twins.
func (r *Relay) forgetExpired(ctx context.Context) error {
	dropped, err := r.backlog.ForgetExpired(ctx)
	if dropped > 0 {
		r.observer.MessagesFinished(msgbus.ReplyKind, msgbus.EndFailed, msgbus.Expired, dropped)
		r.log.Info().Int("replies", dropped).Str("reason", string(msgbus.Expired)).Msg("dropped replies that could not be delivered in time")
	}
	return err
}
