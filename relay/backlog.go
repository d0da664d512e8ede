package relay

import (
	"context"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A Backlog keeps messages in custody. What Take and Fetch hand out comes back,
// to this relay or another, unless one of the steps below wrote its outcome.
// Each step happens wholly or not at all, and none of the ones of a claim
// happens once the session has ended (msgbus.ErrFenced).
type Backlog interface {
	Sessions
	Claims
	Lanes
	Arrivals
	Events

	// Answer ends requests: entry gone and reply pushed, in one step, or nothing.
	Answer(ctx context.Context, c *msgbus.Claim, answers []msgbus.Answer) ([]msgbus.Outcome, error)
	// AnswerSigned is Answer for replies under one signature, which it notes like
	// AcceptSigned. It may have ended requests when it returns an error.
	AnswerSigned(ctx context.Context, t *msgbus.Transfer, answers []msgbus.Answer) ([]msgbus.Outcome, error)
	// PushInterim pushes interim replies to the lists that their requests name.
	PushInterim(ctx context.Context, replies []msgbus.Interim) ([]msgbus.Outcome, error)
	// Entry returns msgbus.ErrNotFound when the request has ended.
	Entry(ctx context.Context, uid string) (*msgbus.Entry, error)
	// Entries returns those of several uids for ParseEntry, "" for what has ended.
	Entries(ctx context.Context, uids []string) ([]string, error)
	// Due returns a step's worth of requests past their deadline, or a
	// *msgbus.HeldError while nothing may expire.
	Due(ctx context.Context) ([]*msgbus.Entry, error)
	// Chores tells which of the following there is anything for, and for Gone and
	// DueSubscriptions.
	Chores(ctx context.Context) (msgbus.Chores, error)
	// ForgetExpired drops replies past their deadline and says how many.
	ForgetExpired(ctx context.Context) (int, error)
	// TakeStock finds out which commands have a service.
	TakeStock(ctx context.Context) error
	// GiveBack gives requests back to their queues, a step's worth, whose services ended
	// before they had dealt with them. It returns a *msgbus.HeldError as Due does.
	// With event it makes the request that publishes a service's end, which it pushes.
	GiveBack(ctx context.Context, event func(consumer, cmd string) []byte) (msgbus.GivenBack, error)
	// Serving tells who serves some commands, in their order.
	Serving(ctx context.Context, commands []string) ([]msgbus.Service, error)
	// Commands returns those that are served, at most `most`.
	Commands(ctx context.Context, most int) ([]msgbus.Service, error)
	// Adopt takes over what the archived daemon left.
	Adopt(ctx context.Context) (int, error)

	// RepliesUnderWay counts the replies here that have not ended their requests.
	RepliesUnderWay(ctx context.Context) (int64, error)
	Prefix() string
	// Now is the storage's clock: the one that deadlines are measured by.
	Now() time.Time
}

// Sessions are a relay's right to claim.
type Sessions interface {
	Join(ctx context.Context) error // msgbus.ErrSuperseded when another process has the name
	Renew(ctx context.Context) error
	Leave(ctx context.Context) error
	Recover(ctx context.Context) (int, error)
	Lease() time.Duration
}

// Claims are batches of a queue.
type Claims interface {
	// Take waits a while for messages; a claim without any is no error.
	Take(ctx context.Context, q msgbus.Queue) (*msgbus.Claim, error)
	// AdmitAndFetch admits and, in the same exchange with the storage, fetches from
	// the lane to a twin, unless that is 0. The batch is nil when it could not be
	// fetched. DepartAndFetch and SettleAndFetch are like it.
	AdmitAndFetch(ctx context.Context, c *msgbus.Claim, requests []msgbus.Admission, twin uint32) ([]string, *msgbus.Batch, error)
	Refuse(ctx context.Context, c *msgbus.Claim, position int, why *msgbus.Refusal, returnQueue string, reply []byte, keep bool) error
	// DepartAndFetch drops the claim; without one the departures are errors in place of
	// replies. It returns msgbus.ErrStale, and has done nothing, when a record that is
	// remembered has changed.
	DepartAndFetch(ctx context.Context, c *msgbus.Claim, departures []msgbus.Departure, twin uint32) ([]msgbus.Outcome, *msgbus.Batch, error)
	Drop(ctx context.Context, c *msgbus.Claim) error

	// Bury moves a message to the dead letters without a look at it; it returns
	// false when the message has been dealt with before.
	Bury(ctx context.Context, c *msgbus.Claim, position int, why *msgbus.Refusal) (bool, error)
	// SetApart has the messages of a claim come again, each alone.
	SetApart(ctx context.Context, c *msgbus.Claim) error
	// Tell pushes an error to an app whose message was buried.
	Tell(ctx context.Context, returnQueue string, reply []byte) error
}

// Lanes are what waits for other twins.
type Lanes interface {
	// DueLanes names at most `most` lanes of each kind.
	DueLanes(ctx context.Context, most int) (msgbus.DueLanes, error)
	Fetch(ctx context.Context, twin uint32) (*msgbus.Batch, error)
	// Settle takes messages off a lane and puts others off, in one step.
	Settle(ctx context.Context, twin uint32, o msgbus.Settlement) error
	SettleAndFetch(ctx context.Context, twin uint32, o msgbus.Settlement) (*msgbus.Batch, error)
	Fail(ctx context.Context, twin uint32, f msgbus.Failure) ([]*msgbus.Entry, error)
	Exhausted(ctx context.Context, twin uint32) ([]*msgbus.Entry, error)
	// Causes returns why each request has not been sent, as far as is known.
	Causes(ctx context.Context, entries []*msgbus.Entry) ([]msgbus.Failure, error)
	Hasten(ctx context.Context, twin uint32) (bool, error)
	ParseEntry(raw string) (*msgbus.Entry, error)
	// BuryParcel moves what waits on a lane to the dead letters.
	BuryParcel(ctx context.Context, p msgbus.Parcel, why *msgbus.Refusal) error
}

// Arrivals are requests from other twins.
type Arrivals interface {
	Accept(ctx context.Context, c *msgbus.Claim, source uint32, epoch string, requests []msgbus.Acceptance) ([]msgbus.Outcome, error)
	// AcceptSigned takes requests of a transfer and notes its signature in the same
	// step. It returns msgbus.ErrRepeated when that was noted before.
	AcceptSigned(ctx context.Context, t *msgbus.Transfer, requests []msgbus.Acceptance) ([]msgbus.Outcome, error)
	Proxy(ctx context.Context, source uint32, queue string, r msgbus.Acceptance, tail []byte) (string, msgbus.Outcome, error)
	Opens(ctx context.Context, uids []string) ([][]msgbus.Open, error)
	// RememberedOpen returns what Opens would, if nothing has changed since the request
	// was accepted and no other has its uid.
	RememberedOpen(uid string) (msgbus.Open, bool)
}

// Events are what twins publish, and who wants it.
type Events interface {
	// Group returns the twins of a group, none of one that nobody has made.
	Group(ctx context.Context, name string) ([]uint32, error)
	// Listeners tells of each topic who listens to it on this machine.
	Listeners(ctx context.Context, topics []string) ([]msgbus.Listeners, error)
	// Subscribers are the twins that want events of this one.
	Subscribers(ctx context.Context) ([]msgbus.Subscription, error)
	// Subscribed is what this machine's apps want of other twins.
	Subscribed(ctx context.Context) ([]msgbus.Subscription, error)
	// DueSubscriptions are what other twins must be asked for now, and need not be
	// asked for any more.
	DueSubscriptions(ctx context.Context) (due []msgbus.DueSubscription, ended []msgbus.Subscription, err error)
	// EventRoom tells, twin by twin, how many more events may wait.
	EventRoom(ctx context.Context, twins []uint32) ([]msgbus.EventRoom, error)
	// BuryRequests keeps requests of apps of this machine among the dead letters.
	BuryRequests(ctx context.Context, why *msgbus.Refusal, requests [][]byte) error
	// Retained are the latest events of own topics, as [msgbus.Message.AppendEvent] writes them.
	Retained(ctx context.Context, patterns []string) ([]string, error)
	// Gone forgets the names of apps that have ended without saying so, and pushes for each
	// what event makes, in one step. It returns a *msgbus.HeldError as Due does.
	Gone(ctx context.Context, event func(name string) []byte) (int, error)
	// PushLocal pushes requests of the relay's own.
	PushLocal(ctx context.Context, requests [][]byte) error
}
