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
	// MessageAged is told how old a message was when it ended.
	MessageAged(kind msgbus.Kind, age time.Duration)
	// MessageRepeated is told of a request that came once more, and went no further.
	MessageRepeated()
	// TransferAttempted is told of an attempt to hand messages to the relay of
	// another twin. The reason is "" when that dealt with them, be it by refusing some.
	TransferAttempted(why msgbus.Reason, messages int, took time.Duration)
}

// unobserved is the Observer of a relay of which nobody wants to know.
type unobserved struct{}

func (unobserved) MessagesAccepted(msgbus.Kind, int)                               {}
func (unobserved) MessagesFinished(msgbus.Kind, msgbus.Ending, msgbus.Reason, int) {}
func (unobserved) MessageAged(msgbus.Kind, time.Duration)                          {}
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
		r.observer.MessagesAccepted(msgbus.ArrivalKind, 1)
		r.observer.MessagesFinished(msgbus.ArrivalKind, msgbus.EndFailed, a.refusal.Reason, 1)
		r.observer.MessagesAccepted(msgbus.ReplyKind, 1)
	case outcome == msgbus.Accepted:
		r.observer.MessagesAccepted(msgbus.ArrivalKind, 1)
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
	case msgbus.QueueWrongType:
		how = msgbus.EndBuried
	default: // Answered, or kept: by the service itself
		why = ""
	}
	kind := kindOf(e)
	r.observer.MessagesFinished(kind, how, why, 1)
	if outcome != msgbus.KeptOutcome { // which is noticed at the deadline
		r.observer.MessageAged(kind, age)
	}
}

// observeDeparture counts a reply that leaves, and the request that it answers, if its
// record is there: one without it may have expired, or never have been.
func (r *Relay) observeDeparture(open *msgbus.Open, outcome msgbus.Outcome) {
	if outcome != msgbus.Sent {
		r.observer.MessagesFinished(msgbus.ReplyKind, msgbus.EndDropped, msgbus.Late, 1)
		return
	}
	r.observer.MessagesAccepted(msgbus.ReplyKind, 1)
	if open.Record == "" {
		return
	}
	r.observer.MessagesFinished(msgbus.ArrivalKind, msgbus.EndAnswered, "", 1)
	r.observer.MessageAged(msgbus.ArrivalKind, r.backlog.Now().Sub(open.Accepted))
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
