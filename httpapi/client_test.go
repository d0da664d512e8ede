package httpapi_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

// An endpoint is a directory of one: host:port, or all of the URL's base.
type endpoint string

func (e endpoint) Endpoints(context.Context, uint32) ([]string, error) {
	if strings.Contains(string(e), "://") {
		return []string{string(e)}, nil
	}
	return []string{"http://" + string(e)}, nil
}

func (e endpoint) Verify(context.Context, uint32, []byte, []byte) error {
	return msgbus.Refuse(msgbus.TwinNotFound, "it knows no keys")
}

// nowhere is a directory that knows no one.
type nowhere struct{ err error }

func (n nowhere) Endpoints(context.Context, uint32) ([]string, error) { return nil, n.err }

func (n nowhere) Verify(context.Context, uint32, []byte, []byte) error { return n.err }

// peer starts another twin's relay, which speaks version 1, and a client that
// sends to it.
func peer(t *testing.T, opts httpapi.ClientOptions, serve http.HandlerFunc) *httpapi.Client {
	t.Helper()
	s := httptest.NewServer(published(serve))
	t.Cleanup(s.Close)
	return client(t, opts, endpoint(s.Listener.Addr().String()))
}

// published serves like a relay that knows no transfers.
func published(serve http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/zbus-transfer" {
			http.NotFound(w, req)
			return
		}
		serve(w, req)
	})
}

// unknowing is a connection to a relay that knows no transfers: what stands at
// its other end sees none.
type unknowing struct {
	net.Conn
	read  *io.PipeReader
	wrote *io.PipeWriter
}

func newUnknowing(conn net.Conn) *unknowing {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, conn)
		w.CloseWithError(err)
	}()
	return &unknowing{conn, r, w}
}

func (u *unknowing) Read(b []byte) (int, error) { return u.read.Read(b) }

func (u *unknowing) Write(b []byte) (int, error) {
	if strings.HasPrefix(string(b), "POST /zbus-transfer ") {
		_, err := io.WriteString(u.wrote, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		return len(b), err
	}
	return u.Conn.Write(b)
}

func (u *unknowing) Close() error {
	_ = u.read.Close()
	return u.Conn.Close()
}

func client(t *testing.T, opts httpapi.ClientOptions, d httpapi.Directory) *httpapi.Client {
	t.Helper()
	if opts.Now == nil {
		opts.Now = theClock
	}
	if dial := opts.Dial; dial != nil {
		opts.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return newUnknowing(conn), nil
		}
	}
	c := httpapi.NewClient(opts, d, identity(t, "//Alice", twin.SR25519))
	t.Cleanup(c.Close)
	return c
}

func outgoing(kind msgbus.ParcelKind, messages ...*msgbus.Message) []msgbus.Outgoing {
	var out []msgbus.Outgoing
	for _, m := range messages {
		out = append(out, msgbus.Outgoing{Kind: kind, Message: m})
	}
	return out
}

func sendOne(t *testing.T, c *httpapi.Client) error {
	t.Helper()
	errs := c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, request()))
	if len(errs) != 1 {
		t.Fatalf("%d outcomes of one message", len(errs))
	}
	return errs[0]
}

// failureOf returns the failure that err is, and fails the test for any other.
func failureOf(t *testing.T, err error) *msgbus.Failure {
	t.Helper()
	var failure *msgbus.Failure
	var refusal *msgbus.Refusal
	if !errors.As(err, &failure) || errors.As(err, &refusal) {
		t.Fatalf("%v (%T) is no failure: it would end the message", err, err)
	}
	return failure
}

