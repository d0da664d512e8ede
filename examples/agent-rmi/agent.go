package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// An Agent serves methods of classes at its twin.
type Agent struct {
	ID     uint32 // the twin
	bus    *client.Client
	server *client.Server
	cancel *cancellations
}

// NewAgent returns an agent on the bus of a twin's machine. Expose its classes, then run
// it.
func NewAgent(bus *client.Client, id uint32, opts client.ServerOptions) *Agent {
	return &Agent{ID: id, bus: bus, server: client.NewServer(bus, opts), cancel: newCancellations(bus)}
}

// Methods are methods of a class, by name.
type Methods[Class any] map[string]func(object Class, ctx context.Context, call *Invocation) (any, error)

// Expose has an agent serve a class in a version: construct makes the object of each call,
// of what the caller gives to the constructor. Versions of a class may be exposed side by
// side.
//
//	Expose(agent, "Dog", "0.2", NewDog, Methods[*Dog]{"bark": (*Dog).Bark})
func Expose[Class any](a *Agent, class, version string, construct func(Arguments) (Class, error), methods Methods[Class]) {
	for name, method := range methods {
		a.server.HandleFunc(Command(class, name, version), func(ctx context.Context, r *client.Request) (any, error) {
			return a.invoke(ctx, version, r, func(ctx context.Context, call *Invocation) (any, error) {
				var cntr Arguments
				if call.Cntr != nil {
					cntr = Arguments(*call.Cntr)
				}
				object, err := construct(cntr)
				if err != nil {
					return nil, err
				}
				return method(object, ctx, call)
			})
		})
	}
}

// Run serves until ctx ends, and then until the methods that run have ended, or the
// server's grace has. What the agent has accepted and not done stays in Redis: this agent
// does it when it runs again, or another one of its twin.
func (a *Agent) Run(ctx context.Context) error {
	hearing, stop := context.WithCancel(context.WithoutCancel(ctx)) // methods that run to the end can be cancelled to the end
	heard := make(chan error, 1)
	go func() { heard <- a.cancel.listen(hearing) }()
	err := a.cancel.recall(ctx, a.ID)
	if err == nil {
		err = a.server.Run(ctx)
	}
	stop()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // it was told to end before it had begun
	}
	if err := errors.Join(err, <-heard); err != nil {
		return fmt.Errorf("run agent %d: %w", a.ID, err)
	}
	return nil
}

// An Invocation is one call of a method, as the agent sees it.
type Invocation struct {
	Envelope
	Request
	bus *client.Request
}

// Progress tells the caller how far the method is; details is any JSON, or nil. It does
// nothing when nobody listens. An error is Redis's, and no reason to stop.
func (c *Invocation) Progress(ctx context.Context, total, completed int64, details any) error {
	return c.bus.Progress(ctx, total, completed, details)
}

// newInvocation reads a request of the bus.
func (a *Agent) newInvocation(version string, r *client.Request) (*Invocation, error) {
	c := &Invocation{bus: r}
	if err := json.Unmarshal(r.Tag, &c.Envelope); err != nil {
		return nil, fmt.Errorf("it has no envelope: %w", err)
	}
	if err := r.Decode(&c.Request); err != nil {
		return nil, fmt.Errorf("it is no request: %w", err)
	}
	if c.SN == "" || Command(c.ClassName, c.Method, version) != r.Command {
		return nil, fmt.Errorf("it asks for %s, with the serial number %q", Command(c.ClassName, c.Method, version), c.SN)
	}
	c.Version, c.Routing = version, [2]uint32{r.Source, a.ID}
	if !r.Oneway {
		c.ReplyTo = r.Source
	}
	return c, nil
}

// isLate tells whether the call should have been accepted before.
func (c *Invocation) isLate() bool {
	return c.TTL > 0 && time.Since(c.Timestamp) > time.Duration(c.TTL)*time.Second
}

// invoke has a method do what a request asks for, and makes the answer of what it returns.
func (a *Agent) invoke(ctx context.Context, version string, r *client.Request, method func(context.Context, *Invocation) (any, error)) (any, error) {
	call, err := a.newInvocation(version, r)
	switch {
	case err != nil:
		return nil, &client.Error{Class: rejectedClass, Message: err.Error()}
	case call.isLate():
		return nil, &client.Error{Class: rejectedClass, Message: fmt.Sprintf("it should have been accepted within %d s", call.TTL)}
	}
	ctx, returned := a.cancel.begin(ctx, call)
	defer returned()
	if err := ctx.Err(); err != nil {
		return nil, failureOf(ctx, err) // it was cancelled while it waited
	}
	retval, err := method(ctx, call)
	if err != nil {
		return nil, failureOf(ctx, err)
	}
	raw, err := json.Marshal(retval)
	if err != nil {
		x := exceptionOf(fmt.Errorf("encode what %s returns: %w", r.Command, err))
		return nil, x.failure()
	}
	return Result{RetVal: raw}, nil
}

// failureOf is what the caller gets for the error of a method.
func failureOf(ctx context.Context, err error) error {
	var rejected *Rejected
	switch {
	case errors.Is(context.Cause(ctx), ErrCancelled):
		return &client.Error{Class: cancelledClass, Message: ErrCancelled.Error()}
	case errors.As(err, &rejected):
		return &client.Error{Class: rejectedClass, Message: rejected.Reason}
	}
	x := exceptionOf(err)
	return x.failure()
}
