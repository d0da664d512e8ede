package httpapi_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
)

// deliver posts a transfer from an address, with a body that need not be its own.
func (b *bench) deliver(address string, p *parcel, body io.Reader) answer {
	req := httptest.NewRequest(http.MethodPost, transfer.Path, body)
	req.RemoteAddr, req.Header = address, p.header
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, req)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// own is deliver with the transfer's own body.
func (b *bench) own(address string, p *parcel) answer {
	return b.deliver(address, p, bytes.NewReader(p.body))
}

// Somebody who recorded a greeting sends its header fields again on a hundred
// connections, and no body: the twin gets 429 for its messages until the bodies
// have been waited for, has spent what it may send, and the address counts as its
// own, from which a thousand forgeries a second are checked.
//
// Broken by: in authenticateTransfer, without once; or with it after verify.
func TestARecordedTransferTakesNothingFromItsTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const home, away = "192.0.2.7:1", "198.51.100.1:1"
		b := newBench(t, func(o *httpapi.ServerOptions) { o.MaxTwinAtOnce, o.MaxTwinRate = 2, 3 })
		greeting := newParcel().sign(b.asker)
		if got := b.own(home, greeting); got.code != 200 {
			t.Fatalf("a greeting: %d %s", got.code, got.body)
		}
		nothing, end := io.Pipe()
		var posting sync.WaitGroup
		for range 100 {
			posting.Go(func() {
				got := b.deliver(away, greeting, nothing)
				got.errorIs(t, 409, msgbus.Replayed, "before")
				if got.isSigned() {
					t.Error("a repeat is answered signed: it costs a signature each time")
				}
			})
		}
		synctest.Wait()
		if got := b.own(home, newParcel(outgoing(msgbus.RequestParcel, ours())...).sign(b.asker)); got.code != 200 {
			t.Errorf("the twin itself: %d %s", got.code, got.body)
		}
		end.CloseWithError(errors.New("gone"))
		posting.Wait()
		for range 10 {
			b.own(away, greeting)
		}
		if got := b.own(home, newParcel(outgoing(msgbus.RequestParcel, ours())...).sign(b.asker)); got.code != 200 {
			t.Errorf("the twin itself, after more repeats: %d %s", got.code, got.body)
		}
		b.checks()
		for range 50 {
			b.from(away, "/zbus-remote", b.forged(asker))
		}
		if n := b.checks(); n != 10 {
			t.Errorf("%d forgeries were checked for who repeats, want 10", n)
		}
	})
}

// A recorded transfer is sent again just before it is too old: a signature of a
// minute ahead is good for two minutes.
//
// Broken by: in replays.go, usedFor of a minute.
func TestATransferIsKnownForAsLongAsItIsYoungEnough(t *testing.T) {
	now := time.Unix(clock, 999e6)
	b := newBench(t, func(o *httpapi.ServerOptions) { o.Now = func() time.Time { return now } })
	var used []*parcel
	for second := range 300 {
		p := newParcel()
		p.head.Created = now.Unix() + 60
		if got := b.own("192.0.2.7:1", p.sign(b.asker)); got.code != 200 {
			t.Fatalf("%d %s", got.code, got.body)
		}
		used = append(used, p)
		for age, reason := range map[int]msgbus.Reason{0: msgbus.Replayed, 119: msgbus.Replayed, 120: msgbus.Replayed, 121: msgbus.ClockSkew} {
			if age > second {
				continue
			}
			if got := b.own("192.0.2.7:1", used[second-age]); got.code == 200 || !strings.Contains(got.body, string(reason)) {
				t.Fatalf("after %d seconds: %d %s, want %s", age, got.code, got.body, reason)
			}
		}
		now = now.Add(time.Second)
	}
}

// A transfer whose fields alone came before its twin could send it is not taken;
// what the twin signs anew for the same messages is.
func TestATransferThatSomebodyUsedUpIsTakenWhenItIsSignedAnew(t *testing.T) {
	b := newBench(t)
	p := newParcel(outgoing(msgbus.RequestParcel, ours())...).sign(b.asker)
	b.deliver("198.51.100.1:1", p, bytes.NewReader(nil)).errorIsSigned(t, 400, msgbus.BadSignature)
	b.own("192.0.2.7:1", p).errorIs(t, 409, msgbus.Replayed, "sign a new one")
	p.head.Nonce = transfer.NewNonce()
	if got := b.own("192.0.2.7:1", p.sign(b.asker)); got.code != 200 || b.relay.taken() != 1 {
		t.Errorf("%d %s, %d taken", got.code, got.body, b.relay.taken())
	}
}

// A forger sends fields with the signature that a twin is about to use: that must
// not use it up.
//
// Broken by: in authenticateTransfer, once before Verify.
func TestASignatureThatDoesNotFitIsNotUsedUp(t *testing.T) {
	b := newBench(t)
	p := newParcel(outgoing(msgbus.RequestParcel, ours())...).sign(b.asker)
	forged := &parcel{header: p.header.Clone()}
	forged.header.Set("Msgbus-Epoch", "ff")
	b.own("198.51.100.1:1", forged).errorIs(t, 400, msgbus.BadSignature, "")
	if got := b.own("192.0.2.7:1", p); got.code != 200 {
		t.Errorf("%d %s", got.code, got.body)
	}
}
