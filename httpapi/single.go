package httpapi

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Version 1: a message a POST.

// sendSingly posts messages as version 1 does, each signed on its own, a few at a
// time.
func (c *Client) sendSingly(ctx context.Context, to destination, messages []msgbus.Outgoing) []error {
	errs := make([]error, len(messages))
	var mu sync.Mutex
	var failed error // the first *msgbus.Failure; guarded by mu
	var group errgroup.Group
	group.SetLimit(c.paces.of(to.twin))
	for i, o := range messages {
		group.Go(func() error {
			errs[i] = msgbus.Guard(func() error {
				release, err := c.reserve(ctx, to, len(o.Message.AppendWire(nil)))
				if err != nil {
					return err
				}
				defer release()
				mu.Lock()
				stop := failed
				mu.Unlock()
				if stop != nil {
					return stop
				}
				return c.post(ctx, to, o)
			})
			if failureOf(errs[i:i+1]) != nil {
				mu.Lock()
				failed = errs[i]
				mu.Unlock()
			}
			return nil
		})
	}
	_ = group.Wait() // outcomes are in errs
	c.paces.note(to.twin, errs)
	return errs
}

// signed makes a message of what its peer accepts at this moment: a message of an
// older `now` is refused for good.
func (c *Client) signed(o msgbus.Outgoing) (body []byte) {
	o.Message.Now = c.opts.Now().Unix()
	if o.Kind == msgbus.ReplyParcel {
		pin(o.Message)
	}
	challenge := o.Message.Challenge()
	o.Message.Signature = hex.EncodeToString(c.signer.Sign(challenge[:]))
	return o.Message.AppendWire(nil)
}

// pin makes a reply one that only its twin can read as a message to itself, and
// an error if it cannot be made one: empty data can always be pinned.
func pin(reply *msgbus.Message) {
	if reply.PinReply() {
		return
	}
	reply.Data, reply.Error = "", "the service's answer cannot be signed so that only its twin can read it"
	reply.PinReply()
}

// post signs and sends one message and reads what became of it.
func (c *Client) post(ctx context.Context, to destination, o msgbus.Outgoing) error {
	path := "/zbus-remote"
	if o.Kind == msgbus.ReplyParcel {
		path = "/zbus-reply"
	}
	answer, err := c.exchange(ctx, to, path, http.Header{"Content-Type": {"application/json"}}, c.signed(o))
	if err != nil {
		return err
	}
	if answer.code == http.StatusForbidden && answer.reason() == msgbus.VersionRequired {
		c.peers.greeted(to.twin)
		return &msgbus.Failure{Reason: msgbus.VersionRequired, Detail: fmt.Sprintf("twin %d takes transfers only, and is asked for them next: %s", to.twin, answer.text()), Rest: time.Second}
	}
	return outcome(to.twin, answer)
}

// outcome reads an answer.
func outcome(twin uint32, a *answer) error {
	code := a.code
	switch {
	case code/100 == 2:
		return nil
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return busy(twin, a)
	case code == http.StatusBadRequest && wantsTLS(a.body):
		return speaksTLS(twin)
	case code == http.StatusBadRequest, code == http.StatusForbidden, code == http.StatusConflict,
		code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return msgbus.Refuse(msgbus.RefusedByPeer, "twin %d refused the message: %s", twin, a.text())
	default:
		return &msgbus.Failure{Reason: msgbus.PeerFailed, Detail: fmt.Sprintf("twin %d could not take the message: %s", twin, a.text())}
	}
}