// A published relay refuses what is not signed, not said to be what it is, or
// posted to the wrong path.
func TestAMessageLeavesSignedForThePathOfItsKind(t *testing.T) {
	sender := identity(t, "//Alice", twin.SR25519)
	for kind, want := range map[msgbus.ParcelKind]string{msgbus.RequestParcel: "/zbus-remote", msgbus.ReplyParcel: "/zbus-reply"} {
		var got *http.Request
		var body []byte
		c := peer(t, httpapi.ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
			got = r
			body, _ = io.ReadAll(r.Body)
		})
		m := request()
		m.Signature = "stale"
		if errs := c.Send(t.Context(), self, outgoing(kind, m)); errs[0] != nil {
			t.Fatal(errs[0])
		}
		if got.Method != http.MethodPost || got.URL.Path != want || got.Header.Get("Content-Type") != "application/json" || got.ContentLength != int64(len(body)) {
			t.Errorf("%s: %s %s, %v", kind, got.Method, got.URL, got.Header)
		}
		arrived, err := msgbus.Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := hex.DecodeString(arrived.Signature)
		if err != nil {
			t.Fatal(err)
		}
		challenge := arrived.Challenge()
		if err := twin.Verify(sender.PublicKey(), challenge[:], signature); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// What one of our relays sends, another takes, also in version 1: published
// relays take nothing else.
func TestOneOfOurRelaysTakesWhatAnotherSends(t *testing.T) {
	for name, serve := range map[string]func(http.Handler) http.Handler{
		"in transfers": func(h http.Handler) http.Handler { return h },
		"one by one":   func(h http.Handler) http.Handler { return published(h.ServeHTTP) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.handler = serve(b.handler)
			b.serve()
			c := b.client(httpapi.ClientOptions{})
			if errs := c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, ours())); errs[0] != nil {
				t.Error(errs[0])
			}
			if errs := c.Send(t.Context(), self, outgoing(msgbus.ReplyParcel, reply())); errs[0] != nil {
				t.Error(errs[0])
			}
			if b.relay.taken() != 2 {
				t.Errorf("%d of 2 arrived", b.relay.taken())
			}
		})
	}
}

// A reply to twin 10011002 must not be one to twin 1002 as well (see
// msgbus.PinReply): the space in its data is what keeps them apart.
func TestARepliesDataIsPinnedBeforeItIsSigned(t *testing.T) {
	var data []string
	c := peer(t, httpapi.ClientOptions{InFlight: 1}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, _ := msgbus.Decode(body)
		data = append(data, m.Data)
	})
	m := reply()
	m.Data, m.Destinations = "MTE1", []uint32{10011002}
	plain := reply()
	plain.Data = "MTE1"
	for i, err := range c.Send(t.Context(), 10011002, outgoing(msgbus.ReplyParcel, m, plain)) {
		if err != nil {
			t.Errorf("reply %d: %v", i, err)
		}
	}
	if got := strings.Join(data, " "); got != "MTE1IA== MTE1" {
		t.Errorf("the data left as %s", got)
	}
}

// "QUJD" to twin 10011002 is "QUJD1001" to twin 1002: an answer that cannot be
// pinned must not leave, and whoever asked must learn why there is none.
func TestAReplyThatCannotBePinnedBecomesAnError(t *testing.T) {
	var got *msgbus.Message
	c := peer(t, httpapi.ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got, _ = msgbus.Decode(body)
	})
	m := reply()
	m.Data, m.Destinations = "QUJD", []uint32{10011002}
	if errs := c.Send(t.Context(), 10011002, outgoing(msgbus.ReplyParcel, m)); errs[0] != nil {
		t.Fatal(errs[0])
	}
	if got.Data != "IA==" || got.Error != "the service's answer cannot be signed so that only its twin can read it" {
		t.Errorf("it left with data %q and error %q", got.Data, got.Error)
	}
	challenge := got.Challenge()
	signature, err := hex.DecodeString(got.Signature)
	if err == nil {
		err = twin.Verify(identity(t, "//Alice", twin.SR25519).PublicKey(), challenge[:], signature)
	}
	if err != nil {
		t.Errorf("the error is not signed as it left: %v", err)
	}
}

