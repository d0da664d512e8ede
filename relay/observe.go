package relay

import (
	"context"
	"errors"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// An Observer is told what becomes of messages. Its methods are called on the way
// of each of them, from many goroutines: they must be quick and wait for nothing.
type Observer interface {
	// MessagesAccepted is told of messages that the relay sees to from now on.
	MessagesAccepted(kind msgbus.Kind, n int)
	// MessagesFinished is told of messages that have ended. The reason is "" where
	// an ending needs none.
	MessagesFinished(kind msgbus.Kind, how msgbus.Ending, why msgbus.Reason, n int)
	// MessageAged is told how old a message was when it ended, and of what trace it is,
	// which is nil for those that nobody traces.
	MessageAged(kind msgbus.Kind, age time.Duration, of *msgbus.Trace)
	// MessageRepeated is told of a request that came once more, and went no further.
	MessageRepeated()
	// TransferAttempted is told of an attempt to hand messages to the relay of
	// another twin. The reason is "" when that dealt with them, be it by refusing some.
	TransferAttempted(why msgbus.Reason, messages int, took time.Duration)
}

// A Tracer is told of requests that have a Trace, and of no others. Its methods are called
// like those of an Observer, and must keep nothing that a message shares memory with.
type Tracer interface {
	// RequestEnded is told how a request of this machine's apps has ended. The reason is
	// "" when it was answered.
	RequestEnded(m *msgbus.Message, how msgbus.Ending, why msgbus.Reason, admitted, ended time.Time)
	// RequestArrived is told of a request for a service of this machine that was taken.
	// With a reason it is answered with an error instead.
	RequestArrived(m *msgbus.Message, why msgbus.Reason, came, taken time.Time)
}

// unobserved is the Observer of a relay of which nobody wants to know.
type unobserved struct{}

func (unobserved) MessagesAccepted(msgbus.Kind, int)                               {}
func (unobserved) MessagesFinished(msgbus.Kind, msgbus.Ending, msgbus.Reason, int) {}
func (unobserved) MessageAged(msgbus.Kind, time.Duration, *msgbus.Trace)           {}
func (unobserved) MessageRepeated()                                                {}
func (unobserved) TransferAttempted(msgbus.Reason, int, time.Duration)             {}

// kindOn is what the messages of a queue are.
func kindOn(q msgbus.Queue) msgbus.Kind {
	switch q {
	case msgbus.RemoteQueue:
		return msgbus.ArrivalKind
	case msgbus.ReplyQueue:
		return msgbus.ReplyKind
	default:
		return msgbus.RequestKind
	}
}

// kindOf is what a request of the backlog is.
func kindOf(e *msgbus.Entry) msgbus.Kind {
	if e.Message.Proxied {
		return msgbus.CommandKind
	}
	return msgbus.RequestKind
}

// observeArrival counts a request that has been taken, or its repeat.
func (r *Relay) observeArrival(a *arrival, outcome msgbus.Outcome) {
	switch {
	case outcome == msgbus.Repeated:
		r.observer.MessageRepeated()
	case outcome == msgbus.Accepted && a.refusal != nil: // its source gets an error reply
		r.traceArrival(a.message, a.refusal.Reason, a.came)
		r.observer.MessagesAccepted(msgbus.ArrivalKind, 1)
		r.observer.MessagesFinished(msgbus.ArrivalKind, msgbus.EndFailed, a.refusal.Reason, 1)
		r.observer.MessagesAccepted(msgbus.ReplyKind, 1)
	case outcome == msgbus.Accepted:
		r.traceArrival(a.message, "", a.came)
		r.observer.MessagesAccepted(msgbus.ArrivalKind, 1)
		switch {
		case a.OneWay: // nothing more is known of it here
			r.observer.MessagesFinished(msgbus.ArrivalKind, msgbus.EndDelivered, "", 1)
		case a.IsReply: // of the relay's own
			r.observer.MessagesFinished(msgbus.ArrivalKind, msgbus.EndAnswered, "", 1)
			r.observer.MessagesAccepted(msgbus.ReplyKind, 1)
		}
	}
}

func (r *Relay) traceArrival(m *msgbus.Message, why msgbus.Reason, came time.Time) {
	if r.tracer != nil && m.Trace != nil {
		r.tracer.RequestArrived(m, why, came, r.backlog.Now())
	}
}

// observeEnd counts a request of the backlog that has ended, unless it had before.
func (r *Relay) observeEnd(e *msgbus.Entry, outcome msgbus.Outcome, why msgbus.Reason, age time.Duration) {
	how := msgbus.EndAnswered
	switch outcome {
	case msgbus.TooLate:
		return
	case msgbus.FailedOutcome:
		how = msgbus.EndFailed
	case msgbus.QueueWrongType, msgbus.BuriedOutcome:
		how = msgbus.EndBuried
	case msgbus.DeliveredOutcome:
		how = msgbus.EndDelivered
	default: // Answered, or kept: by the service itself
		why = ""
	}
	kind := kindOf(e)
	r.observer.MessagesFinished(kind, how, why, 1)
	if outcome != msgbus.KeptOutcome { // which is noticed at the deadline
		r.observer.MessageAged(kind, age, e.Message.Trace)
	}
	if r.tracer != nil && e.Message.Trace != nil && kind == msgbus.RequestKind { // a command's app is on no relay
		r.tracer.RequestEnded(e.Message, how, why, e.Admitted, e.Admitted.Add(age))
	}
}

// observeDeparture counts a reply that leaves, and the request that it answers, if its
// record is there: one without it may have expired, or never have been. Its trace is the
// reply's, where the service left that as it was.
func (r *Relay) observeDeparture(d msgbus.Departure, outcome msgbus.Outcome) {
	if outcome != msgbus.Sent {
		r.observer.MessagesFinished(msgbus.ReplyKind, msgbus.EndDropped, msgbus.Late, 1)
		return
	}
	r.observer.MessagesAccepted(msgbus.ReplyKind, 1)
	if d.Open.Record == "" || d.Interim {
		return
	}
	r.observer.MessagesFinished(msgbus.ArrivalKind, msgbus.EndAnswered, "", 1)
	r.observer.MessageAged(msgbus.ArrivalKind, r.backlog.Now().Sub(d.Open.Accepted), d.Trace)
}

// observeAttempt counts an attempt, unless the stop has cut it off.
func (r *Relay) observeAttempt(ctx context.Context, errs []error, took time.Duration) {
	if ctx.Err() == nil {
		r.observer.TransferAttempted(whyFailed(errs), len(errs), took)
	}
}

// whyFailed tells why an attempt has failed: the peer could not be asked or did not
// answer, or nothing could be sent to it. "" is an attempt that the peer has answered.
func whyFailed(errs []error) msgbus.Reason {
	for _, err := range errs {
		var failure *msgbus.Failure
		var refusal *msgbus.Refusal
		switch {
		case err == nil:
		case errors.As(err, &failure):
			return failure.Reason
		case errors.As(err, &refusal) && refusal.Reason != msgbus.RefusedByPeer:
			return refusal.Reason
		}
	}
	return ""
}
