package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/msgbusd/msgbusd/msgbus"
)

// FakeSource is the twin that asks, to the handlers of a [Fake].
const FakeSource uint32 = 1

// A Fake is a bus in memory, for the tests of an app: its Client is a real one, whose
// requests go to handlers of the test, by way of the same messages as through Redis.
//
//	bus := client.NewFake()
//	defer bus.Close()
//	client.Handle(bus.Twin(1002), "calculator.add", func(ctx context.Context, in []int) (int, error) { return 42, nil })
//	err := appUnderTest(bus.Client)
//
// What is asked of a twin that the test has not made is answered with the bus's error
// twin_not_found, and a command without a handler with no_service, at once. Errors of the bus come from a
// handler that returns an [*Error] with their class, such as `msgbus.expired`. Messages are
// lost by a handler that does not return before its context has ended.
type Fake struct {
	*Client
	link *fakeLink
}

// NewFake returns a bus without twins. Close ends it, and the contexts of its handlers.
func NewFake() *Fake {
	f := &Fake{Client: newClient(Options{}), link: &fakeLink{twins: make(map[uint32]registry), came: make(chan struct{}, 1)}}
	f.link.work, f.link.end = context.WithCancel(context.Background())
	f.connect(f.link, Options{})
	return f
}

// Twin returns the twin of a number, to register handlers at. From the first time on
// there is one.
func (f *Fake) Twin(id uint32) *FakeTwin {
	f.link.mu.Lock()
	defer f.link.mu.Unlock()
	if f.link.twins[id] == nil {
		f.link.twins[id] = make(registry)
	}
	return &FakeTwin{link: f.link, id: id}
}

// Requests returns all that the twins were asked, in the order in which it was sent: the
// twin that was asked, and what.
func (f *Fake) Requests() []FakeRequest {
	f.link.mu.Lock()
	defer f.link.mu.Unlock()
	return slices.Clone(f.link.requests)
}

// A FakeRequest is what one twin was asked.
type FakeRequest struct {
	Twin uint32
	*Request
}

// A FakeTwin is a [Mux] of a [Fake].
type FakeTwin struct {
	link *fakeLink
	id   uint32
}

// HandleFunc registers the handler of a command, as that of a [Server] does.
func (t *FakeTwin) HandleFunc(cmd string, h Handler) {
	t.link.mu.Lock()
	defer t.link.mu.Unlock()
	t.link.twins[t.id].add(cmd, h)
}

// A fakeLink hands requests to handlers.
type fakeLink struct {
	work    context.Context // of all handlers
	end     context.CancelFunc
	working sync.WaitGroup
	came    chan struct{} // of capacity 1: something has come

	mu       sync.Mutex
	twins    map[uint32]registry // guarded by mu
	requests []FakeRequest       // guarded by mu
	replies  []string            // guarded by mu
}

func (l *fakeLink) push(_ context.Context, requests []string) error {
	for _, raw := range requests {
		in, err := parseRequest([]byte(raw))
		if err != nil {
			return err
		}
		for _, twin := range in.destinations {
			if err := l.ask(twin, *in); err != nil {
				return err
			}
		}
	}
	return nil
}

// ask does what two relays do with a request to a twin.
func (l *fakeLink) ask(twin uint32, in incoming) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.work.Err() != nil {
		return ErrClosed
	}
	in.uid = msgbus.FormatUID(twin, uint64(len(l.requests)+1))
	in.source, in.destinations = FakeSource, []uint32{twin}
	in.members = slices.Clone(in.members)
	for i, m := range in.members {
		if m.name == "uid" {
			in.members[i].value = jsontext.Value(fmt.Appendf(nil, "%q", in.uid))
		}
	}
	r, err := newRequest(&in)
	if err != nil {
		return err
	}
	r.now = time.Now
	r.say = func(_ context.Context, _ string, message []byte) error {
		l.bring(message)
		return nil
	}
	l.requests = append(l.requests, FakeRequest{twin, r})
	handlers, known := l.twins[twin]
	h := handlers[in.command]
	l.working.Go(func() { l.answer(r, l.handle(known, h, r)) })
	return nil
}

// An outcome is what handle returned.
type outcome struct {
	data    []byte
	failure *Error
}

func (l *fakeLink) handle(known bool, h Handler, r *Request) outcome {
	switch {
	case !known:
		return outcome{failure: busError(msgbus.TwinNotFound, "destination not found")}
	case h == nil:
		return outcome{failure: busError("no_service", fmt.Sprintf("nobody serves the command %q", r.Command))}
	}
	ctx, cancel := context.WithDeadline(l.work, r.Deadline)
	defer cancel()
	for _, word := range []string{statusAccepted, statusStarted} {
		_ = r.Status(ctx, word, []byte(nil))
	}
	data, err := handle(ctx, h, r)
	var bus *Error
	switch {
	case ctx.Err() != nil:
		return outcome{failure: busError(msgbus.Expired, fmt.Sprintf("request timeout (expiration reached, %d)", r.in.exp))}
	case errors.As(err, &bus) && bus.Reason() != "":
		return outcome{failure: bus}
	case err != nil:
		return outcome{failure: failureOfHandler(err)}
	}
	return outcome{data: data}
}

func busError(reason msgbus.Reason, message string) *Error {
	return &Error{Class: busClass + string(reason), Message: message}
}

func (l *fakeLink) answer(r *Request, o outcome) {
	if !r.Oneway {
		l.bring(r.answer(o.data, o.failure))
	}
}

func (l *fakeLink) bring(message []byte) {
	l.mu.Lock()
	l.replies = append(l.replies, string(message))
	l.mu.Unlock()
	select {
	case l.came <- struct{}{}:
	default: // it is said already
	}
}

func (l *fakeLink) pull() (replies []string, err error) {
	timer := time.NewTimer(pullBlock)
	defer timer.Stop()
	select {
	case <-l.came:
	case <-l.work.Done():
	case <-timer.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	replies, l.replies = l.replies, nil
	return replies, nil
}

func (l *fakeLink) settle() {}

func (l *fakeLink) stopReading() error {
	l.end()
	return nil
}

func (l *fakeLink) close() error {
	l.working.Wait()
	return nil
}
