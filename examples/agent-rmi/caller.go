package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/msgbusd/msgbusd/client"
)

// Wait is for how long the result of a call is waited for whose context has no deadline.
// The document says nothing; its code has 90 seconds.
const Wait = 90 * time.Second

// A Caller invokes methods of agents.
type Caller struct {
	ID         uint32 // the twin that it is of
	bus        *client.Client
	exceptions Exceptions
}

// NewCaller returns a caller on the bus of a twin's machine. Errors of agents are raised
// again as known says, others as a [*RemoteException].
func NewCaller(bus *client.Client, id uint32, known Exceptions) *Caller {
	return &Caller{ID: id, bus: bus, exceptions: known}
}

// A Stub stands for one class, in one version, at one agent. It may be copied, and the copy
// be set up in another way.
type Stub struct {
	Caller    *Caller
	Agent     uint32 // the twin that it is of
	ClassName string
	Version   string
	// Cntr is what the object is made of whose method is called: arguments, and [Kws].
	// Nil: it is made without arguments.
	Cntr []any
	// Data is the caller's own, any JSON of up to 3 KiB. It comes back with the result, and
	// calls may be cancelled by it.
	Data any
	// TTL is for how long an agent may accept the call. 0: one must be there now, or the
	// call is rejected; of one that is fire and forget, an hour.
	TTL time.Duration
	// OnStatus is called with each status, in their order, one at a time, and never after
	// the result.
	OnStatus func(Status)
	// OnResult is called once, with how the call ended.
	OnResult func(Outcome)
}

// Call invokes a method and waits for what it returns, which is decoded into out unless
// that is nil.
//
// Errors: what the method has ended with, as a registered type or a [*RemoteException];
// a [*Rejected]; [ErrCancelled]; those of [client.Client.Call]; and the context's.
func (s Stub) Call(ctx context.Context, out any, method string, args ...any) error {
	p, err := s.Go(ctx, method, args...)
	if err != nil {
		return err
	}
	return p.Result(out)
}

// Go invokes a method and does not wait. An error tells that the arguments cannot be
// encoded.
func (s Stub) Go(ctx context.Context, method string, args ...any) (*Pending, error) {
	t, err := s.Prepare(method, args...)
	if err != nil {
		return nil, err
	}
	return t.Fire(ctx)
}

// Notify invokes a method that nobody waits for: fire and forget. It returns the call's
// serial number when Redis has it. What cannot be delivered is among the dead letters of
// the caller's relay.
func (s Stub) Notify(ctx context.Context, method string, args ...any) (sn string, err error) {
	t, err := s.Prepare(method, args...)
	if err != nil {
		return "", err
	}
	t.Envelope.Timestamp = time.Now().UTC()
	opts := []client.CallOption{client.Tag(t.Envelope)}
	if s.TTL > 0 {
		opts = append(opts, client.Expire(s.TTL+Wait)) // what is accepted at the last moment has time left
	}
	if err := s.Caller.bus.Notify(ctx, s.Agent, t.command, t.request, opts...); err != nil {
		return "", fmt.Errorf("notify %s: %w", t.command, err)
	}
	return t.Envelope.SN, nil
}

// CallGroup invokes a method of all agents of a group, in one request, and yields how it
// ended for each, as they come. A group is a set of twins in the caller's Redis,
// `msgbus.system.group.<name>`: those that have a property in common.
func (s Stub) CallGroup(ctx context.Context, group, method string, args ...any) iter.Seq[Outcome] {
	return func(yield func(Outcome) bool) {
		t, err := s.Prepare(method, args...)
		if err != nil {
			yield(Outcome{Err: err})
			return
		}
		t.Envelope.Timestamp = time.Now().UTC()
		for reply := range s.Caller.bus.CallGroup(ctx, group, t.command, t.request, client.Tag(t.Envelope), client.Mandatory()) {
			if !yield(s.Caller.outcome(t.Envelope, reply)) {
				return
			}
		}
	}
}

// Prepare makes a call that [Trigger.Fire] sends, later.
func (s Stub) Prepare(method string, args ...any) (*Trigger, error) {
	t := &Trigger{stub: s, command: Command(s.ClassName, method, s.Version)}
	t.request = Request{ClassName: s.ClassName, Method: method}
	var err error
	if t.request.Arguments, err = newArguments(args); err != nil {
		return nil, err
	}
	if s.Cntr != nil {
		made, err := newArguments(s.Cntr)
		if err != nil {
			return nil, err
		}
		cntr := Constructor(made)
		t.request.Cntr = &cntr
	}
	t.Envelope = Envelope{
		SN: uuid.NewString(), Version: s.Version, Routing: [2]uint32{s.Caller.ID, s.Agent}, ReplyTo: s.Caller.ID,
		TTL: int64((s.TTL + time.Second - 1) / time.Second),
	}
	if s.Data != nil {
		if t.Envelope.Data, err = json.Marshal(s.Data); err != nil {
			return nil, fmt.Errorf("encode the data of %s: %w", t.command, err)
		}
	}
	return t, nil
}

// A Trigger is a call that is ready to be sent.
type Trigger struct {
	Envelope Envelope // whose serial number does not change any more
	stub     Stub
	command  string
	request  Request
	fired    atomic.Bool
}

// ErrFired: a prepared call was sent before.
var ErrFired = errors.New("the call has been sent already")

// Fire sends the call. ctx bounds the wait for its result, as its deadline or [Wait] does.
// The second time it returns [ErrFired].
func (t *Trigger) Fire(ctx context.Context) (*Pending, error) {
	if !t.fired.CompareAndSwap(false, true) {
		return nil, ErrFired
	}
	stop := func() {}
	if _, ok := ctx.Deadline(); !ok {
		ctx, stop = context.WithTimeout(ctx, Wait)
	}
	t.Envelope.Timestamp = time.Now().UTC()
	p := &Pending{Envelope: t.Envelope, call: t, accepted: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer stop()
		p.run(ctx)
	}()
	return p, nil
}
