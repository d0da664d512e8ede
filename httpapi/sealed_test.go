package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
)

// ring is transfer.Keys with one key, by its id.
type ring map[string][]byte

const keyID = "00112233445566aa"

func newRing() ring {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return ring{keyID: key}
}

func (r ring) TransferKeys(context.Context) (map[string][]byte, string, error) { return r, keyID, nil }

// withKeys gives the relay under test keys to open transfers with.
func withKeys(o *httpapi.ServerOptions) { o.Opener = transfer.NewOpener(self, newRing(), theClock) }

// offered is what the relay offers to seal with, in its answer to a greeting.
func (b *bench) offered() *transfer.Offer {
	b.t.Helper()
	got := b.own("192.0.2.7:1", newParcel().sign(b.asker))
	offer, err := transfer.ParseOffer(got.header.Get("Msgbus-Key"))
	if got.code != 200 || err != nil || offer == nil {
		b.t.Fatalf("a greeting is answered %d %s, with the offer %q", got.code, got.body, got.header.Get("Msgbus-Key"))
	}
	return offer
}

// seal seals the body of a transfer for this offer and signs it.
func (b *bench) seal(p *parcel, offer *transfer.Offer) *parcel {
	b.t.Helper()
	var err error
	p.head.Seal, p.body, err = transfer.NewSealer(asker, theClock).Seal(self, offer, p.body)
	if err != nil {
		b.t.Fatal(err)
	}
	return p.sign(b.asker)
}

// ofSize is a request with so many bytes of data.
func ofSize(n int) *msgbus.Message {
	m := ours()
	m.Data = strings.Repeat("QUJD", n/4)
	return m
}

// The path of every message where both ends have keys: sealed for the key that
// the answer to a greeting has, opened and taken. Where it is required nothing else
// is, under a signature that no one on the way can make up.
//
// Broken by: in unseal, without its first case.
func TestARelayThatRequiresSealsTakesNothingElse(t *testing.T) {
	b := newBench(t, withKeys, func(o *httpapi.ServerOptions) { o.RequireEncryption = true })
	offer := b.offered()
	plain := newParcel(outgoing(msgbus.RequestParcel, ours())...).sign(b.asker)
	b.own("192.0.2.7:1", plain).errorIsSigned(t, 403, msgbus.EncryptionRequired)
	if n := b.relay.taken(); n != 0 {
		t.Fatalf("%d taken", n)
	}
	compressed := newParcel(outgoing(msgbus.RequestParcel, ours())...)
	compressed.head.Encoding, compressed.body = transfer.Gzip, transfer.Compress(compressed.body)
	for name, p := range map[string]*parcel{"sealed": newParcel(outgoing(msgbus.RequestParcel, ours())...), "compressed and sealed": compressed} {
		got := b.own("192.0.2.7:1", b.seal(p, offer))
		if got.code != 200 || !got.isSigned() || got.body != "{\"outcome\":\"accepted\"}\n" {
			t.Errorf("%s: %d %s", name, got.code, got.body)
		}
	}
	if len(b.relay.transfers) != 2 || b.relay.transfers[1].Messages[0].Message.Data != ours().Data {
		t.Errorf("the relay got %+v", b.relay.transfers)
	}
}

// A seal that cannot be opened costs no message: the sender hears why, and what
// to seal with.
func TestASealThatDoesNotOpenIsToldSigned(t *testing.T) {
	b := newBench(t, withKeys)
	offer := b.offered()
	gone := *offer
	gone.ID = "ffffffffffffffff"
	got := b.own("192.0.2.7:1", b.seal(newParcel(outgoing(msgbus.RequestParcel, ours())...), &gone))
	got.errorIsSigned(t, 409, msgbus.UnknownKey)
	if o, err := transfer.ParseOffer(got.header.Get("Msgbus-Key")); err != nil || o == nil || o.ID != offer.ID {
		t.Errorf("it offers %+v, %v", o, err)
	}
	changed := b.seal(newParcel(outgoing(msgbus.RequestParcel, ours())...), offer)
	changed.body = bytes.Clone(changed.body)
	changed.body[0] ^= 1
	b.own("192.0.2.7:1", changed.sign(b.asker)).errorIsSigned(t, 400, msgbus.Malformed)
	if n := b.relay.taken(); n != 0 {
		t.Errorf("%d taken", n)
	}
}

// Sixty transfers at once that expand to 4 MiB each, or are opened into a copy,
// must count like any large body, while they grow; and what was counted is given
// back, or the relay takes no large message any more after a while.
//
// Broken by: in readTransfer, a meter without release; in unseal, without count; in
// Expand, count after all is there.
func TestWhatATransferExpandsToCountsAsMemory(t *testing.T) {
	const inFlight = 1 << 20
	b := newBench(t, withKeys, func(o *httpapi.ServerOptions) { o.MaxInFlight = inFlight })
	offer := b.offered()
	compressed := func(plain []byte) *parcel {
		p := newParcel()
		p.head.Encoding, p.body = transfer.Gzip, transfer.Compress(plain)
		return p
	}
	bodyOf := func(size int) *parcel { return newParcel(outgoing(msgbus.RequestParcel, ofSize(size))...) }
	for range 3 {
		// Larger than is allowed at all, but first than there is memory for.
		b.own("192.0.2.7:1", compressed(bytes.Repeat([]byte{'\n'}, 5<<20)).sign(b.asker)).errorIsSigned(t, 503, msgbus.Overloaded)
		b.own("192.0.2.7:1", b.seal(bodyOf(800<<10), offer)).errorIsSigned(t, 503, msgbus.Overloaded)
		for name, p := range map[string]*parcel{
			"plain":      bodyOf(inFlight).sign(b.asker),
			"sealed":     b.seal(bodyOf(500<<10), offer),
			"compressed": compressed(bodyOf(inFlight).body).sign(b.asker),
			"both":       b.seal(compressed(bodyOf(inFlight).body), offer),
		} {
			if got := b.own("192.0.2.7:1", p); got.code != 200 {
				t.Errorf("%s: %d %s", name, got.code, got.body)
			}
		}
	}
}

// The least room that a relay can be started with is room for the largest message,
// however it comes.
//
// Broken by: in LeastInFlight, 2 for 3.
func TestTheLargestMessageFitsIntoTheLeastRoom(t *testing.T) {
	const most = 256 << 10
	b := newBench(t, withKeys, func(o *httpapi.ServerOptions) { o.MaxBody, o.MaxInFlight = most, httpapi.LeastInFlight(most) })
	offer := b.offered()
	p := newParcel(outgoing(msgbus.RequestParcel, ofSize(most-400))...)
	// Up to the limit with a line that is no message, and costs only itself.
	p.body = append(p.body, strings.Repeat("x", most+64<<10-len(p.body)-200)...)
	p.body = append(p.body, '\n')
	p.head.Encoding = transfer.Gzip
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.NoCompression)
	_, _ = w.Write(p.body)
	_ = w.Close()
	p.body = packed.Bytes()
	got := b.own("192.0.2.7:1", b.seal(p, offer))
	if got.code != 200 || !strings.HasPrefix(got.body, "{\"outcome\":\"accepted\"}") {
		t.Errorf("%d bytes: %d %.200s", len(p.body), got.code, got.body)
	}
}
