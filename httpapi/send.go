package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
)

// Version 2: many messages a POST, in transfers.

const (
	// mostInTransfer is how many messages go together, as many as a lane hands over
	// at once; fewer to a peer that was too slow for as many.
	mostInTransfer = 128
	// mostTransferBytes is when a transfer is full. A message that is larger goes
	// alone.
	mostTransferBytes = 1 << 20
)

var (
	errUnknownKey = errors.New("the peer wants it sealed with the key that it has now")
	errTooMuch    = errors.New("the transfer is too large for the peer")
)

// sendTransfers sends messages in their order, one transfer after another.
func (c *Client) sendTransfers(ctx context.Context, to destination, messages []msgbus.Outgoing) []error {
	errs := make([]error, len(messages))
	most := c.batches.of(to.twin)
	for next := 0; next < len(messages); {
		l := c.load(messages[next:], errs[next:], most)
		outcomes, err := c.transfer(ctx, to, l)
		if errors.Is(err, errTooMuch) && len(l.positions) > 1 {
			most = len(l.positions) / 2
			continue
		}
		for i, position := range l.positions {
			if errs[next+position] = err; err == nil {
				errs[next+position] = outcomes[i]
			}
		}
		next += l.seen
		if f := (*msgbus.Failure)(nil); errors.As(err, &f) {
			copy(errs[next:], forAll(len(messages)-next, err))
			break
		}
	}
	c.batches.note(to.twin, errs)
	return errs
}

// A load is what goes in one transfer.
type load struct {
	body      []byte
	epoch     string // of its requests
	positions []int  // of its messages
	seen      int    // how many messages it was chosen from
}

// load takes messages as they come, until the next one is of another epoch or
// too many. One that makes this side panic is left out, with its error noted.
func (c *Client) load(messages []msgbus.Outgoing, errs []error, most int) *load {
	l := &load{epoch: transfer.None}
	now := c.opts.Now().Unix()
	for i, o := range messages {
		if len(l.positions) == most {
			break
		}
		body := l.body
		err := msgbus.Guard(func() error {
			o.Message.Now, o.Message.Signature = now, ""
			body = transfer.AppendMessage(l.body, o)
			return nil
		})
		if err != nil {
			errs[i] = err
			l.seen++
			continue
		}
		if len(l.positions) > 0 && (len(body) > mostTransferBytes || !l.fits(o)) {
			break
		}
		if o.Kind == msgbus.RequestParcel {
			l.epoch = o.Message.Epoch
		}
		l.body = body
		l.positions = append(l.positions, i)
		l.seen++
	}
	return l
}

// fits tells whether a message may be in the same transfer: its requests are of
// one epoch.
func (l *load) fits(o msgbus.Outgoing) bool {
	return o.Kind == msgbus.ReplyParcel || l.epoch == transfer.None || l.epoch == o.Message.Epoch
}

// transfer sends one load and tells what became of each message in it, or why
// nothing is known to have been taken.
func (c *Client) transfer(ctx context.Context, to destination, l *load) ([]error, error) {
	if len(l.positions) == 0 {
		return nil, nil
	}
	release, err := c.reserve(ctx, to, len(l.body))
	if err != nil {
		return nil, err
	}
	defer release()
	for again := false; ; again = true {
		offer, err := c.offer(ctx, to)
		if err != nil {
			return nil, err
		}
		a, err := c.postTransfer(ctx, to, l, offer)
		if err != nil {
			return nil, err
		}
		outcomes, err := c.judge(ctx, to, a, l)
		if !errors.Is(err, errUnknownKey) {
			return outcomes, err
		}
		if again {
			return nil, &msgbus.Failure{Reason: msgbus.UnknownKey, Detail: fmt.Sprintf("twin %d does not know the key that it has just offered", to.twin)}
		}
	}
}