// The difference between "never" and "not now" is a lost message or an endless
// retry; each status stands on one side of it.
func TestEachAnswerHasItsOutcome(t *testing.T) {
	for _, c := range []struct {
		code   int
		header string // Retry-After
		body   string
		reason msgbus.Reason // "" for taken
		never  bool
		text   string
		rest   time.Duration
	}{
		{code: 200, body: `{"status":"accepted"}`},
		{code: 200, body: `<html>`},
		{code: 200},
		{code: 201}, {code: 202}, {code: 204},

		{code: 400, body: `{"Status":"error","Message":"too old"}`, reason: msgbus.RefusedByPeer, never: true, text: "status 400: too old"},
		{code: 400, body: `{"status":"error","message":"too old"}`, reason: msgbus.RefusedByPeer, never: true, text: "too old"},
		{code: 400, body: `{"error":"could not parse"}`, reason: msgbus.RefusedByPeer, never: true, text: "could not parse"},
		{code: 400, body: `{"Message":5}`, reason: msgbus.RefusedByPeer, never: true, text: `{"Message":5}`},
		{code: 400, body: "plain\n  \x1b\x00text\xff", reason: msgbus.RefusedByPeer, never: true, text: "plain text"},
		{code: 400, reason: msgbus.RefusedByPeer, never: true, text: "no text"},
		{code: 403, reason: msgbus.RefusedByPeer, never: true},
		{code: 409, reason: msgbus.RefusedByPeer, never: true},
		{code: 413, body: `<html><h1>too large</h1></html>`, reason: msgbus.RefusedByPeer, never: true, text: "<h1>"},
		{code: 422, reason: msgbus.RefusedByPeer, never: true},

		{code: 429, header: "7", reason: msgbus.PeerBusy, rest: 7 * time.Second},
		{code: 503, header: "2", reason: msgbus.PeerBusy, rest: 2 * time.Second},
		{code: 503, reason: msgbus.PeerBusy, rest: time.Second},
		{code: 503, header: "0", reason: msgbus.PeerBusy, rest: time.Second},
		{code: 503, header: "-5", reason: msgbus.PeerBusy, rest: time.Second},
		{code: 503, header: "Fri, 31 Dec 1999 23:59:59 GMT", reason: msgbus.PeerBusy, rest: time.Second},
		{code: 503, header: "99999999999", reason: msgbus.PeerBusy, rest: time.Hour},
		{code: 503, header: "86400", reason: msgbus.PeerBusy, rest: time.Hour},

		{code: 302, header: "1", reason: msgbus.PeerFailed},
		{code: 401, reason: msgbus.PeerFailed}, {code: 404, body: "404 page not found", reason: msgbus.PeerFailed, text: "page not found"},
		{code: 405, reason: msgbus.PeerFailed}, {code: 500, reason: msgbus.PeerFailed},
		{code: 502, body: `<html>` + strings.Repeat("x", 100_000), reason: msgbus.PeerFailed, text: "status 502: <html>"},
		{code: 504, reason: msgbus.PeerFailed},
	} {
		cl := peer(t, httpapi.ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
			if c.header != "" {
				w.Header().Set("Retry-After", c.header)
			}
			w.WriteHeader(c.code)
			if c.code != 204 {
				io.WriteString(w, c.body)
			}
		})
		err := sendOne(t, cl)
		var refusal *msgbus.Refusal
		var failure *msgbus.Failure
		switch {
		case c.reason == "":
			if err != nil {
				t.Errorf("%d is taken for %v", c.code, err)
			}
			continue
		case err == nil:
			t.Errorf("%d is taken for an acceptance", c.code)
			continue
		case c.never:
			if !errors.As(err, &refusal) || refusal.Reason != c.reason {
				t.Errorf("%d is %#v, want a refusal", c.code, err)
			}
		default:
			if !errors.As(err, &failure) || failure.Reason != c.reason || failure.Rest != c.rest {
				t.Errorf("%d is %#v, want a failure with reason %s and rest %s", c.code, err, c.reason, c.rest)
			}
		}
		if text := err.Error(); !strings.Contains(text, c.text) || len(text) > 300 || strings.ContainsAny(text, "\n\x00\x1b") || !utf8.ValidString(text) {
			t.Errorf("%d says %q, want %q in it", c.code, text, c.text)
		}
	}
}

