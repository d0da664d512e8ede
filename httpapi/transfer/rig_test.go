package transfer_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

const (
	clock     = 1_700_000_000
	bodyLimit = 1 << 20
)

var keyTypes = []twin.KeyType{twin.ED25519, twin.SR25519}

func identity(t testing.TB, secret string, kt twin.KeyType) *twin.Identity {
	t.Helper()
	id, err := twin.NewIdentity(secret, kt)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A world is who everybody is.
type world struct {
	keys map[uint32]twin.PublicKey
}

// A parcel is a transfer on its way: what anybody between two relays can read,
// keep and change.
type parcel struct {
	header http.Header
	body   []byte
}

func (p parcel) clone() parcel { return parcel{p.header.Clone(), bytes.Clone(p.body)} }

func (p parcel) equal(q parcel) bool {
	return maps.EqualFunc(p.header, q.header, slices.Equal[[]string]) && bytes.Equal(p.body, q.body)
}

// sign makes a parcel of messages.
func sign(by transfer.Signer, head transfer.Head, plain []byte) (parcel, []byte) {
	body := plain
	if head.Encoding == transfer.Gzip {
		body = transfer.Compress(plain)
	}
	head.Digest = transfer.DigestOf(body)
	p := parcel{make(http.Header), body}
	return p, head.Sign(p.header, by)
}

// uncounted lets a body expand to whatever the limit allows.
func uncounted(int64) error { return nil }

var errRefused = errors.New("refused")

// receive does what the relay of a twin does with a transfer, in the order that
// testdata/README.md gives, and returns what it means.
func (w world) receive(self uint32, p parcel) (meaning string, err error) {
	h, signature, err := transfer.ReadHead(p.header)
	if err != nil {
		return "", err
	}
	key, known := w.keys[h.Source]
	if h.Destination != self || h.Source == self || h.Created < clock-60 || h.Created > clock+60 || !known {
		return "", errRefused
	}
	if err := twin.Verify(key, h.Base(), signature); err != nil {
		return "", err
	}
	if transfer.DigestOf(p.body) != h.Digest {
		return "", errRefused
	}
	plain, err := transfer.Expand(h.Encoding, p.body, bodyLimit, uncounted)
	if err != nil {
		return "", err
	}
	lines, err := transfer.ReadBody(plain)
	if err != nil {
		return "", err
	}
	meaning = fmt.Sprintf("%d %d %s %s %d %s\n", h.Source, h.Destination, h.Epoch, h.Seal, h.Created, h.Nonce)
	for _, l := range lines {
		meaning += fmt.Sprintf("%s %s %v\n", l.Kind, l.Message.AppendWire(nil), l.Err)
	}
	return meaning, nil
}

// A reply is an answer on its way.
type reply struct {
	status int
	parcel
}

func answer(by transfer.Signer, head transfer.AnswerHead, body []byte) reply {
	head.Digest = transfer.DigestOf(body)
	r := reply{head.Status, parcel{make(http.Header), body}}
	head.Sign(r.header, by)
	return r
}

// hear does what a relay does with the answer of a twin to the transfer with this
// signature.
func (w world) hear(from uint32, request []byte, messages int, r reply) (meaning string, err error) {
	h, signature, err := transfer.ReadAnswer(r.status, r.header, request)
	if err != nil {
		return "", err
	}
	if h.Source != from || transfer.DigestOf(r.body) != h.Digest {
		return "", errRefused
	}
	if err := twin.Verify(w.keys[from], h.Base(), signature); err != nil {
		return "", err
	}
	outcomes, ok := transfer.ReadOutcomes(r.body, messages)
	if !ok {
		return "", errRefused
	}
	return fmt.Sprint(h.Status, h.Key, outcomes), nil
}

// A pair is two twins, a transfer of 1001 to 1002, and the answer.
type pair struct {
	world
	alice, bob *twin.Identity
	sent       parcel
	signature  []byte
	answered   reply
}

func message(uid, epoch string) *msgbus.Message {
	return &msgbus.Message{Version: 1, UID: uid, Source: 1001, Destinations: []uint32{1002}, Command: "calculator.add", Expiration: 30,
		Data: "WzEwLDIwXQ==", ReturnQueue: msgbus.WireReplyQueue, Schema: "application/json", Now: clock, Epoch: epoch}
}

const epoch = "5218bd2f0a7e4c11"

// someBody has a request and a reply.
func someBody() []byte {
	b := transfer.AppendMessage(nil, msgbus.Outgoing{Kind: msgbus.RequestParcel, Message: message("1002.117", epoch)})
	return transfer.AppendMessage(b, msgbus.Outgoing{Kind: msgbus.ReplyParcel, Message: message("1001.4", "")})
}

func someHead() transfer.Head {
	return transfer.Head{Source: 1001, Destination: 1002, Epoch: epoch, Encoding: transfer.Identity, Seal: transfer.None,
		Created: clock, Nonce: "AAECAwQFBgcICQoLDA0ODw"}
}

func newPair(t testing.TB, kt twin.KeyType, encoding string) *pair {
	t.Helper()
	p := &pair{alice: identity(t, "//Alice", kt), bob: identity(t, "//Bob", kt)}
	p.keys = map[uint32]twin.PublicKey{1001: p.alice.PublicKey(), 1002: p.bob.PublicKey()}
	head := someHead()
	head.Encoding = encoding
	p.sent, p.signature = sign(p.alice, head, someBody())
	body := transfer.AppendOutcome(nil, transfer.Outcome{Word: transfer.Accepted})
	body = transfer.AppendOutcome(body, transfer.Outcome{Word: transfer.Later, Reason: msgbus.QueueFull, After: 1})
	p.answered = answer(p.bob, transfer.AnswerHead{Status: 200, Source: 1002, Key: transfer.None, Created: clock + 1, Request: p.signature}, body)
	if _, err := p.receive(1002, p.sent); err != nil {
		t.Fatalf("a transfer as it was signed: %v", err)
	}
	if _, err := p.hear(1002, p.signature, 2, p.answered); err != nil {
		t.Fatalf("an answer as it was signed: %v", err)
	}
	return p
}