// offer returns what to seal for a peer with, nil if it has no key. An offer
// that has run out is renewed before anything is sent.
func (c *Client) offer(ctx context.Context, to destination) (*transfer.Offer, error) {
	current := func(o *transfer.Offer) bool { return o != nil && o.Until > c.opts.Now().Unix() }
	known, err := c.peers.of(ctx, to.twin)
	if err != nil {
		return nil, err
	}
	if known.version == version2 && (current(known.offer) || known.offer == nil && !c.opts.RequireEncryption) {
		return known.offer, nil
	}
	known, err = c.greet(ctx, to, known)
	switch {
	case err != nil:
		return nil, err
	case known.version != version2:
		return nil, noLonger(to.twin)
	case current(known.offer):
		return known.offer, nil
	case c.opts.RequireEncryption:
		return nil, &msgbus.Failure{Reason: msgbus.EncryptionRequired, Detail: fmt.Sprintf("twin %d offers no key to seal with, and this relay sends nothing unsealed (--require-encryption)", to.twin)}
	case known.offer != nil:
		return nil, &msgbus.Failure{Reason: msgbus.UnknownKey, Detail: fmt.Sprintf("twin %d offers a key whose time has passed; is a clock wrong?", to.twin)}
	}
	return nil, nil
}

// greet finds out what a peer speaks, of which this is known, and its key offer.
// Nothing of a message is sent before that.
func (c *Client) greet(ctx context.Context, to destination, known peer) (peer, error) {
	a, err := c.postTransfer(ctx, to, &load{epoch: transfer.None}, nil)
	if err != nil {
		return peer{}, err
	}
	// A server that knows no paths may say 200 to anything.
	yes := a.code/100 == 2 && len(a.header.Values("Signature-Input")) == 0
	switch {
	case a.signed || !knowsNoTransfers(a.code) && !(yes && known.version == unknownVersion):
		if _, err := c.judge(ctx, to, a, &load{}); err != nil {
			return peer{}, err
		}
	case !c.peers.unknowing(ctx, to.twin, known) && known.version == version2:
		return peer{}, downgraded(to.twin, a)
	case c.peers.requireV2:
		return peer{}, &msgbus.Failure{Reason: msgbus.VersionRequired,
			Detail: fmt.Sprintf("twin %d speaks version 1 only, which this relay does not send (--require-v2)", to.twin)}
	}
	return c.peers.of(ctx, to.twin)
}

// knowsNoTransfers tells of a status that a relay gives to paths that it does
// not know.
func knowsNoTransfers(code int) bool {
	return code == http.StatusNotFound || code == http.StatusMethodNotAllowed || code == http.StatusNotImplemented
}

func downgraded(twin uint32, a *transferAnswer) error {
	return &msgbus.Failure{Reason: msgbus.Downgraded, Detail: fmt.Sprintf("twin %d has spoken version 2 and answers as if it did not: %s", twin, a.text())}
}

// noLonger is for what was to be a transfer when its peer has just been believed to
// speak version 1.
func noLonger(twin uint32) error {
	return &msgbus.Failure{Reason: msgbus.Downgraded, Detail: fmt.Sprintf("twin %d does not speak version 2 any more; what waits for it goes as version 1", twin), Rest: time.Second}
}

// A transferAnswer is an answer to a transfer.
type transferAnswer struct {
	*answer
	signed  bool // by the peer, for this transfer; all else may be anybody's
	offered bool // a key to seal with
}

// postTransfer signs and sends a load, sealed if there is an offer, and remembers
// what a signed answer tells of the peer.
func (c *Client) postTransfer(ctx context.Context, to destination, l *load, offer *transfer.Offer) (*transferAnswer, error) {
	head := transfer.Head{
		Source: c.opts.Twin, Destination: to.twin, Epoch: l.epoch, Encoding: transfer.Identity, Seal: transfer.None,
		Created: c.opts.Now().Unix(), Nonce: transfer.NewNonce(),
	}
	body := l.body
	if c.opts.CompressFrom > 0 && len(body) >= c.opts.CompressFrom {
		head.Encoding, body = transfer.Gzip, transfer.Compress(body)
	}
	if offer != nil && len(body) > 0 {
		var err error
		if head.Seal, body, err = c.sealer.Seal(to.twin, offer, body); err != nil {
			return nil, &msgbus.Failure{Reason: msgbus.UnknownKey, Detail: fmt.Sprintf("the key that twin %d offers cannot be used: %v", to.twin, err)}
		}
	}
	head.Digest = transfer.DigestOf(body)
	header := make(http.Header, 12)
	signature := head.Sign(header, c.signer)
	a, err := c.exchange(ctx, to, transfer.Path, header, body)
	if err != nil {
		return nil, err
	}
	said, err := c.verify(ctx, to.twin, signature, a)
	if why := (*msgbus.Refusal)(nil); errors.As(err, &why) && comesAgain(why.Reason) {
		// It may be the peer's: this relay cannot tell now.
		return nil, &msgbus.Failure{Reason: why.Reason, Detail: fmt.Sprintf("the answer of twin %d cannot be verified now: %s", to.twin, why.Text), Rest: max(why.Rest, time.Second)}
	}
	if err != nil {
		return &transferAnswer{answer: a}, nil
	}
	offered, err := transfer.ParseOffer(said.Key)
	if err != nil {
		return &transferAnswer{answer: a}, nil
	}
	c.peers.answered(ctx, to.twin, offered)
	return &transferAnswer{answer: a, signed: true, offered: offered != nil}, nil
}

