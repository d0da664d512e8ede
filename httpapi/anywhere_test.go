package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

// A town has the addresses of a twin with several relays. What stands at each is a
// function that a dial calls.
type town struct {
	places  map[string]func() (net.Conn, error)
	record  []string // of the twin
	keys    *keyring
	servers []*http.Server
	others  sync.WaitGroup

	mu      sync.Mutex
	dialled []string // in their order; guarded by mu
}

func newTown(record ...string) *town {
	return &town{places: make(map[string]func() (net.Conn, error)), record: record}
}

func (w *town) Endpoints(context.Context, uint32) (bases []string, err error) {
	for _, address := range w.record {
		bases = append(bases, "http://"+address)
	}
	return bases, nil
}

func (w *town) Verify(ctx context.Context, id uint32, challenge, signature []byte) error {
	return w.keys.Verify(ctx, id, challenge, signature)
}

func (w *town) dial(_ context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialled = append(w.dialled, address)
	place := w.places[address]
	w.mu.Unlock()
	return place()
}

// dials returns who was dialled since the last call.
func (w *town) dials() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.dialled = nil }()
	return strings.Join(w.dialled, " ")
}

// is sets what stands at an address from now on.
func (w *town) is(address string, place func() (net.Conn, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.places[address] = place
}

// relay is a place where a server listens.
func (w *town) relay(h http.Handler) (place func() (net.Conn, error)) {
	s, l := httpapi.HTTPServer(h), newPipes()
	go s.Serve(l)
	w.servers = append(w.servers, s)
	return func() (net.Conn, error) { return l.dial(context.Background(), "", "") }
}

func (w *town) close() {
	for _, s := range w.servers {
		s.Close()
	}
	w.others.Wait()
}

// refused is where nobody listens.
func refused() (net.Conn, error) { return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED} }

// blackHole answers no SYN.
func blackHole() (net.Conn, error) {
	<-time.After(5 * time.Second)
	return nil, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
}

// reader reads one request and then does something with the connection.
func (w *town) reader(then func(net.Conn)) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		here, there := net.Pipe()
		w.others.Go(func() {
			if req, err := http.ReadRequest(bufio.NewReader(there)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				then(there)
			}
			_ = there.Close()
		})
		return here, nil
	}
}

// inTown runs a test of both versions in a bubble.
func inTown(t *testing.T, record []string, run func(t *testing.T, w *town, b *bench, c *httpapi.Client, good func() (net.Conn, error))) {
	for version, serve := range map[string]func(http.Handler) http.Handler{
		"version 1": func(h http.Handler) http.Handler { return published(h.ServeHTTP) },
		"version 2": func(h http.Handler) http.Handler { return h },
	} {
		t.Run(version, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, w := newBench(t), newTown(record...)
				w.keys = &keyring{keys: b.keys.keys}
				good := w.relay(serve(b.handler))
				c := httpapi.NewClient(httpapi.ClientOptions{Twin: asker, Now: theClock, Dial: w.dial}, w, b.asker)
				run(t, w, b, c, good)
				c.Close()
				w.close()
			})
		})
	}
}

// numbered is requests of which none is a repeat of another.
func numbered(n int) (messages []*msgbus.Message) {
	for i := range n {
		m := ours()
		m.UID = "1002." + string(rune('1'+i))
		messages = append(messages, m)
	}
	return messages
}

