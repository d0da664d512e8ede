package relay

import (
	"context"
	"errors"

	"github.com/msgbusd/msgbusd/msgbus"
)

// The doors of version 1, through which messages come one by one. Those of one twin
// are taken together all the same, as far as they come while others are being taken.

// AcceptRequest takes a request that twin m.Source signed for this twin. nil
// means that Redis has it, now or since an earlier time: the service gets it
// once, or the source an error reply. A *msgbus.Refusal means that it was not
// taken: it may be later (QueueFull), or never (BelowWindow).
func (r *Relay) AcceptRequest(ctx context.Context, m *msgbus.Message) (err error) {
	r.seen(ctx, m.Source)
	a, err := r.arrivalAlone(m, digestOf(m.Signature))
	if err != nil {
		return err
	}
	err = errUntold
	a.tell = func(why error) { err = why }
	r.requests.run(ctx, lot{m.Source, m.Epoch, m.Now / 60}, a)
	return err
}

// errUntold is what became of a message of which nobody told, because the step for it
// and others panicked: nil would say that Redis has it.
var errUntold = errors.New("it is not known what became of the message")

// A lot is what single requests have in common that can be taken in one step: who
// sent them, his epoch, and the minute in which they were signed.
type lot struct {
	source uint32
	epoch  string
	minute int64
}

// takeLot takes single requests together, and then once more those that turned out to
// need an error reply.
func (r *Relay) takeLot(ctx context.Context, l lot, arrivals []*arrival) {
	t := &msgbus.Transfer{Source: l.source, Epoch: l.epoch, Signed: 60 * l.minute}
	if err := r.prepare(ctx, arrivals); err != nil {
		tellAll(arrivals, err)
		return
	}
	for arrivals = r.written(arrivals); len(arrivals) > 0; {
		again, err := r.handIn(ctx, t, arrivals)
		if err == nil {
			err = r.sendNews(ctx, l.source, arrivals)
		}
		if err != nil {
			tellAll(arrivals, err)
		}
		arrivals = again
	}
}

func tellAll(arrivals []*arrival, err error) {
	for _, a := range arrivals {
		a.tell(err)
	}
}

// AcceptReply takes a reply that twin m.Source signed for this twin. nil means
// that no more is to be done: the app has it, or its request has ended.
func (r *Relay) AcceptReply(ctx context.Context, m *msgbus.Message) error {
	r.seen(ctx, m.Source)
	reply := &single{message: m, err: errUntold}
	r.replies.run(ctx, m.Source, reply)
	return reply.err
}

// A single is a reply that is in no transfer.
type single struct {
	message *msgbus.Message
	err     error // what became of it
}

// takeSingles takes single replies of one twin together.
func (r *Relay) takeSingles(ctx context.Context, source uint32, replies []*single) {
	t := &msgbus.Transfer{Source: source}
	for _, s := range replies {
		t.Messages = append(t.Messages, msgbus.Outgoing{Kind: msgbus.ReplyParcel, Message: s.message})
	}
	errs := make([]error, len(replies))
	err := r.takeReplies(ctx, t, errs)
	for i, s := range replies {
		if s.err = errs[i]; err != nil {
			s.err = err
		}
	}
}