// verify makes sure that the peer gave this answer, whole, to this transfer.
func (c *Client) verify(ctx context.Context, twin uint32, request []byte, a *answer) (*transfer.AnswerHead, error) {
	said, signature, err := transfer.ReadAnswer(a.code, a.header, request)
	switch {
	case err != nil:
		return nil, err
	case said.Source != twin, transfer.DigestOf(a.body) != said.Digest:
		return nil, msgbus.Refuse(msgbus.BadSignature, "the answer is another one than was signed")
	}
	return said, c.directory.Verify(ctx, twin, said.Base(), signature)
}

// judge tells what an answer means: for each message of a load, or for all.
// Only what the peer has signed ends a message.
func (c *Client) judge(ctx context.Context, to destination, a *transferAnswer, l *load) ([]error, error) {
	switch code := a.code; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return nil, busy(to.twin, a.answer)
	case !a.signed && code == http.StatusBadRequest && wantsTLS(a.body):
		return nil, speaksTLS(to.twin)
	case !a.signed && knowsNoTransfers(code):
		known, err := c.peers.of(ctx, to.twin)
		switch {
		case err != nil:
			return nil, err
		case c.peers.unknowing(ctx, to.twin, known):
			return nil, noLonger(to.twin)
		}
		return nil, downgraded(to.twin, a)
	case !a.signed && code/100 == 2:
		return nil, &msgbus.Failure{Reason: msgbus.BadSignature, Detail: fmt.Sprintf("the answer of twin %d is not signed by it", to.twin)}
	case code == http.StatusOK:
		outcomes, ok := transfer.ReadOutcomes(a.body, len(l.positions))
		if !ok {
			return nil, &msgbus.Failure{Reason: msgbus.PeerFailed, Detail: fmt.Sprintf("twin %d does not tell what became of %d messages", to.twin, len(l.positions))}
		}
		return errorsOf(to.twin, outcomes), nil
	case a.signed && code == http.StatusRequestEntityTooLarge && len(l.positions) > 1:
		return nil, errTooMuch
	case a.signed && code == http.StatusConflict && a.reason() == msgbus.UnknownKey,
		a.signed && code == http.StatusForbidden && a.reason() == msgbus.EncryptionRequired && a.offered:
		return nil, errUnknownKey
	case a.signed && (code == http.StatusForbidden || code == http.StatusRequestEntityTooLarge):
		return nil, msgbus.Refuse(msgbus.RefusedByPeer, "twin %d refused the message: %s", to.twin, a.text())
	default:
		return nil, &msgbus.Failure{Reason: msgbus.PeerFailed, Detail: fmt.Sprintf("twin %d could not take the messages: %s", to.twin, a.text())}
	}
}

// errorsOf is what outcomes mean to the lane.
func errorsOf(twin uint32, outcomes []transfer.Outcome) []error {
	errs := make([]error, len(outcomes))
	for i, o := range outcomes {
		switch o.Word {
		case transfer.Accepted:
		case transfer.Later:
			why := fmt.Sprintf("twin %d takes it later: %s", twin, o.Reason)
			if o.Reason == msgbus.QueueFull {
				why = fmt.Sprintf("the queue of the command is full at twin %d", twin)
			}
			errs[i] = &msgbus.Deferral{Reason: o.Reason, Detail: why, After: time.Duration(o.After) * time.Second}
		default:
			errs[i] = msgbus.Refuse(msgbus.RefusedByPeer, "twin %d refused the message: %s", twin, o.Reason)
		}
	}
	return errs
}