func wantTaken(t *testing.T, c *httpapi.Client, messages ...*msgbus.Message) {
	t.Helper()
	for i, err := range c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, messages...)) {
		if err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

// One of a twin's two relays is down. Its messages must not wait for a rest of the
// lane, neither the first nor, each time, the later ones: the address that answered
// stays, and the other is dialled again only when that one fails.
//
// Broken by: in sendAnywhere, break after the first round; in order, without failed.
func TestAnAddressWhereNobodyListensIsPassedOverAtOnce(t *testing.T) {
	inTown(t, []string{"a:8051", "b:8051"}, func(t *testing.T, w *town, b *bench, c *httpapi.Client, good func() (net.Conn, error)) {
		w.is("a:8051", refused)
		w.is("b:8051", good)
		wantTaken(t, c, numbered(3)...)
		if got := w.dials(); !strings.HasPrefix(got, "a:8051 b:8051") || strings.Count(got, "a:") != 1 {
			t.Errorf("dialled %s", got)
		}
		wantTaken(t, c, numbered(3)...)
		if got := w.dials(); strings.Contains(got, "a:") {
			t.Errorf("dialled %s, though b has answered", got)
		}

		// Now the other one is down, and the first is back.
		w.is("a:8051", good)
		w.is("b:8051", refused)
		c.Close() // so that there is something to dial
		wantTaken(t, c, numbered(3)...)
		if got := w.dials(); !strings.HasPrefix(got, "b:8051") || !strings.Contains(got, "a:8051") {
			t.Errorf("dialled %s", got)
		}
		c.Close()
		wantTaken(t, c, numbered(3)...)
		if got := w.dials(); strings.Contains(got, "b:") {
			t.Errorf("dialled %s, though a has answered since", got)
		}
	})
}

// A relay that is killed with a transfer in its hands breaks the connection: what it
// had goes to the other at once, which knows what was taken. What the first has
// answered is not sent again.
//
// Broken by: in overlook, `return meaning` for all but dials.
func TestABrokenConnectionSendsTheRestElsewhere(t *testing.T) {
	inTown(t, []string{"a:8051", "b:8051"}, func(t *testing.T, w *town, b *bench, c *httpapi.Client, good func() (net.Conn, error)) {
		w.is("a:8051", w.reader(func(net.Conn) {}))
		w.is("b:8051", good)
		wantTaken(t, c, numbered(3)...)
		if got := w.dials(); !strings.HasPrefix(got, "a:8051") || !strings.Contains(got, "b:8051") {
			t.Errorf("dialled %s", got)
		}
	})
}

// What gets no answer may be under way at the first relay, and must not be given to
// the second beside it. At the next attempt it is: the first may hang for long.
//
// Broken by: overlook that returns passedOver{meaning} always; in judgeAddress,
// without `f.Rest == 0`.
func TestWhatTimedOutGoesElsewhereAtTheNextAttempt(t *testing.T) {
	inTown(t, []string{"a:8051", "b:8051"}, func(t *testing.T, w *town, b *bench, c *httpapi.Client, good func() (net.Conn, error)) {
		w.is("a:8051", w.reader(mute))
		w.is("b:8051", good)
		for _, err := range c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, numbered(3)...)) {
			if f := failureOf(t, err); f.Reason != msgbus.Timeout {
				t.Errorf("the first attempt: %v", err)
			}
		}
		if got := w.dials(); strings.Contains(got, "b:") {
			t.Errorf("dialled %s in one attempt", got)
		}
		wantTaken(t, c, numbered(3)...)
		if got := w.dials(); strings.Contains(got, "a:") {
			t.Errorf("dialled %s at the next attempt", got)
		}
	})
}

// During a rolling restart one relay listens already and says that it is starting. That
// is no reason to wait for it.
//
// Broken by: busy without the case of Starting.
func TestARelayThatIsStartingIsPassedOverAtOnce(t *testing.T) {
	inTown(t, []string{"a:8051", "b:8051"}, func(t *testing.T, w *town, b *bench, c *httpapi.Client, good func() (net.Conn, error)) {
		starting := w.relay(http.HandlerFunc(httpapi.Unready))
		w.is("a:8051", starting)
		w.is("b:8051", good)
		wantTaken(t, c, numbered(3)...)
	})
}

// A peer that asks to come again is asked again after a rest; but the answer may be a
// proxy's, whose relay is gone, so the other address has its turn then.
func TestTheOtherAddressIsNextWhenOneAsksForARest(t *testing.T) {
	inTown(t, []string{"a:8051", "b:8051"}, func(t *testing.T, w *town, b *bench, c *httpapi.Client, good func() (net.Conn, error)) {
		busy := w.relay(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) }))
		w.is("a:8051", busy)
		w.is("b:8051", good)
		if f := failureOf(t, c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, ours()))[0]); f.Reason != msgbus.PeerBusy || f.Rest == 0 {
			t.Errorf("the first attempt: %v", f)
		}
		wantTaken(t, c, ours())
	})
}

