package client

import (
	"context"
	"encoding/json"
	"time"
)

// A CallOption says how a request is to be made, of [Client.Call] and the like.
type CallOption func(*callOptions)

type callOptions struct {
	expire    time.Duration // 0: by the context, or the default
	standard  time.Duration // life without expire or a deadline
	retries   int
	tag       json.RawMessage
	mandatory bool
	oneway    bool
	progress  func(Progress)
	schema    string
	trace     traceContext
	group     string // whose twins are asked
	topic     string // of an event
	durable   bool
	retain    bool
	err       error // of an option
}

// Defaults of requests that are to be answered, and of those that are not.
const (
	defaultLife       = time.Minute
	defaultRetries    = 3
	defaultOnewayLife = time.Hour
	// As often as it takes: within an hour no relay tries as often.
	defaultOnewayRetries = 1000
)

func optionsOf(opts []CallOption) callOptions {
	o := callOptions{standard: defaultLife, retries: defaultRetries}
	o.apply(opts)
	return o
}

func onewayOptions(opts []CallOption) callOptions {
	o := callOptions{standard: defaultOnewayLife, retries: defaultOnewayRetries}
	o.apply(opts)
	o.oneway, o.progress = true, nil
	return o
}

func (o *callOptions) apply(opts []CallOption) {
	for _, opt := range opts {
		opt(o)
	}
}

// life is how long the request may take. The context of one that is one-way bounds only
// how long its caller waits for Redis.
func (o *callOptions) life(ctx context.Context, now time.Time) time.Duration {
	if o.expire > 0 {
		return o.expire
	}
	if deadline, ok := ctx.Deadline(); ok && !o.oneway {
		return deadline.Sub(now)
	}
	return o.standard
}

// Expire says how long the request may live, rounded up to seconds, whatever the
// context's deadline is. Without it a call lives until that deadline or, if there is
// none, for a minute; a notification for an hour. The relay cuts it to its --max-exp (seven days).
func Expire(d time.Duration) CallOption {
	return func(o *callOptions) { o.expire = d }
}

// Retries says how often the relay tries again when the twin cannot be joined, which it
// does after 1 s, 2 s, 4 s and so on up to 20 s. Without it: 3 times, and with a
// notification until its hour is over. When they are used up, the answer is an [*Error] of reason
// retries_exhausted.
func Retries(n int) CallOption {
	return func(o *callOptions) { o.retries = max(n, 0) }
}

// Tag adds data of the app's own, JSON of 4 KiB at most. It comes back with each answer,
// and the service sees it.
func Tag(v any) CallOption {
	return func(o *callOptions) { o.tag, o.err = encodeTag(v) }
}

// Mandatory has the twin's relay answer at once with an [*Error] of reason no_service
// when nobody serves the command, instead of waiting until somebody does.
func Mandatory() CallOption {
	return func(o *callOptions) { o.mandatory = true }
}

// OnProgress has f told what the service says before its answer. f is called in the
// goroutine of the call (of [Client.Go], in one of its own), one at a time, in the order
// in which the service said it, and never after the answer. It may be told a little late, and after a crash
// of the service again from the beginning. Of more than 1,000 that wait for f the oldest are dropped.
func OnProgress(f func(Progress)) CallOption {
	return func(o *callOptions) { o.progress = f }
}

// Schema says what type the data is of, such as application/json. It is carried to the
// service as it is.
func Schema(s string) CallOption {
	return func(o *callOptions) { o.schema = s }
}

// Trace has the request belong to a trace: traceparent and tracestate as W3C Trace Context
// writes them in HTTP headers, of which the second may be "". The service gets them as they
// are, and this machine's relay may tell a collector of the request. What is no traceparent is
// carried, too, and means nothing.
func Trace(traceparent, tracestate string) CallOption {
	return func(o *callOptions) { o.trace = traceContext{traceparent, tracestate} }
}

// A traceContext is two members of a message that the bus carries.
type traceContext struct{ parent, state string }
