package msgbus

import (
	"fmt"
	"time"
)

// A Reason is why a message was refused, retried, expired or buried. The same
// word stands in logs, metrics, dead letters and the error that a caller gets.
type Reason string

// The reasons, in the order in which a message meets them.
const (
	// Malformed: JSON that is not a message, or no JSON at all.
	Malformed Reason = "malformed"
	// Poison: a relay panicked over the message, or ended three times while it
	// handled nothing else; or three services ended that had taken it.
	Poison Reason = "poison"
	// BadVersion: ver is not 1.
	BadVersion Reason = "bad_version"
	// MissingCommand, MissingDestination and MissingReturnQueue: the
	// specification's three other invalid messages.
	MissingCommand     Reason = "missing_command"
	MissingDestination Reason = "missing_destination"
	MissingReturnQueue Reason = "missing_return_queue"
	// ReservedName: cmd or ret would name a key that belongs to the relay.
	ReservedName Reason = "reserved_name"
	// BadCommand: cmd is too long, or, from the network, holds a character that
	// is not a letter, digit, '.', '_', '-' or '@'.
	BadCommand Reason = "bad_command"
	// TooManyDestinations: more destinations, or more bytes over all of them,
	// than one message may have.
	TooManyDestinations Reason = "too_many_destinations"
	// TooLarge: the message is over the body limit.
	TooLarge Reason = "too_large"

	// TwinNotFound: the resolver says that there is no such twin.
	TwinNotFound Reason = "twin_not_found"
	// ResolverUnavailable: nobody can say now who the twin is.
	ResolverUnavailable Reason = "resolver_unavailable"
	// BadAddress: the twin's record holds nothing that can be dialled.
	BadAddress Reason = "bad_address"
	// AddressNotAllowed: the guard forbids the address or the port in the twin's
	// record.
	AddressNotAllowed Reason = "address_not_allowed"
	// Unreachable: the peer could not be connected, or the connection broke.
	Unreachable Reason = "unreachable"
	// BadCertificate: the peer's TLS certificate is not believed here, or ours
	// there.
	BadCertificate Reason = "bad_certificate"
	// Timeout: the peer did not answer in time.
	Timeout Reason = "timeout"
	// PeerFailed: the peer answered with an error of its own (5xx, or a status
	// that no relay sends).
	PeerFailed Reason = "peer_failed"
	// PeerBusy: the peer asks to come back later (429 or 503).
	PeerBusy Reason = "peer_busy"
	// RefusedByPeer: the peer refused this one message for good.
	RefusedByPeer Reason = "refused_by_peer"
	// RetriesExhausted: the app's number of tries is used up.
	RetriesExhausted Reason = "retries_exhausted"
	// Expired: the deadline passed without a reply.
	Expired Reason = "expired"
	// Dropped: an operator ended the request.
	Dropped Reason = "dropped"
	// Paused: an operator lets nothing go to the twin now.
	Paused Reason = "paused"
	// ExpTooLong: a remote request asks to live longer than this relay allows.
	ExpTooLong Reason = "exp_too_long"

	// TwinNotAllowed: the operator's lists keep this relay from dealing with the
	// twin.
	TwinNotAllowed Reason = "twin_not_allowed"
	// TooManyForgeries: so many signatures from the same address were not of the
	// twins that they named that no more are checked for a moment.
	TooManyForgeries Reason = "too_many_forgeries"
	// BadSignature: the signature is not the source twin's.
	BadSignature Reason = "bad_signature"
	// KeyUncertain: the signature is not of the key that the source twin had when
	// it was last looked up, and it may not be looked up again yet.
	KeyUncertain Reason = "key_uncertain"
	// RateLimited: the source sends more, or more at once, than one twin may.
	RateLimited Reason = "rate_limited"
	// ClockSkew: the message's `now` is more than a minute away.
	ClockSkew Reason = "clock_skew"
	// WrongDestination: the message is for another twin.
	WrongDestination Reason = "wrong_destination"
	// WrongSource: the message claims a source that cannot have sent it.
	WrongSource Reason = "wrong_source"
	// VersionRequired: one side takes or sends transfers only (--require-v2), and
	// the other speaks version 1.
	VersionRequired Reason = "version_required"
	// EncryptionRequired: one side takes or sends sealed transfers only
	// (--require-encryption), and the other does not seal.
	EncryptionRequired Reason = "encryption_required"
	// UnknownKey: a transfer is sealed with a key that this relay has no longer.
	UnknownKey Reason = "unknown_key"
	// Replayed: this very transfer was accepted before.
	Replayed Reason = "replayed"
	// Downgraded: a peer that speaks version 2 answers as if it did not.
	Downgraded Reason = "downgraded"
	// NotExposed: no --expose pattern lets this command be called from remote.
	NotExposed Reason = "not_exposed"
	// CommandNotAllowed: --allow-command names other twins for this command.
	CommandNotAllowed Reason = "command_not_allowed"
	// NoService: the request is not to wait for a service, and nobody serves its
	// command.
	NoService Reason = "no_service"
	// NotSubscribed: an event of a twin of which no app of this machine wants any such.
	NotSubscribed Reason = "not_subscribed"
	// QueueFull: the service's queue, or the number of queues that no service
	// reads, is at its bound; or the queue is as full as one twin may make it.
	QueueFull Reason = "queue_full"
	// BelowWindow: the uid is older than what the receiver can tell from a repeat.
	BelowWindow Reason = "below_window"
	// Overloaded: this relay has as many bytes or callers waiting as it may.
	Overloaded Reason = "overloaded"
	// TooManyLookups: as many twins are being looked up for messages that may be
	// forged as may be.
	TooManyLookups Reason = "too_many_lookups"
	// Starting: the relay waits for Redis or the resolver and takes nothing yet.
	Starting Reason = "starting"
	// StorageFull: Redis takes no more data.
	StorageFull Reason = "storage_full"
	// StorageFailed: Redis cannot be reached or cannot serve now.
	StorageFailed Reason = "storage_failed"

	// Late: a reply to a request that has ended, or that never was.
	Late Reason = "late"
	// Ambiguous: a service's reply that fits more than one open request.
	Ambiguous Reason = "ambiguous"
	// WrongType: the key that should take the message holds another type.
	WrongType Reason = "wrong_type"
)

// A Refusal says that a message cannot be accepted, with one typed reason and
// a text for people. The texts of the specification's invalid messages are
// those that apps know.
type Refusal struct {
	Reason Reason
	Text   string
	// Rest is, of a message that may be taken later, how long to wait; 0 leaves
	// it to the reason.
	Rest time.Duration
}

// Refuse returns a Refusal with a formatted text.
func Refuse(r Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: r, Text: fmt.Sprintf(format, args...)}
}

func (r *Refusal) Error() string { return r.Text }
