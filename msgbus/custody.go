package msgbus

import (
	"errors"
	"fmt"
	"time"
)

// The shapes in which the rules (package relay) and the storage (package
// backlog) hand messages to each other. A message is always in the custody of
// Redis: what is handed out comes back, to this relay or another, unless its
// outcome is written.

// A Queue is one of the three lists from which a relay takes messages.
type Queue string

// The queues: `<prefix>.system.<queue>`.
const (
	LocalQueue  Queue = "local"  // requests of this machine's apps
	RemoteQueue Queue = "remote" // requests for this machine's services, pushed by other means than HTTP
	ReplyQueue  Queue = "reply"  // replies of this machine's services
)

// A Claim is a batch taken from a queue. It goes back to the head of the queue
// when the lease of the relay's session ends, unless each message was refused,
// admitted, answered or sent on, and the claim was dropped.
type Claim struct {
	Queue    Queue
	Session  string   // under which it was taken
	Messages []string // as they were pushed; DealtWith for one that is
	// Poison: relays have ended while they handled the one message of this claim,
	// the third time by now. Nobody is to look at it.
	Poison bool
	// Room is how many more requests the backlog could hold, of a claim on the local
	// queue.
	Room int
}

// DealtWith stands in a claim in the place of a message that was dealt with. No
// app pushes it; an empty entry is a message that is none.
const DealtWith = "\x00dealt with"

// An Admission is a request that can enter the backlog.
type Admission struct {
	Message *Message
	// Start is the app's `now` in unix seconds: it counts when Redis's clock
	// finds it 0 to 24 h old, and otherwise the time of admission does.
	Start int64
}

// An Entry is a request in the backlog of its source.
type Entry struct {
	Message  *Message // with uid, src, dst and the app's own ret
	Epoch    string
	Admitted time.Time
	Deadline time.Time
	Dialect  Dialect // the app's
	// Head is the part of the stored entry that no other entry has.
	Head string
}

// A ParcelKind tells requests on a lane from replies.
type ParcelKind string

// The kinds, in the words of the storage and of metrics.
const (
	RequestParcel ParcelKind = "request"
	ReplyParcel   ParcelKind = "reply"
)

// A Parcel is a message on the lane to a twin.
type Parcel struct {
	Kind ParcelKind
	ID   string // of a request its uid; of a reply "<twin> <epoch or -> <uid>"
	Body string // of a request its backlog entry; of a reply what is to be sent
}

// An Outgoing is a parcel opened: a message for a peer, complete but for its
// signature.
type Outgoing struct {
	Kind    ParcelKind
	Message *Message
}

// A Transfer is messages of one twin under one signature, which covers each of
// them and the epoch.
type Transfer struct {
	Source   uint32 // the twin that signed it
	Epoch    string // of its requests; "" when there are none
	Digest   string // of the signature, which is accepted once
	Signed   int64  // when, in unix seconds
	Messages []Outgoing
}

// A Batch is what a lane has to send next.
type Batch struct {
	Parcels []Parcel
	// Probe is set when the lane has failed since it last succeeded: the batch
	// is one message.
	Probe bool
	// Wait is how long nothing is to be sent. It means something only without
	// parcels; negative, the lane is empty or another relay serves it.
	Wait time.Duration
}

// DueLanes are lanes that have something to do, those of each kind in the order
// in which they became due.
type DueLanes struct {
	Ready   []uint32      // can go on as far as anybody knows
	Failing []uint32      // failed at the last attempt
	Next    time.Duration // until another one is due; negative when none will be
}

// A Failure is a failed attempt of a lane.
type Failure struct {
	Reason Reason
	Detail string
	// Rest, when it is not 0, is how long the peer asked to be left alone; the
	// attempt then counts against no request.
	Rest time.Duration
}

// A Deferral says that a peer takes one message later, while others for the same
// twin go on: it is put off, and the lane has not failed.
type Deferral struct {
	Reason Reason
	Detail string
	After  time.Duration // which the peer asks to wait
}

// A Settlement is what has become of messages on a lane in one attempt. What is
// in neither list stays where it is.
type Settlement struct {
	Answered bool     // the peer did answer, which ends the lane's failing
	Settled  []Parcel // whose outcome is known
	// PutOff are requests that stay on the lane's account and let those behind
	// them go first, for a time and a reason that are the same for all of them.
	PutOff []Parcel
	Why    Deferral // of those put off
}

// An Acceptance is a request from a twin, verified, as the storage takes it.
type Acceptance struct {
	UID     string
	Number  uint64 // the n of the uid; looked at only together with an epoch
	Digest  string // of a version 1 signature, "" without
	Now     int64  // the signed `now` in unix seconds, for requests with a digest
	Command string
	Life    time.Duration
	Left    bool // push to the left end, for services that BRPOP
	OneWay  bool // nobody waits for an answer
	// IsReply makes Body a reply of the relay's own that goes back to the source
	// instead of a request that goes to the service.
	IsReply  bool
	Body     []byte // nil when nothing goes anywhere
	Effect   *Effect
	Position int // in the claim that the request came from, if it came from one
}