// A redirect leads where the guard has not looked, and makes a GET of a POST.
func TestARedirectIsNotFollowed(t *testing.T) {
	followed := make(chan struct{}, 1)
	c := peer(t, httpapi.ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			followed <- struct{}{}
			return
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	if f := failureOf(t, sendOne(t, c)); f.Reason != msgbus.PeerFailed {
		t.Errorf("reason %s", f.Reason)
	}
	select {
	case <-followed:
		t.Error("it was followed")
	default:
	}
}

// A proxy would connect on its own judgement, past the guard. net/http reads the
// environment once a process, so the test needs one of its own.
func TestTheEnvironmentsProxyIsIgnored(t *testing.T) {
	const child = "MSGBUSD_TEST_BEHIND_A_PROXY"
	if os.Getenv(child) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), child+"=1")
		for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
			cmd.Env = append(cmd.Env, name+"=http://192.0.2.1:3128")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	for _, scheme := range []string{"http://", "https://"} {
		var dialled []string
		c := client(t, httpapi.ClientOptions{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			dialled = append(dialled, address)
			return nil, errors.New("no network in this test")
		}}, endpoint(scheme+"198.51.100.7:8051"))
		failureOf(t, sendOne(t, c))
		if len(dialled) != 1 || dialled[0] != "198.51.100.7:8051" {
			t.Errorf("%s: dialled %v", scheme, dialled)
		}
	}
}

// An address that the guard forbids ends the message with its own reason; a peer
// that is away does not.
func TestADialThatFailsSaysWhetherToTryAgain(t *testing.T) {
	forbidden := msgbus.Refuse(msgbus.AddressNotAllowed, "127.0.0.1 is loopback")
	for _, dialError := range []error{forbidden, &net.OpError{Op: "dial", Err: forbidden}} {
		for _, scheme := range []string{"http://", "https://"} {
			c := client(t, httpapi.ClientOptions{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, dialError }}, endpoint(scheme+"127.0.0.1:6379"))
			var refusal *msgbus.Refusal
			if err := sendOne(t, c); !errors.As(err, &refusal) || refusal.Reason != msgbus.AddressNotAllowed || err.Error() != forbidden.Text {
				t.Errorf("%s: got %#v", scheme, err)
			}
		}
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	f := failureOf(t, sendOne(t, client(t, httpapi.ClientOptions{}, endpoint(address))))
	if f.Reason != msgbus.Unreachable || !strings.Contains(f.Detail, "connection refused") || strings.Contains(f.Detail, "zbus") {
		t.Errorf("got %q, reason %s", f.Detail, f.Reason)
	}
}

// What the directory says goes through: "not found" ends a message, "nobody
// knows now" does not.
func TestTheDirectorysWordGoesThroughToEveryMessage(t *testing.T) {
	for _, want := range []error{msgbus.Refuse(msgbus.TwinNotFound, "destination not found"), &msgbus.Failure{Reason: msgbus.ResolverUnavailable}} {
		c := client(t, httpapi.ClientOptions{}, nowhere{want})
		for i, err := range c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, request(), request())) {
			if err != want {
				t.Errorf("message %d: %v", i, err)
			}
		}
	}
	c := client(t, httpapi.ClientOptions{}, endpoint("bad host:1"))
	var refusal *msgbus.Refusal
	if err := sendOne(t, c); !errors.As(err, &refusal) || refusal.Reason != msgbus.BadAddress {
		t.Errorf("an address that no URL can hold: %#v", err)
	}
}

// One refused message must not hold up the others of its batch, and outcomes
// belong to their messages.
func TestOutcomesStandInTheOrderOfTheMessages(t *testing.T) {
	c := peer(t, httpapi.ClientOptions{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if m, _ := msgbus.Decode(body); m.UID == "1002.3" {
			w.WriteHeader(400)
		}
	})
	var messages []*msgbus.Message
	for n := range uint64(8) {
		m := request()
		m.UID = msgbus.FormatUID(self, n+1)
		messages = append(messages, m)
	}
	for i, err := range c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, messages...)) {
		if (err != nil) != (messages[i].UID == "1002.3") {
			t.Errorf("%s: %v", messages[i].UID, err)
		}
	}
}

// A dead twin costs one attempt, not one for each message that waits.
func TestTheRestIsNotTriedAfterAFailure(t *testing.T) {
	var mu sync.Mutex
	calls := 0
	c := peer(t, httpapi.ClientOptions{InFlight: 1}, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		calls++
		mu.Unlock()
		w.WriteHeader(500)
	})
	errs := c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, request(), request(), request()))
	for _, err := range errs {
		if f := failureOf(t, err); f.Reason != msgbus.PeerFailed {
			t.Errorf("got %v", f)
		}
	}
	if calls != 1 {
		t.Errorf("%d attempts", calls)
	}
}
