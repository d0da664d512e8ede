package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// RequestTimeout is how long a question waits for its answer, as the document's bus has it.
const RequestTimeout = time.Second

// Options are how a [Bus] is joined.
type Options struct {
	Redis   string        // of this machine, host:port
	Twin    uint32        // this machine
	Others  []uint32      // the other machines of the system
	Timeout time.Duration // of questions; 0: RequestTimeout
	Log     *slog.Logger  // is told what nobody else is; nil: nobody
}

// A Bus is what the roles of one machine speak over.
type Bus struct {
	client  *client.Client
	twin    uint32
	others  []uint32
	timeout time.Duration
	log     *slog.Logger
}

// OpenBus joins the bus. An error is about the options.
func OpenBus(o Options) (*Bus, error) {
	if o.Timeout <= 0 {
		o.Timeout = RequestTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c, err := client.Open(client.Options{Redis: o.Redis, Log: o.Log})
	if err != nil {
		return nil, fmt.Errorf("open the bus of twin %d: %w", o.Twin, err)
	}
	return &Bus{client: c, twin: o.Twin, others: o.Others, timeout: o.Timeout, log: o.Log}, nil
}

// Close leaves the bus. Its roles must have ended.
func (b *Bus) Close() error { return b.client.Close() }

// twins are all machines.
func (b *Bus) twins() []uint32 { return append([]uint32{b.twin}, b.others...) }

// schemaOf is the name of a message's type, which goes with it: who gets one of another type
// refuses it.
func schemaOf(m Message) string { return reflect.TypeOf(m).Name() }

// Publish tells whoever listens, on all machines. words are those of the key's brackets.
// The error of a message that is not as it must be says so; others are Redis's.
func (b *Bus) Publish(ctx context.Context, e Event, m Message, words ...string) error {
	topic := e.Topic(words...)
	err := m.Validate()
	if err == nil {
		err = b.client.Publish(ctx, topic, m, optionsOf(e, m)...)
	}
	if err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	return nil
}

// PublishCounted is Publish for who must know: it waits until each machine has the event, or
// for as long as for an answer, after which the event is lost to those that have it not. It
// returns how many listeners it was given to, where those of one client and key count as one,
// with an error that tells which machine has it not.
func (b *Bus) PublishCounted(ctx context.Context, e Event, m Message, words ...string) (listeners int, err error) {
	topic := e.Topic(words...)
	if err = m.Validate(); err == nil {
		listeners, err = b.client.PublishCounted(ctx, topic, m, append(optionsOf(e, m), client.Expire(b.timeout))...)
	}
	if err != nil {
		return listeners, fmt.Errorf("publish %s: %w", topic, err)
	}
	return listeners, nil
}

func optionsOf(e Event, m Message) []client.CallOption {
	options := []client.CallOption{client.Schema(schemaOf(m))}
	if e.Durable {
		options = append(options, client.Durable())
	}
	return options
}

// request asks whoever serves a method, on all machines, and the first answer wins: who asks
// need not know where a service is. A machine without the service says so at once.
//
// Errors: a [*client.Error] of class ValidationError, NotFoundError or ConflictError is the
// service's; one of reason no_service tells that nobody serves the method; and
// [context.DeadlineExceeded] that nobody has answered in time. Then the service may have
// done what was asked.
func request[Out any](ctx context.Context, b *Bus, m Method, in Message, words ...string) (Out, error) {
	var none Out
	command := m.Command(words...)
	if err := in.Validate(); err != nil {
		return none, fmt.Errorf("request %s: %w", command, err)
	}
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	var failed error
	for reply := range b.client.CallAll(ctx, b.twins(), command, in, client.Schema(schemaOf(in)), client.Mandatory()) {
		if reply.Err != nil && !isOfService(reply.Err) {
			if failed == nil || IsNoService(failed) { // which tells the least
				failed = reply.Err
			}
			continue
		}
		out, err := valueOf[Out](reply)
		if err != nil {
			return none, fmt.Errorf("request %s: %w", command, err)
		}
		return out, nil
	}
	return none, fmt.Errorf("request %s: %w", command, failed)
}

// valueOf is the value of the result that a service has answered.
func valueOf[Out any](reply *client.Reply) (Out, error) {
	var result Result[*Out]
	if err := reply.Decode(&result); err != nil {
		return *new(Out), err
	}
	if result.Value == nil {
		return *new(Out), errors.New("the answer is no result: it has no value")
	}
	return *result.Value, nil
}

// isOfService tells whether an error is a service's answer, and not one of the bus.
func isOfService(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Reason() == ""
}

// IsNoService tells whether an error says that nobody serves the method.
func IsNoService(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Reason() == "no_service"
}

// Classes of the errors that services answer.
const (
	ValidationError = "ValidationError"
	NotFoundError   = "NotFoundError"
	ConflictError   = "ConflictError"
)

func notFound(format string, args ...any) error {
	return &client.Error{Class: NotFoundError, Message: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &client.Error{Class: ConflictError, Message: fmt.Sprintf(format, args...)}
}

// newServer is where a role registers its methods, to run it then.
func (b *Bus) newServer() *client.Server { return client.NewServer(b.client, client.ServerOptions{}) }

// handle registers a method. words are those of the key's brackets.
func handle[In Message, Out any](s *client.Server, m Method, f func(context.Context, In) (Out, error), words ...string) {
	s.HandleFunc(m.Command(words...), func(ctx context.Context, r *client.Request) (any, error) {
		var in In
		if err := check(r.Schema, r.Decode, &in); err != nil {
			return nil, &client.Error{Class: ValidationError, Message: err.Error()}
		}
		value, err := f(ctx, in)
		if err != nil {
			return nil, err
		}
		return Result[Out]{value}, nil
	})
}

// check decodes a message that must be an M. Programs that do not say what they send are
// believed if it fits.
func check[M Message](schema string, decode func(any) error, m *M) error {
	if want := schemaOf(*m); schema != "" && schema != want {
		return fmt.Errorf("it is a %s and not a %s", schema, want)
	}
	if err := decode(m); err != nil {
		return err
	}
	return (*m).Validate()
}

// awaitMethods waits until each method is served somewhere, so that a story can begin.
func (b *Bus) awaitMethods(ctx context.Context, commands ...string) error {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		served, err := served(ctx, b, b.twins()...)
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(commands), func(c string) bool { return slices.Contains(served, c) })
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for services of %q: %w", missing, ctx.Err())
		}
	}
}

// served names what is served on any of some machines.
func served(ctx context.Context, b *Bus, twins ...uint32) (commands []string, err error) {
	for reply := range b.client.CallAll(ctx, twins, "msgbus.commands", nil) {
		var told struct {
			Commands []struct {
				Name string `json:"name"`
			} `json:"commands"`
		}
		if err := reply.Decode(&told); err != nil {
			return nil, fmt.Errorf("ask twin %d what it serves: %w", reply.Twin, err)
		}
		for _, c := range told.Commands {
			commands = append(commands, c.Name)
		}
	}
	return commands, nil
}
