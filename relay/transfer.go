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
	// The first step notes the signature: that of the replies if there is nothing else.
	replies := 0
	for _, o := range t.Messages {
		if o.Kind == msgbus.ReplyParcel {
			replies++
		}
	}
	if replies == 0 || replies < len(t.Messages) {
		if err := r.takeRequests(ctx, t, errs); err != nil {
			return nil, err
		}
		t = unsigned(t)
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
			a.tell = func(err error) { errs[i] = later(err) }
			arrivals = append(arrivals, a)
			return nil
		})
	}
	if err := r.prepare(ctx, arrivals); err != nil {
		return err
	}
	arrivals = r.written(arrivals)
	again, err := r.handIn(ctx, t, arrivals)
	if err == nil && len(again) > 0 {
		_, err = r.handIn(ctx, unsigned(t), again)
	}
	if err != nil {
		return err
	}
	return r.sendNews(ctx, t.Source, arrivals)
}

// written fills in what the storage keeps of arrivals, and leaves out those that are refused.
func (r *Relay) written(arrivals []*arrival) (left []*arrival) {
	for _, a := range arrivals {
		err := r.guard("transfer", func() error {
			if a.isUnheard() {
				return a.refusal
			}
			r.write(a)
			left = append(left, a)
			return nil
		})
		if err != nil {
			a.tell(err)
		}
	}
	return left
}

// later has the sender of a transfer put off a request whose queue is full.
func later(err error) error {
	if refusal := (*msgbus.Refusal)(nil); errors.As(err, &refusal) && refusal.Reason == msgbus.QueueFull {
		return &msgbus.Deferral{Reason: refusal.Reason, Detail: refusal.Text, After: fullRest}
	}
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
	return r.checked(m, msgbus.Acceptance{UID: m.UID, Number: number, Command: m.Command}), nil
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
	if t, err = r.noted(ctx, t); err != nil {
		return nil, err
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

// noted notes the signature of a transfer, if the step that panicked has not, and
// returns the transfer without it.
func (r *Relay) noted(ctx context.Context, t *msgbus.Transfer) (*msgbus.Transfer, error) {
	if t.Digest == "" {
		return t, nil
	}
	if _, err := r.backlog.AcceptSigned(ctx, t, nil); err != nil && !errors.Is(err, msgbus.ErrRepeated) {
		return nil, err
	}
	return unsigned(t), nil
}

// An ending is a reply of a transfer on its way to its app.
type ending struct {
	msgbus.Answer
	reply      *msgbus.Message
	remembered bool // its entry is, and may be another one by now
	tell       func(error)
}

// takeReplies ends the requests that the replies of a transfer answer, all together.
func (r *Relay) takeReplies(ctx context.Context, t *msgbus.Transfer, errs []error) error {
	var endings []*ending
	for i, o := range t.Messages {
		if o.Kind != msgbus.ReplyParcel {
			continue
		}
		e := &ending{reply: o.Message, tell: func(err error) { errs[i] = err }}
		e.Position, e.Entry, e.Stay = -1, r.sent.of(o.Message.UID), msgbus.ParseStay(o.Message.Note)
		e.remembered = e.Entry != nil
		endings = append(endings, e)
	}
	for len(endings) > 0 {
		left, err := r.readEntries(ctx, endings)
		if err != nil {
			return err
		}
		final, interim := apart(r.fitting(t, left))
		if t, err = r.pushInterim(ctx, t, interim); err != nil {
			return err
		}
		stale, err := r.end(ctx, t, final)
		if err != nil || len(stale) == 0 {
			return err
		}
		endings, t = stale, unsigned(t)
	}
	return nil
}

// readEntries reads the entries that are not remembered, and returns the endings of
// those that there are.
func (r *Relay) readEntries(ctx context.Context, endings []*ending) (left []*ending, err error) {
	var uids []string
	for _, e := range endings {
		if !e.remembered {
			uids = append(uids, e.reply.UID)
		}
	}
	raws, err := r.backlog.Entries(ctx, uids)
	if err != nil {
		return nil, err
	}
	for _, e := range endings {
		if e.remembered {
			left = append(left, e)
			continue
		}
		raw := raws[0]
		raws = raws[1:]
		if raw == "" {
			r.late(e.reply)
			continue
		}
		err := r.guard("transfer", func() (err error) {
			e.Entry, err = r.backlog.ParseEntry(raw)
			return err
		})
		if err != nil {
			e.tell(err)
			continue
		}
		left = append(left, e)
	}
	return left, nil
}

// fitting returns the endings whose replies fit their requests, with what their apps
// get.
func (r *Relay) fitting(t *msgbus.Transfer, endings []*ending) (left []*ending) {
	for _, e := range endings {
		fits := false
		e.tell(r.guard("transfer", func() (err error) {
			if fits, err = r.fits(t, e.reply, e.Entry); fits {
				e.Body = r.replyToApp(e.reply, e.Entry)
			}
			return err
		}))
		if fits {
			left = append(left, e)
		}
	}
	return left
}

// fits tells whether a reply of a transfer ends a request. One of another epoch is for
// an earlier request. A reply names no epoch when the record of its request is gone
// and the service has not kept it: uids are not used again, so it fits all the same.
func (r *Relay) fits(t *msgbus.Transfer, reply *msgbus.Message, entry *msgbus.Entry) (bool, error) {
	asked := entry.Message.Destinations[0]
	switch {
	case t.Source != asked || reply.Source != asked:
		return false, msgbus.Refuse(msgbus.WrongSource, "request %s went to twin %d, not %d", reply.UID, asked, t.Source)
	case reply.Epoch != "" && entry.Epoch != "" && reply.Epoch != entry.Epoch,
		reply.IsInterim() && !wantsInterim(entry):
		r.late(reply)
		return false, nil
	}
	return true, nil
}

// end ends requests with their replies in one step, which notes the signature of the
// transfer. It returns those whose entries were remembered and are other ones by now,
// to be read. A panic has them ended one by one.
func (r *Relay) end(ctx context.Context, t *msgbus.Transfer, endings []*ending) (stale []*ending, err error) {
	answers := make([]msgbus.Answer, len(endings))
	for i, e := range endings {
		answers[i] = e.Answer
	}
	var outcomes []msgbus.Outcome
	err = r.guard("transfer", func() (err error) {
		outcomes, err = r.backlog.AnswerSigned(ctx, t, answers)
		return err
	})
	if isPoison(err) {
		return r.endApart(ctx, t, endings, err)
	}
	if err != nil {
		return nil, err
	}
	for i, e := range endings {
		r.sent.forget(e.reply.UID)
		if e.remembered && outcomes[i] == msgbus.TooLate {
			e.remembered, e.Entry = false, nil
			stale = append(stale, e)
			continue
		}
		r.replied(e.Entry, e.reply, outcomes[i])
	}
	return stale, nil
}

// endApart ends one by one what panicked together. What the step had ended is late.
func (r *Relay) endApart(ctx context.Context, t *msgbus.Transfer, endings []*ending, why error) (stale []*ending, err error) {
	if t, err = r.noted(ctx, t); err != nil {
		return nil, err
	}
	if len(endings) == 1 {
		endings[0].tell(why)
		return nil, nil
	}
	for i := range endings {
		some, err := r.end(ctx, t, endings[i:i+1])
		if err != nil {
			return nil, err
		}
		stale = append(stale, some...)
	}
	return stale, nil
}
