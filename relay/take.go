package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// handleLimit bounds the handling of one claim. It is the claim's own time: a
// relay that is told to stop finishes what it has taken.
const handleLimit = 30 * time.Second

// storageRest is how long a step of the storage that failed is left alone.
const storageRest = 250 * time.Millisecond

// take takes claims from a queue and handles them, one after another, so that
// none overtakes another: a batch grows by itself while the one before it is
// handled, and a lone message waits for nothing.
func (r *Relay) take(ctx context.Context, q msgbus.Queue, handle func(context.Context, *msgbus.Claim) error) error {
	var outage onset
	for ctx.Err() == nil {
		claim, err := r.backlog.Take(ctx, q)
		if err == nil && len(claim.Messages) > 0 {
			err = r.handleClaim(ctx, claim, handle)
		}
		switch {
		case err == nil:
			outage.end(func(d time.Duration) {
				r.log.Info().Str("queue", string(q)).Dur("took", d).Msg("taking messages again")
			})
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, msgbus.ErrFenced):
			return err
		default:
			outage.begin(cause(err), func() {
				r.log.Warn().Str("queue", string(q)).Err(err).Msg("cannot take messages; they wait")
			})
			sleep(ctx, storageRest)
		}
	}
	return nil
}

func (r *Relay) handleClaim(ctx context.Context, claim *msgbus.Claim, handle func(context.Context, *msgbus.Claim) error) error {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), handleLimit)
	defer cancel()
	if claim.Poison {
		return r.bury(own, claim, ended())
	}
	err := r.guard(string(claim.Queue), func() error { return handle(own, claim) })
	if p := (*msgbus.Panic)(nil); errors.As(err, &p) {
		return r.setApart(own, claim, p.Refusal())
	}
	return err
}

// refuse ends one message of a claim that cannot be handled. An error goes to
// the queue that the message names, if it may be written; what is no message
// at all, or poison, is kept in the dead letters as well.
func (r *Relay) refuse(ctx context.Context, c *msgbus.Claim, position int, m *msgbus.Message, why error) error {
	var refusal *msgbus.Refusal
	if !errors.As(why, &refusal) {
		return fmt.Errorf("refuse a message: %w", why)
	}
	refusal = told(refusal)
	queue := r.returnQueue(m)
	var reply []byte
	if queue != "" {
		reply = r.errorToApp(m, r.opts.Twin, refusal)
	}
	r.refusal.Warn().Str("queue", string(c.Queue)).Str("reason", string(refusal.Reason)).Str("detail", refusal.Text).Msg("refused a message")
	keep := refusal.Reason == msgbus.Malformed || refusal.Reason == msgbus.Poison
	if err := r.backlog.Refuse(ctx, c, position, refusal, queue, reply, keep); err != nil {
		return err
	}
	r.observer.MessagesFinished(kindOn(c.Queue), msgbus.EndRefused, refusal.Reason, 1)
	return nil
}

// told is a refusal in the words that apps know.
func told(why *msgbus.Refusal) *msgbus.Refusal {
	if why.Reason == msgbus.Malformed || why.Reason == msgbus.Poison {
		return msgbus.Refuse(why.Reason, "received invalid message: %s", why.Text)
	}
	return why
}

// returnQueue is where an app can be told, or "".
func (r *Relay) returnQueue(m *msgbus.Message) string {
	if len(m.ReturnQueue) > msgbus.MaxQueueLength || msgbus.ReservedQueue(r.backlog.Prefix(), m.ReturnQueue) {
		return ""
	}
	return m.ReturnQueue
}