// An Open is a request that a service of this machine has been given and has
// not answered.
type Open struct {
	UID     string
	Source  uint32
	Epoch   string // "" when the request came without one
	Command string
	Record  string // as stored, to be given back with the reply
	// Accepted is when the request was, zero of one whose record is not known.
	Accepted time.Time
	// Remembered: it was not read from the storage, which may have others with this uid
	// by now, or none.
	Remembered bool
}

// A Departure is a service's reply on its way to the twin that asked.
type Departure struct {
	Open     *Open // Record is "" when Redis knows nothing of the request
	Body     []byte
	Trace    *Trace // that the reply names
	Interim  bool   // leaves the record open
	Sequence int64  // of an interim reply; 0 without
}

// An Interim is an interim reply that has come for a request of the backlog.
type Interim struct {
	Entry *Entry
	Body  []byte
}

// An Answer ends a request of the backlog.
type Answer struct {
	Entry    *Entry
	Failed   bool   // Body tells of an error of the bus, not of the service's reply
	Reason   Reason // of that error
	Detail   string // of that error, for the dead letters when nobody waits for an answer
	Stay     Stay   // of a reply from another relay that tells
	Position int    // in the claim that the answer came from; -1 when from none
	Body     []byte // of a request that failed and that nobody waits for, the request; nil: not worth a dead letter
}

// A Service is what is known of those who serve a command of this machine.
type Service struct {
	Command string
	// Announced is how many services have announced themselves and live.
	Announced int
	// Seen: another one was seen to take from the queue, and is not known to have stopped.
	Seen bool
}

// Serves tells whether anybody does, as far as is known.
func (s Service) Serves() bool { return s.Announced > 0 || s.Seen }

// Chores are what a relay has to keep house for: there is something of this kind that may
// have run out.
type Chores struct {
	Deadlines     bool // replies that wait for other twins, or requests of theirs
	Commands      bool // commands that nobody was seen to serve yet
	Subscriptions bool // of this machine's apps
	Names         bool // that apps have
	Consumers     bool // services that have announced themselves
}

// A GivenBack is what became of requests whose services ended before they had dealt with
// them.
type GivenBack struct {
	Returned int      // are in their queues again
	Buried   []Buried // are among the dead letters
	More     bool     // there may be others, which wait for the next step
}

// A Buried is a request among the dead letters of which nobody has told its source.
type Buried struct {
	Why     *Refusal
	Message string // as its service had it
}

// An Outcome is what became of a message in one step of the storage.
type Outcome string

// The outcomes, in the words of the scripts.
const (
	Accepted       Outcome = "accepted"
	Repeated       Outcome = "repeat"
	TooOld         Outcome = "below_window"
	QueueIsFull    Outcome = "queue_full"
	QueueWrongType Outcome = "wrong_type"
	Sent           Outcome = "sent"
	TooLate        Outcome = "late"
	Answered       Outcome = "answered"
	FailedOutcome  Outcome = "failed"
	KeptOutcome    Outcome = "kept"

	// Of requests that nobody waits for.
	DeliveredOutcome Outcome = "delivered"
	BuriedOutcome    Outcome = "buried"
)

// Errors of the storage that the rules tell apart.
var (
	// ErrFenced: this relay's session has ended; others may have its claims.
	ErrFenced = errors.New("the session of this relay has ended")
	// ErrSuperseded: another process has started under the same instance name.
	ErrSuperseded = errors.New("another relay has started under the same instance name")
	// ErrBacklogFull: the backlog is at its bound.
	ErrBacklogFull = errors.New("the backlog is at its bound")
	// ErrStorageFull: Redis takes no more data (OOM, MISCONF).
	ErrStorageFull = errors.New("the storage takes no more data")
	// ErrRepeated: a transfer's signature was accepted before.
	ErrRepeated = errors.New("the signature was accepted before")
	// ErrStale: what is remembered is not what the storage has.
	ErrStale = errors.New("what is remembered is not what is stored")
	// ErrNotFound: there is no such entry.
	ErrNotFound = errors.New("not found")
)

// A HeldError says that nothing ends by time for now, because the storage's
// clock was set and would end too much.
type HeldError struct {
	By  time.Duration // how far the clock was set; negative when back
	For time.Duration // how long the hold is, from its beginning
}

// Way says which way the clock was set.
func (e *HeldError) Way() string {
	if e.By < 0 {
		return "back"
	}
	return "forward"
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("the clock of Redis was set %s by %v; nothing expires for %v", e.Way(), e.By.Abs().Round(time.Second), e.For)
}

// Error makes a failed attempt an error that says to try again, where a
// *Refusal says not to.
func (f *Failure) Error() string {
	if f.Detail == "" {
		return string(f.Reason)
	}
	return f.Detail
}

func (d *Deferral) Error() string {
	if d.Detail == "" {
		return string(d.Reason)
	}
	return d.Detail
}
