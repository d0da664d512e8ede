package client

import (
	"context"
	"iter"
)

// Call asks a twin to do cmd with in, and decodes its answer into out, as
// [Reply.Decode] does. A nil out drops the answer's data. in goes as JSON, but a []byte
// or [encoding/json.RawMessage] goes as it is; nil is the JSON null.
//
// The request lives until ctx's deadline, or for a minute when it has none; [Expire]
// says otherwise. When ctx ends first, Call returns its error at once. The service may
// have done the work then, or still do it.
//
// Errors: an [*Error] is what the service or the bus answered; [ErrNoAnswer], ten seconds
// after the deadline, tells that not even the bus did. An error that begins with "push
// request" is Redis's: it has not taken the request, unless the connection broke while it
// had it, which cannot be told. Whether to ask again is for the app to decide.
func (c *Client) Call(ctx context.Context, twin uint32, cmd string, in, out any, opts ...CallOption) error {
	x, err := c.begin(ctx, []uint32{twin}, cmd, in, optionsOf(opts))
	if err != nil {
		return err
	}
	defer x.end()
	reply, _ := x.next(ctx)
	return reply.Decode(out)
}

// Call is [Client.Call] that returns what it was answered.
//
//	sum, err := client.Call[int](ctx, c, 1002, "calculator.add", []int{20, 22})
func Call[Out any](ctx context.Context, c *Client, twin uint32, cmd string, in any, opts ...CallOption) (Out, error) {
	var out Out
	err := c.Call(ctx, twin, cmd, in, &out, opts...)
	return out, err
}

// CallAll asks twins the same, in one request, and yields their replies as they come:
// exactly one for each twin, which is an error for those that cannot be asked or do not answer.
// A twin that is named twice is asked once. Nothing is sent before the loop begins, and each
// loop over the result asks anew. A loop may be left early: what comes later is dropped.
func (c *Client) CallAll(ctx context.Context, twins []uint32, cmd string, in any, opts ...CallOption) iter.Seq[*Reply] {
	return func(yield func(*Reply) bool) {
		if len(twins) == 0 {
			return
		}
		x, err := c.begin(ctx, twins, cmd, in, optionsOf(opts))
		if err != nil {
			for _, twin := range unique(twins) {
				if !yield(&Reply{Twin: twin, Err: err}) {
					return
				}
			}
			return
		}
		defer x.end()
		x.all(ctx)(yield)
	}
}

// Go asks as [Client.Call] does, and does not wait: requests leave in the order of the
// calls. ctx bounds the wait for the answer.
func (c *Client) Go(ctx context.Context, twin uint32, cmd string, in any, opts ...CallOption) *Pending {
	p := &Pending{done: make(chan struct{}), twin: twin, cmd: cmd}
	x, err := c.begin(ctx, []uint32{twin}, cmd, in, optionsOf(opts))
	if err != nil {
		p.reply = &Reply{Twin: twin, Err: err}
		close(p.done)
		return p
	}
	p.exchange = x
	go func() {
		defer close(p.done)
		defer x.end()
		p.reply, _ = x.next(ctx)
	}()
	return p
}

// A Pending is a request of [Client.Go]. It ends with its answer, with the end of its context, or with the
// client.
type Pending struct {
	twin     uint32
	cmd      string
	exchange *exchange // nil when nothing was sent
	done     chan struct{}
	reply    *Reply // to be read when done is closed
}

// Done is closed when the reply is there.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Reply waits for the reply.
func (p *Pending) Reply() *Reply {
	<-p.done
	return p.reply
}

// Notify has a twin do cmd with in, and wants no answer. It returns when Redis has the
// request; ctx bounds only that. The relay delivers it once, within an hour, and tries as often as
// that takes; [Expire] and [Retries] say otherwise. What cannot be delivered is among the
// dead letters of this machine's relay (msgbusd dead).
//
// An error of ctx, and one of a connection that broke, may come although Redis has it.
func (c *Client) Notify(ctx context.Context, twin uint32, cmd string, in any, opts ...CallOption) error {
	return c.NotifyAll(ctx, []uint32{twin}, cmd, in, opts...)
}

// NotifyAll is [Client.Notify] for many twins, in one request.
func (c *Client) NotifyAll(ctx context.Context, twins []uint32, cmd string, in any, opts ...CallOption) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// The relay does not look at ret. One that does not know one-way requests does, and
	// refuses those without.
	m, _, err := c.request(ctx, twins, cmd, in, onewayOptions(opts))
	if err != nil {
		return err
	}
	return c.push(ctx, m)
}

// push returns when Redis has a request that nothing comes back for.
func (c *Client) push(ctx context.Context, m *outgoing) error {
	pushed := make(chan error, 1)
	p := &parcel{raw: string(m.append(nil)), done: func(err error) { pushed <- err }}
	c.out.put(p)
	select {
	case err := <-pushed:
		return err
	case <-ctx.Done():
		c.out.withdraw(p)
		return ctx.Err()
	}
}
