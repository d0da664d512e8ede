package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/msgbusd/msgbusd/msgbus"
)

// ErrCancelled is the cause of a handler's context that ends because its app does not want
// the answer any more.
var ErrCancelled = errors.New("the app has cancelled the request")

// classCancelled is the class of the error that a cancelled request is answered with.
const classCancelled = busClass + "cancelled"

// A cancellation is the data of a request to msgbus.cancel.
type cancellation struct {
	Command string          `json:"cmd"`
	ID      string          `json:"id,omitempty"`
	Tag     json.RawMessage `json:"tag,omitempty"`
}

// Cancel asks the service to stop. The request still ends as any other does: with an
// [*Error] of class msgbus.cancelled if the service heeds it in time, and otherwise with its answer.
// An error of Cancel tells that it could not be sent.
func (p *Pending) Cancel(ctx context.Context) error {
	if p.exchange == nil {
		return nil // it was never sent
	}
	return p.exchange.c.cancel(ctx, p.twin, cancellation{Command: p.cmd, ID: p.exchange.id})
}

// CancelTagged asks the services of a twin to stop what apps of this machine have asked for
// with a command and a [Tag] that has at least the members of tag, each with an equal value;
// a tag that is no object must be equal.
func (c *Client) CancelTagged(ctx context.Context, twin uint32, cmd string, tag any) error {
	raw, err := encodeTag(tag)
	if err != nil {
		return err
	}
	return c.cancel(ctx, twin, cancellation{Command: cmd, Tag: raw})
}

func (c *Client) cancel(ctx context.Context, twin uint32, what cancellation) error {
	if err := c.Notify(ctx, twin, msgbus.CancelCommand, what); err != nil {
		return fmt.Errorf("cancel %s: %w", what.Command, err)
	}
	return nil
}

// fits tells whether a request is what is cancelled, by an event of a twin.
func (what *cancellation) fits(source uint32, r *Request) bool {
	switch {
	case r.Source != source || r.Command != what.Command:
		return false
	case what.ID != "":
		return r.in.ext.id == what.ID
	default:
		return what.Tag != nil && contains(r.Tag, what.Tag)
	}
}

// contains tells whether a value has at least what another one has.
func contains(whole, part json.RawMessage) bool {
	var w, p any
	if json.Unmarshal(whole, &w) != nil || json.Unmarshal(part, &p) != nil {
		return false
	}
	return hasAll(w, p)
}

func hasAll(whole, part any) bool {
	p, isObject := part.(map[string]any)
	w, areBoth := whole.(map[string]any)
	if !isObject || !areBoth {
		a, errA := json.Marshal(whole)
		b, errB := json.Marshal(part)
		return errA == nil && errB == nil && string(a) == string(b)
	}
	for name, value := range p {
		if has, there := w[name]; !there || !hasAll(has, value) {
			return false
		}
	}
	return true
}
