package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

// A bomb is a relay that panics over requests.
type bomb struct{ *recorder }

func (bomb) AcceptRequest(context.Context, *msgbus.Message) error { panic("boom") }

// A message that makes its handler panic breaks the connection, with all that
// its peer has on it, and is told in no log of ours. (Handler: leave out
// outlivePanics.)
func TestPanicOfAHandlerIsAnswered(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	b := newBench(t)
	opts := httpapi.ServerOptions{Twin: self, Now: theClock, Log: zerolog.New(&log)}
	b.handler = httpapi.NewServer(opts, bomb{b.relay}, b.results, b.keys, b.self).Handler()
	b.serve()
	b.send("/zbus-remote", sign(request(), b.asker)).errorIs(t, http.StatusInternalServerError, msgbus.Poison, "the relay failed at this message")
	if got := b.send("/zbus-reply", sign(reply(), b.asker)); got.code != http.StatusOK {
		t.Errorf("the next message is answered with %d %s", got.code, got.body)
	}
	for _, part := range []string{`"level":"error"`, `"path":"/zbus-remote"`, `"panic":"boom"`, "bomb.AcceptRequest"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("%s is not in the log: %s", part, &log)
		}
	}
	if strings.Contains(log.String(), request().Data) {
		t.Errorf("the message is in the log: %s", &log)
	}
}

// A fuse is a signer that panics over its third signature: a greeting's is the
// first.
type fuse struct {
	httpapi.Signer
	signed atomic.Int32
}

func (f *fuse) Sign(challenge []byte) []byte {
	if f.signed.Add(1) == 3 {
		panic("boom")
	}
	return f.Signer.Sign(challenge)
}

// A goroutine that panics ends the process, and no one can catch that from
// outside: one message ends the relay whenever it is its turn. (Send: leave out
// Guard.)
func TestPanicOverOneMessageIsItsOutcome(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(s.Close)
	c := httpapi.NewClient(httpapi.ClientOptions{InFlight: 1}, endpoint(s.Listener.Addr().String()), &fuse{Signer: identity(t, "//Alice", twin.SR25519)})
	t.Cleanup(c.Close)
	errs := c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, request(), request(), request()))
	var p *msgbus.Panic
	if errs[0] != nil || !errors.As(errs[1], &p) || errs[2] != nil {
		t.Errorf("outcomes %v, want that the second panicked", errs)
	}
	var refusal *msgbus.Refusal
	if !errors.As(errs[1], &refusal) || refusal.Reason != msgbus.Poison {
		t.Errorf("%v is no refusal with reason poison", errs[1])
	}
}
