package relay

import (
	"context"
	"errors"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// fullRest is how long a request stays away whose queue is full here.
const fullRest = time.Second

// AcceptTransfer takes what twin t.Source signed for this twin, each message of
// which has passed CheckRemoteRequest or CheckRemoteReply. It returns for each
// message nil when Redis has it or nothing more is to be done, a *msgbus.Refusal
// when it will not be taken, a *msgbus.Deferral when it will be later, and
// otherwise an error of the storage; or one error for all of them:
// msgbus.ErrRepeated when the signature was accepted before, else one of the
// storage. What was taken before such an error is a repeat when it is sent again.
func (r *Relay) AcceptTransfer(ctx context.Context, t *msgbus.Transfer) ([]error, error) {
	r.seen(ctx, t.Source)
	errs := make([]error, len(t.Messages))
	// Requests first: their step notes the signature, also when there are none.
	if err := r.takeRequests(ctx, t, errs); err != nil {
		return nil, err
	}
	if err := r.takeReplies(ctx, t, errs); err != nil {
		return nil, err
	}
	return errs, nil
}

// takeRequests hands all requests of a transfer in together, and then once more
// those that turned out to need an error reply.
func (r *Relay) takeRequests(ctx context.Context, t *msgbus.Transfer, errs []error) error {
	var arrivals []*arrival
	for i, o := range t.Messages {
		if o.Kind != msgbus.RequestParcel {
			continue
		}
		errs[i] = r.guard("transfer", func() error {
			a, err := r.arrivalOf(t, o.Message)
			if err != nil {
				return err
			}
			r.write(a)
			a.tell = func(err error) { errs[i] = err }
			arrivals = append(arrivals, a)
			return nil
		})
	}
	again, err := r.handIn(ctx, t, arrivals)
	if err != nil || len(again) == 0 {
		return err
	}
	_, err = r.handIn(ctx, unsigned(t), again)
	return err
}

// arrivalOf checks what is true of a request only together with its transfer.
func (r *Relay) arrivalOf(t *msgbus.Transfer, m *msgbus.Message) (*arrival, error) {
	_, number, ok := msgbus.ParseUID(m.UID)
	switch {
	case !ok:
		return nil, msgbus.Refuse(msgbus.Malformed, "uid %q has no number", m.UID)
	case m.Epoch == "" || m.Epoch != t.Epoch:
		return nil, msgbus.Refuse(msgbus.Malformed, "request %s is not of the transfer's epoch", m.UID)
	case m.Source != t.Source:
		return nil, msgbus.Refuse(msgbus.WrongSource, "request %s is of twin %d, in a transfer of twin %d", m.UID, m.Source, t.Source)
	}
	// The number tells a repeat: the transfer's signature covers the epoch.
	return &arrival{
		Acceptance: msgbus.Acceptance{UID: m.UID, Number: number, Command: m.Command},
		message:    m, refusal: r.checkServable(m),
	}, nil
}

// unsigned is a transfer whose signature has been noted.
func unsigned(t *msgbus.Transfer) *msgbus.Transfer {
	u := *t
	u.Digest = ""
	return &u
}

// handIn hands requests of a transfer to the storage in one step, notes its
// signature, and returns those that are to be handed in again. A panic has them
// handed in one by one.
func (r *Relay) handIn(ctx context.Context, t *msgbus.Transfer, arrivals []*arrival) (again []*arrival, err error) {
	requests := make([]msgbus.Acceptance, len(arrivals))
	for i, a := range arrivals {
		requests[i] = a.Acceptance
	}
	var outcomes []msgbus.Outcome
	err = r.guard("transfer", func() (err error) {
		outcomes, err = r.backlog.AcceptSigned(ctx, t, requests)
		return err
	})
	if isPoison(err) {
		return r.handInApart(ctx, t, arrivals, err)
	}
	if err != nil {
		return nil, err
	}
	for i, a := range arrivals {
		retry, err := r.arrived(a, outcomes[i])
		if refusal := (*msgbus.Refusal)(nil); errors.As(err, &refusal) && refusal.Reason == msgbus.QueueFull {
			err = &msgbus.Deferral{Reason: refusal.Reason, Detail: refusal.Text, After: fullRest}
		}
		a.tell(err)
		if retry {
			r.write(a)
			again = append(again, a)
		}
	}
	return again, nil
}

// handInApart hands in one by one what panicked together, once its signature is
// noted. The step may have noted it before it panicked, and taken the requests
// too: their numbers tell then that they are repeats.
func (r *Relay) handInApart(ctx context.Context, t *msgbus.Transfer, arrivals []*arrival, why error) (again []*arrival, err error) {
	if t.Digest != "" {
		if _, err := r.backlog.AcceptSigned(ctx, t, nil); err != nil && !errors.Is(err, msgbus.ErrRepeated) {
			return nil, err
		}
		t = unsigned(t)
	}
	if len(arrivals) == 1 {
		arrivals[0].tell(why)
		return nil, nil
	}
	for i := range arrivals {
		more, err := r.handIn(ctx, t, arrivals[i:i+1])
		if err != nil {
			return nil, err
		}
		again = append(again, more...)
	}
	return again, nil
}

// An ending is a reply of a transfer on its way to its app.
type ending struct {
	msgbus.Answer
	reply *msgbus.Message
	tell  func(error)
}

// takeReplies reads the requests that the replies of a transfer answer, and ends
// them, all together.
func (r *Relay) takeReplies(ctx context.Context, t *msgbus.Transfer, errs []error) error {
	var uids []string
	var positions []int
	for i, o := range t.Messages {
		if o.Kind == msgbus.ReplyParcel {
			uids, positions = append(uids, o.Message.UID), append(positions, i)
		}
	}
	if len(uids) == 0 {
		return nil
	}
	entries, err := r.backlog.Entries(ctx, uids)
	if err != nil {
		return err
	}
	var endings []ending
	for n, i := range positions {
		errs[i] = r.guard("transfer", func() error {
			m := t.Messages[i].Message
			entry, err := r.answeredBy(t, m, entries[n])
			if err != nil {
				return err
			}
			if entry == nil {
				r.late(m)
				return nil
			}
			answer := msgbus.Answer{Entry: entry, Position: -1, Body: r.replyToApp(m, entry)}
			endings = append(endings, ending{answer, m, func(err error) { errs[i] = err }})
			return nil
		})
	}
	return r.end(ctx, endings)
}

// answeredBy returns the entry that a reply of a transfer ends, nil when it has
// ended or is another one by now. A reply names no epoch when the record of its
// request is gone and the service has not kept it: uids are not used again, so it
// fits all the same.
func (r *Relay) answeredBy(t *msgbus.Transfer, m *msgbus.Message, raw string) (*msgbus.Entry, error) {
	if raw == "" {
		return nil, nil
	}
	entry, err := r.backlog.ParseEntry(raw)
	if err != nil {
		return nil, err
	}
	asked := entry.Message.Destinations[0]
	switch {
	case t.Source != asked || m.Source != asked:
		return nil, msgbus.Refuse(msgbus.WrongSource, "request %s went to twin %d, not %d", m.UID, asked, t.Source)
	case m.Epoch != "" && entry.Epoch != "" && m.Epoch != entry.Epoch:
		return nil, nil
	}
	return entry, nil
}

// end ends requests with their replies in one step. A panic has them ended one
// by one.
func (r *Relay) end(ctx context.Context, endings []ending) error {
	if len(endings) == 0 {
		return nil
	}
	answers := make([]msgbus.Answer, len(endings))
	for i, e := range endings {
		answers[i] = e.Answer
	}
	var outcomes []msgbus.Outcome
	err := r.guard("transfer", func() (err error) {
		outcomes, err = r.backlog.Answer(ctx, nil, answers)
		return err
	})
	switch {
	case isPoison(err) && len(endings) == 1:
		endings[0].tell(err)
		return nil
	case isPoison(err):
		for i := range endings {
			if err := r.end(ctx, endings[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	case err != nil:
		return err
	}
	for i, e := range endings {
		r.replied(e.Entry, e.reply, outcomes[i])
	}
	return nil
}
