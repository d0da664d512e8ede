package relay

import (
	"context"
	"errors"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A message that makes the relay panic, or ends it, must cost nobody else
// anything, and end by itself.

// guard does something with one message, or with several of which one may be
// at fault, and tells of a panic in it, which becomes a *msgbus.Panic.
func (r *Relay) guard(where string, do func() error) error {
	err := msgbus.Guard(do)
	r.tellPanic(where, err)
	return err
}

func (r *Relay) tellPanic(where string, err error) {
	if p := (*msgbus.Panic)(nil); errors.As(err, &p) {
		r.refusal.Error().Str("reason", string(msgbus.Poison)).Str("where", where).Str("panic", p.Value).
			Bytes("stack", p.Stack).Msg("a message made the relay panic: please report this")
	}
}

// read decodes one message of a claim. Together with an error it returns what
// could be read, never nil.
func (r *Relay) read(c *msgbus.Claim, raw string, decode func(string) (*msgbus.Message, error)) (m *msgbus.Message, err error) {
	err = r.guard(string(c.Queue), func() error {
		m, err = decode(raw)
		return err
	})
	if m == nil {
		m = &msgbus.Message{}
	}
	return m, err
}

// ended is what ends a message whose claim came back three times.
func ended() *msgbus.Refusal {
	return msgbus.Refuse(msgbus.Poison, "the relay ended three times while it handled this message")
}

// setApart goes on after a panic in a step for all of a claim. A message that
// was alone is what caused it; of several, each comes again alone.
func (r *Relay) setApart(ctx context.Context, c *msgbus.Claim, why *msgbus.Refusal) error {
	if len(live(c)) > 1 {
		return r.backlog.SetApart(ctx, c)
	}
	return r.bury(ctx, c, why)
}

// bury ends the one message of a claim. It goes to the dead letters before
// anybody looks at it: what ends the relay then has nowhere to come back from.
func (r *Relay) bury(ctx context.Context, c *msgbus.Claim, why *msgbus.Refusal) error {
	for _, position := range live(c) {
		buried, err := r.backlog.Bury(ctx, c, position, why)
		if err != nil {
			return err
		}
		if !buried {
			continue
		}
		r.observer.MessagesFinished(kindOn(c.Queue), msgbus.EndBuried, why.Reason, 1)
		r.refusal.Error().Str("queue", string(c.Queue)).Str("reason", string(why.Reason)).Str("detail", why.Text).Msg("buried a message")
		if err := r.backlog.Drop(ctx, c); err != nil {
			return err
		}
		if err := r.guard("burial", func() error { return r.tellOfBurial(ctx, c, position, why) }); err != nil {
			r.refusal.Warn().Str("queue", string(c.Queue)).Err(err).Msg("could not tell an app that its message was buried")
		}
		return nil
	}
	return r.backlog.Drop(ctx, c)
}

// tellOfBurial answers the app of a buried message, if the message says where.
func (r *Relay) tellOfBurial(ctx context.Context, c *msgbus.Claim, position int, why *msgbus.Refusal) error {
	if c.Queue == msgbus.ReplyQueue {
		return r.replyOfBurial(ctx, c, position, why)
	}
	m, _ := msgbus.Decode(c.Messages[position])
	if c.Queue == msgbus.RemoteQueue && !isProxied(m) {
		return nil // its ret is no app's of this machine
	}
	queue := r.returnQueue(m)
	if queue == "" {
		return nil
	}
	return r.backlog.Tell(ctx, queue, r.errorToApp(m, r.opts.Twin, told(why)))
}

// replyOfBurial answers the request of a reply that was buried with an error, if it is
// one that another twin is known to have open here.
func (r *Relay) replyOfBurial(ctx context.Context, c *msgbus.Claim, position int, why *msgbus.Refusal) error {
	if c.Poison {
		return nil // finding out whose it was is what may have ended three relays
	}
	m, err := decodeReply(c.Messages[position])
	if err != nil {
		return nil // nobody knows whose it was
	}
	opens, err := r.backlog.Opens(ctx, []string{m.UID})
	if err != nil {
		return err
	}
	open, refusal := r.match(m, opens[0])
	if refusal != nil || open == nil || open.Record == "" {
		return nil
	}
	failed := &msgbus.Message{Destinations: m.Destinations, Error: "the relay of the service could not handle its answer: " + why.Text}
	dropped := &msgbus.Claim{Queue: c.Queue, Session: c.Session}
	return r.depart(ctx, dropped, []msgbus.Departure{r.departure(failed, open)})
}

// live are the positions of the messages of a claim that are not known to be
// dealt with.
func live(c *msgbus.Claim) (positions []int) {
	for i, raw := range c.Messages {
		if raw != msgbus.DealtWith {
			positions = append(positions, i)
		}
	}
	return positions
}

// buryParcel ends what made the relay panic on a lane: a request with an error
// to its app, if its entry can be read.
func (r *Relay) buryParcel(ctx context.Context, twin uint32, p msgbus.Parcel, why error) error {
	r.tellPanic("lane", why)
	var refusal *msgbus.Refusal
	if !errors.As(why, &refusal) {
		return why
	}
	r.refusal.Error().Str("msg_id", p.ID).Uint32("twin", twin).Str("reason", string(refusal.Reason)).Msg("buried a message")
	kind, isTold, isHeard := msgbus.ReplyKind, false, true
	if p.Kind == msgbus.RequestParcel {
		kind = msgbus.RequestKind
		err := r.guard("burial", func() error {
			entry, err := r.backlog.Entry(ctx, p.ID)
			if err != nil {
				return err
			}
			if isHeard = !entry.Message.IsOneWay(); !isHeard {
				return nil
			}
			return r.endWithError(ctx, []*msgbus.Entry{entry}, refusal.Reason, func(*msgbus.Entry) string { return refusal.Text })
		})
		// One that cannot be read, or not be answered, ends unanswered.
		if !errors.Is(err, msgbus.ErrNotFound) && !isPoison(err) && err != nil {
			return err
		}
		isTold = isHeard && !isPoison(err)
	}
	if err := r.backlog.BuryParcel(ctx, p, refusal); err != nil {
		return err
	}
	if !isTold {
		r.observer.MessagesFinished(kind, msgbus.EndBuried, refusal.Reason, 1)
	}
	return nil
}

func isPoison(err error) bool {
	var refusal *msgbus.Refusal
	return errors.As(err, &refusal) && refusal.Reason == msgbus.Poison
}
