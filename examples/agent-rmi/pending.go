package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// An Outcome is how a call ended.
type Outcome struct {
	Envelope                 // as it came back
	RetVal   json.RawMessage // when Err is nil
	Err      error
}

// Decode returns Err if there is one, and otherwise decodes what was returned into out,
// unless that is nil.
func (o Outcome) Decode(out any) error {
	if o.Err != nil || out == nil {
		return o.Err
	}
	if err := json.Unmarshal(o.RetVal, out); err != nil {
		return fmt.Errorf("decode what agent %d has returned: %w", o.Routing[0], err)
	}
	return nil
}

// A Pending is a call whose result is awaited. It ends with its one final reply, or with
// its context.
type Pending struct {
	Envelope Envelope // as sent
	call     *Trigger
	accepted chan struct{} // closed with the first status
	once     sync.Once     // closes accepted
	done     chan struct{}
	outcome  Outcome // to be read when done is closed
}

// Done is closed when the outcome is there.
func (p *Pending) Done() <-chan struct{} { return p.done }

// Outcome waits for how the call ends.
func (p *Pending) Outcome() Outcome {
	<-p.done
	return p.outcome
}

// Result waits for what the method returns, and decodes it into out. Errors are those of
// [Stub.Call].
func (p *Pending) Result(out any) error { return p.Outcome().Decode(out) }

// Cancel asks the agent to stop, whether the method runs or waits in a queue. The call
// ends with [ErrCancelled] if the method heeds it, and otherwise as it would have.
func (p *Pending) Cancel(ctx context.Context) error {
	return p.call.stub.Caller.Cancel(ctx, p.call.stub.Agent, Cancellation{SN: p.Envelope.SN})
}

// run sees the call to its end.
func (p *Pending) run(ctx context.Context) {
	reply := p.ask(ctx, client.Mandatory())
	if isUnserved(reply.Err) {
		served, err := p.call.stub.Caller.versions(ctx, p.call.stub.Agent, p.call.stub.ClassName, p.call.request.Method)
		switch {
		case err != nil:
			reply.Err = err
		case len(served) == 0 && p.call.stub.TTL > 0, slices.Contains(served, p.Envelope.Version):
			reply = p.ask(ctx) // its agent may come yet, or has come meanwhile
		default:
			reply.Err = unserved(p.call.stub.Agent, p.call.command, served)
		}
	}
	p.outcome = p.call.stub.Caller.outcome(p.Envelope, reply)
	var why *Rejected
	if errors.As(p.outcome.Err, &why) && p.call.stub.OnStatus != nil {
		p.call.stub.OnStatus(Status{Status: RejectedWord, Reason: why.Reason})
	}
	if p.call.stub.OnResult != nil {
		p.call.stub.OnResult(p.outcome)
	}
	close(p.done)
}

// retries are more than relays make within any deadline.
const retries = 1000

// ask sends the request and waits for its answer, or until it has not been accepted in
// time.
func (p *Pending) ask(ctx context.Context, opts ...client.CallOption) *client.Reply {
	ctx, end := context.WithCancel(ctx)
	defer end()
	// The deadline ends it, and not the number of attempts: a relay may be away for a while.
	opts = append(opts, client.Tag(p.Envelope), client.OnProgress(p.hear), client.Retries(retries))
	asked := p.call.stub.Caller.bus.Go(ctx, p.call.stub.Agent, p.call.command, p.call.request, opts...)
	if p.call.stub.TTL > 0 {
		late := time.NewTimer(time.Until(p.Envelope.Timestamp.Add(p.call.stub.TTL)))
		defer late.Stop()
		select {
		case <-p.accepted:
		case <-asked.Done():
		case <-late.C:
			why := fmt.Sprintf("no agent has accepted %s within %s", p.call.command, p.call.stub.TTL)
			if err := p.Cancel(ctx); err != nil {
				why += "; one may do so yet: " + err.Error()
			}
			end()
			<-asked.Done() // nothing more is heard
			return &client.Reply{Twin: p.call.stub.Agent, Err: &Rejected{Reason: why}}
		}
	}
	return asked.Reply()
}

// hear is told what the agent says before its answer.
func (p *Pending) hear(said client.Progress) {
	p.once.Do(func() { close(p.accepted) })
	if p.call.stub.OnStatus == nil {
		return
	}
	p.call.stub.OnStatus(Status{Status: said.Status, Progress: Progress{Total: said.Total, Completed: said.Completed, Details: said.Details}})
}

// outcome is how a call ended of which there is a reply.
func (c *Caller) outcome(sent Envelope, reply *client.Reply) Outcome {
	o := Outcome{Envelope: sent, Err: c.outcomeError(reply.Err)}
	if reply.Tag != nil {
		o.Envelope = Envelope{} // what came, and nothing of what is remembered
		if err := json.Unmarshal(reply.Tag, &o.Envelope); err != nil && o.Err == nil {
			o.Err = fmt.Errorf("read the envelope of a reply: %w", err)
		}
	}
	o.Version, o.Routing, o.ReplyTo = sent.Version, [2]uint32{reply.Twin, c.ID}, 0
	if o.Err != nil {
		return o
	}
	var result Result
	if err := reply.Decode(&result); err != nil {
		o.Err = err
	}
	o.RetVal = result.RetVal
	return o
}
