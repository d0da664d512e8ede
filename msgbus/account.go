package msgbus

import "time"

// What a relay tells of its messages, for those who count them.

// A Kind is what a message is to the relay that has it.
type Kind uint8

// The kinds. A request to the own twin is a request and an arrival.
const (
	RequestKind Kind = iota // of an app of this machine, one for each destination
	CommandKind             // from `/zbus-cmd`, for a service of this machine
	ArrivalKind             // a request of a twin for a service of this machine
	ReplyKind               // of a service of this machine, or an error in its place, for the twin that asked
	Kinds                   // how many there are
)

var kindWords = [Kinds]string{RequestKind: "request", CommandKind: "command", ArrivalKind: "arrival", ReplyKind: "reply"}

func (k Kind) String() string { return kindWords[k] }

// An Ending is how a message ended. Each but the first two has a reason.
type Ending uint8

// The endings. What was refused or dropped was never accepted.
const (
	EndAnswered  Ending = iota // a request got the answer of its service
	EndDelivered               // a reply is with the relay of the twin that asked, or a request that nobody waits for is where it goes
	EndFailed                  // an error took the place of the answer, or a reply could not be delivered
	EndBuried                  // it is among the dead letters, or its answer is
	EndRefused                 // it could not be accepted
	EndDropped                 // a reply to a request that had ended, or that never was
	Endings                    // how many there are
)

var endingWords = [Endings]string{
	EndAnswered: "answered", EndDelivered: "delivered", EndFailed: "failed",
	EndBuried: "buried", EndRefused: "refused", EndDropped: "dropped",
}

func (e Ending) String() string { return endingWords[e] }

// Known tells whether a reason is one of this package's. Peers may name others.
func (r Reason) Known() bool {
	switch r {
	case Malformed, Poison, BadVersion, MissingCommand, MissingDestination, MissingReturnQueue, ReservedName, BadCommand,
		TooManyDestinations, TooLarge, TwinNotFound, ResolverUnavailable, BadAddress, AddressNotAllowed, Unreachable,
		BadCertificate, Timeout, PeerFailed, PeerBusy, RefusedByPeer, RetriesExhausted, Expired, Dropped, Paused, ExpTooLong,
		TwinNotAllowed, TooManyForgeries, BadSignature, KeyUncertain, RateLimited, ClockSkew, WrongDestination, WrongSource,
		VersionRequired, EncryptionRequired, UnknownKey, Replayed, Downgraded, NotExposed, CommandNotAllowed, NoService, NotSubscribed, QueueFull,
		BelowWindow, Overloaded, TooManyLookups, Starting, StorageFull, StorageFailed, Late, Ambiguous, WrongType:
		return true
	}
	return false
}

// Measures are how much waits at an instant. A count is -1 where the key holds
// another type than a relay's.
type Measures struct {
	Local, Remote, Reply int64 // messages in the three queues that a relay takes from
	Backlog              int64 // requests of this machine that have not ended
	Replies              int64 // replies that wait for other twins
	Open                 int64 // requests that services of this machine have not answered
	Dead                 int64 // dead letters

	LanesReady, LanesFailing, LanesPutOff int64 // with something to send; of which something is put off

	Services int64 // that have announced themselves and live, one for each command that they serve

	// When these came: the request and the open request that end first, and the oldest
	// dead letter; zero without one. Of requests that live for different times others
	// may be older. The messages of the queues say nothing of it that could be believed.
	BacklogSince, OpenSince, DeadSince time.Time
}