// An address that may not be dialled beside one that is down says nothing of when the
// other is back: the message must not end. If none may be dialled, it ends.
//
// Broken by: in sendAnywhere, without graver.
func TestAMessageEndsOnlyIfNoAddressMayBeDialled(t *testing.T) {
	forbidden := func() (net.Conn, error) { return nil, msgbus.Refuse(msgbus.AddressNotAllowed, "it is loopback") }
	for name, places := range map[string][]func() (net.Conn, error){
		"the first is forbidden":  {forbidden, refused},
		"the second is forbidden": {refused, forbidden},
		"both are":                {forbidden, forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			inTown(t, []string{"a:8051", "b:8051"}, func(t *testing.T, w *town, b *bench, c *httpapi.Client, _ func() (net.Conn, error)) {
				w.is("a:8051", places[0])
				w.is("b:8051", places[1])
				for range 2 { // in the other order at the second attempt
					err := c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, ours()))[0]
					var refusal *msgbus.Refusal
					if name == "both are" {
						if !errors.As(err, &refusal) || refusal.Reason != msgbus.AddressNotAllowed {
							t.Errorf("got %v", err)
						}
					} else if f := failureOf(t, err); f.Reason != msgbus.Unreachable {
						t.Errorf("got %v", err)
					}
				}
			})
		})
	}
}

// A stranger's record names eight addresses that swallow everything. An attempt must
// end all the same, or his lane keeps a place for a minute each time; and the address
// that works, be it the last, must have its turn in the end.
//
// Broken by: in sendAnywhere, without the look at began.
func TestAnAttemptAtManyAddressesIsBounded(t *testing.T) {
	record := []string{"a:8051", "b:8051", "c:8051", "d:8051", "e:8051", "f:8051", "g:8051", "h:8051"}
	inTown(t, record, func(t *testing.T, w *town, b *bench, c *httpapi.Client, good func() (net.Conn, error)) {
		for _, address := range record {
			w.is(address, blackHole)
		}
		w.is("h:8051", good)
		var dialled []string
		for range 3 {
			began := time.Now()
			err := c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, ours()))[0]
			dialled = append(dialled, w.dials())
			if took := time.Since(began); took > 16*time.Second {
				t.Errorf("an attempt lasted %s", took)
			}
			if err == nil {
				break
			}
		}
		if all := strings.Fields(strings.Join(dialled, " ")); !slices.Equal(slices.Compact(all), record) {
			t.Errorf("dialled %q", dialled)
		}
	})
}

// Addresses that swallow everything say nothing of how much at once the one that works
// can take.
//
// Broken by: in paces.note, without isPassedOver.
func TestADialThatTimesOutMakesNobodySlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown("a:8051", "b:8051")
		w.keys = &keyring{}
		p := newSlowPeer()
		good := func() (net.Conn, error) {
			conn, err := p.dial(t.Context(), "", "")
			return newUnknowing(conn), err
		}
		w.is("a:8051", good)
		w.is("b:8051", blackHole)
		c := httpapi.NewClient(httpapi.ClientOptions{Now: theClock, Dial: w.dial}, w, identity(t, "//Alice", twin.SR25519))
		done := send(t.Context(), c, numbered(1)...)
		p.let <- struct{}{}
		if err := (<-done)[0]; err != nil {
			t.Fatal(err)
		}
		<-p.arrived
		w.is("a:8051", refused)
		c.Close() // so that there is something to dial
		for _, err := range c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, numbered(9)...)) {
			failureOf(t, err)
		}
		w.is("a:8051", good)
		done = send(t.Context(), c, numbered(9)...)
		synctest.Wait()
		if n := len(p.arrived); n != 9 {
			t.Errorf("%d of 9 messages are under way at once", n)
		}
		close(p.let)
		for _, err := range <-done {
			if err != nil {
				t.Error(err)
			}
		}
		c.Close()
		p.server.Close()
	})
}
