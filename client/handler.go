package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A Handler does what a request asks for. What it returns is the answer: JSON of it, or
// a []byte or json.RawMessage as it is. An error is answered as its text, and an
// [*Error] in it with its code, class and data.
//
// ctx ends at the request's deadline, after which nobody wants the answer, when the app cancels it, with the
// cause [ErrCancelled], and when the server must stop. A request may come again, after a crash of this service or when it was stopped
// for longer than its lease.
type Handler func(ctx context.Context, r *Request) (any, error)

// A Middleware puts something around handlers.
type Middleware func(next Handler) Handler

// A Mux is where handlers are registered: a [*Server], or a [*FakeTwin] in tests.
type Mux interface {
	// HandleFunc registers the handler of a command. It panics when that has one, or
	// when the name is none that a service can have.
	HandleFunc(cmd string, h Handler)
}

// Handle registers a handler that is given the request's data decoded into an In. Data
// that is none is answered with an [*Error] of class bad_request. [RequestFrom] tells the
// rest of the request. A second version of a command is one more command, such as
// `calculator.add@2`.
func Handle[In, Out any](m Mux, cmd string, h func(ctx context.Context, in In) (Out, error)) {
	m.HandleFunc(cmd, func(ctx context.Context, r *Request) (any, error) {
		var in In
		if err := r.Decode(&in); err != nil {
			return nil, &Error{Class: "bad_request", Message: fmt.Sprintf("the data is not what %s takes: %v", cmd, err)}
		}
		return h(ctx, in)
	})
}

// A registry is handlers by command.
type registry map[string]Handler

func (r registry) add(cmd string, h Handler) {
	switch {
	case cmd == "" || len(cmd) > msgbus.MaxCommandLength:
		panic(fmt.Sprintf("client: a command has 1 to %d bytes, not %d", msgbus.MaxCommandLength, len(cmd)))
	case msgbus.ReservedCommand(cmd):
		panic(fmt.Sprintf("client: command %q is the relay's own", cmd))
	case h == nil:
		panic(fmt.Sprintf("client: command %q has no handler", cmd))
	case r[cmd] != nil:
		panic(fmt.Sprintf("client: command %q has a handler already", cmd))
	}
	r[cmd] = h
}

// wrap returns h with the middleware around it, the first one outermost.
func wrap(h Handler, middleware []Middleware) Handler {
	for i := len(middleware) - 1; i >= 0; i-- {
		h = middleware[i](h)
	}
	return h
}

// handle has a handler answer a request. A panic costs the process nothing: it is told as
// a *msgbus.Panic.
func handle(ctx context.Context, h Handler, r *Request) (data []byte, err error) {
	err = msgbus.Guard(func() error {
		out, err := h(context.WithValue(ctx, requestKey{}, r), r)
		if err != nil {
			return err
		}
		if data, err = encodeData(out); err != nil {
			return fmt.Errorf("encode the answer: %w", err)
		}
		return nil
	})
	return data, err
}

// failureOfHandler is what an app is told of what handle returned.
func failureOfHandler(err error) *Error {
	var panicked *msgbus.Panic
	if errors.As(err, &panicked) {
		return &Error{Class: "panic", Message: "the service failed at this request"}
	}
	return errorOf(err)
}
