package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Request is what a handler is asked.
type Request struct {
	Command  string
	Source   uint32    // the twin that asks
	UID      string    // the request's name, which no other of the same twin has: the same when it comes again
	Data     []byte    // as the app sent it
	Schema   string    // type of the data, if the app says
	Oneway   bool      // nobody gets the answer
	Time     time.Time // when this machine's relay got it, in whole seconds
	Deadline time.Time // by this machine's clock
	// Traceparent and Tracestate are the trace that the app has it belong to, as [Trace]
	// says, or "".
	Traceparent, Tracestate string
	// Tag is the app's own data, nil if there is none.
	Tag json.RawMessage

	in  *incoming
	now func() time.Time                                             // Redis's clock
	say func(ctx context.Context, list string, message []byte) error // pushes an interim reply

	mu    sync.Mutex
	seq   int64 // of the latest interim reply; guarded by mu
	ended bool  // the answer leaves; guarded by mu
}

type requestKey struct{}

// RequestFrom returns the request that ctx, which a handler was given, belongs to, and nil for any
// other context.
func RequestFrom(ctx context.Context) *Request {
	r, _ := ctx.Value(requestKey{}).(*Request)
	return r
}

func newRequest(in *incoming) (*Request, error) {
	data, err := base64.StdEncoding.DecodeString(in.data)
	if err != nil {
		return nil, fmt.Errorf("dat: %w", err)
	}
	return &Request{
		Command: in.command, Source: in.source, UID: in.uid, Data: data, Schema: in.schema,
		Oneway: in.ext.oneway, Time: time.Unix(in.now, 0), Deadline: in.deadline(),
		Traceparent: in.trace.parent, Tracestate: in.trace.state, Tag: in.ext.tag, in: in,
	}, nil
}

// Decode decodes the data, which is JSON, into v. A *[]byte or *json.RawMessage gets it as
// it is; a request without data leaves v as it was.
func (r *Request) Decode(v any) error { return decodeData(r.Data, v) }

// Progress tells the app how far the work is, in units of the service's own; details is any
// JSON, or nil. If the app does not want to know, it does nothing. An error is Redis's, and no reason to
// end the work.
func (r *Request) Progress(ctx context.Context, total, completed int64, details any) error {
	if !r.in.wantsProgress() {
		return nil
	}
	said := progressData{Total: total, Completed: completed}
	if details != nil {
		var err error
		if said.Details, err = json.Marshal(details); err != nil {
			return fmt.Errorf("encode the details of a progress: %w", err)
		}
	}
	return r.Status(ctx, statusProgress, said)
}

// Status is Progress in a word of the service's own, with data that is encoded as an
// answer is.
func (r *Request) Status(ctx context.Context, word string, v any) error {
	if word == "" {
		return errors.New("an interim reply needs a word")
	}
	if !r.in.wantsProgress() {
		return nil
	}
	data, err := encodeData(v)
	if err != nil {
		return fmt.Errorf("encode an interim reply: %w", err)
	}
	r.mu.Lock() // until it is pushed: they are in order, and none comes after the answer
	defer r.mu.Unlock()
	if r.ended {
		return nil
	}
	r.seq++
	message := r.in.appendReply(nil, response{now: r.now().Unix(), data: data, status: word, seq: r.seq})
	if err := r.say(ctx, r.in.ext.progress, message); err != nil {
		return fmt.Errorf("push interim reply: %w", err)
	}
	return nil
}

// answer is the message that ends the request.
func (r *Request) answer(data []byte, failure *Error) []byte {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	if failure != nil {
		data = nil
	}
	return r.in.appendReply(nil, response{now: r.now().Unix(), data: data, failure: failure})
}
