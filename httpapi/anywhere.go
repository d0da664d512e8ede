package httpapi

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A twin may have several relays, each at an address of its own. They share a Redis,
// which knows a repeat whichever of them it comes to.

// A passedOver is the error of an address at which a message is not under way: nobody
// listens there, the relay is only starting, or the connection broke. The next
// address of the twin may have the message at once. What waits in vain for an answer
// is none: it may still be worked on there, and goes elsewhere at the next attempt.
type passedOver struct{ error }

func (p passedOver) Unwrap() error { return p.error }

func isPassedOver(err error) bool { return errors.As(err, new(passedOver)) }

// overlook makes what a failed exchange means a passedOver if it is one; cause is the
// error of net/http.
func overlook(ctx context.Context, meaning, cause error) error {
	var op *net.OpError
	var timeout net.Error
	dial := errors.As(cause, &op) && op.Op == "dial"
	waited := errors.Is(cause, context.DeadlineExceeded) || errors.As(cause, &timeout) && timeout.Timeout()
	if ctx.Err() != nil || waited && !dial {
		return meaning
	}
	return passedOver{meaning}
}

// sendAnywhere sends messages to one of a twin's addresses, and what that one cannot
// be given to the next. So a message waits for no rest of its lane because one of
// several relays is down. An attempt is at an end, too, when it has lasted for as long
// as one may wait for an answer.
func (c *Client) sendAnywhere(ctx context.Context, to destination, endpoints []string, messages []msgbus.Outgoing) []error {
	if len(endpoints) == 1 {
		to.endpoint = endpoints[0]
		return c.sendTo(ctx, to, messages)
	}
	errs := make([]error, len(messages))
	left := make([]int, len(messages)) // positions
	for i := range left {
		left[i] = i
	}
	began := time.Now()
	for i, endpoint := range c.standings.order(to.twin, endpoints) {
		if i > 0 && (ctx.Err() != nil || time.Since(began) > c.opts.Timeout) {
			break
		}
		some := make([]msgbus.Outgoing, len(left))
		for k, position := range left {
			some[k] = messages[position]
		}
		to.endpoint = endpoint
		outcomes := c.sendTo(ctx, to, some)
		if ctx.Err() == nil {
			c.judgeAddress(to, endpoints, outcomes)
		}
		var passed []int
		for k, position := range left {
			if isPassedOver(outcomes[k]) {
				passed = append(passed, position)
				errs[position] = graver(errs[position], outcomes[k])
			} else {
				errs[position] = outcomes[k]
			}
		}
		if left = passed; len(left) == 0 {
			break
		}
	}
	return errs
}

// graver is what two addresses that were passed over mean together: a message ends
// only if none of them may be dialled.
func graver(before, now error) error {
	if failureOf([]error{before}) != nil {
		return before
	}
	return now
}

// judgeAddress remembers how an address has fared. One that asks for a rest may stand
// for a relay that is gone, so the other is next; what was this relay's own doing says
// nothing of it.
func (c *Client) judgeAddress(to destination, endpoints []string, outcomes []error) {
	var why error
	for _, err := range outcomes {
		f := failureOf([]error{err})
		switch {
		case isPassedOver(err), f != nil && (f.Rest == 0 || f.Reason == msgbus.PeerBusy):
			why = err
		case f != nil && why == nil:
			return
		}
	}
	news := c.standings.note(to.twin, endpoints, to.endpoint, why != nil)
	switch f := failureOf([]error{why}); {
	case !news || f != nil && f.Reason == msgbus.PeerBusy: // which comes and goes
	case why != nil:
		c.opts.Log.Warn().Uint32("twin", to.twin).Str("address", to.endpoint).AnErr("detail", why).Msg("one of the addresses of a twin does not do; its others are tried first")
	default:
		c.opts.Log.Info().Uint32("twin", to.twin).Str("address", to.endpoint).Msg("an address of a twin answers again")
	}
}
