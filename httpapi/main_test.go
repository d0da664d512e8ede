package httpapi_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The twins of these tests: 1001 asks, 1002 is served by the relay under test.
const (
	asker = 1001
	self  = 1002
	clock = 1_700_000_000
	uuid4 = "5bf6bc0c-72f1-4b2e-8c0c-e87d799fbc73"
)

func identity(t testing.TB, secret string, kt twin.KeyType) *twin.Identity {
	t.Helper()
	id, err := twin.NewIdentity(secret, kt)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A relay that records what it is given.
type recorder struct {
	mu        sync.Mutex // guards what follows
	requests  []*msgbus.Message
	replies   []*msgbus.Message
	commands  []*msgbus.Message
	transfers []*msgbus.Transfer
	outcomes  []error // of the messages of a transfer
	err       error

	hang chan struct{} // if not nil, what is taken is dealt with when it is closed
}

func (r *recorder) take(list *[]*msgbus.Message, m *msgbus.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	*list = append(*list, m)
	if r.hang != nil {
		r.mu.Unlock()
		<-r.hang
		r.mu.Lock()
	}
	return r.err
}

func (r *recorder) AcceptRequest(_ context.Context, m *msgbus.Message) error {
	return r.take(&r.requests, m)
}

func (r *recorder) AcceptReply(_ context.Context, m *msgbus.Message) error {
	return r.take(&r.replies, m)
}

func (r *recorder) AcceptCommand(_ context.Context, m *msgbus.Message) (string, error) {
	return uuid4, r.take(&r.commands, m)
}

func (r *recorder) AcceptTransfer(_ context.Context, t *msgbus.Transfer) ([]error, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.transfers = append(r.transfers, t)
	outcomes := make([]error, len(t.Messages))
	copy(outcomes, r.outcomes)
	return outcomes, r.err
}

func (r *recorder) taken() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests) + len(r.replies) + len(r.commands) + len(r.transfers)
}

// A keyring knows some twins, and counts who asks.
type keyring struct {
	mu    sync.Mutex // guards what follows
	keys  map[uint32]twin.PublicKey
	calls int
	err   error
}

func (k *keyring) Verify(_ context.Context, id uint32, challenge, signature []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	if k.err != nil {
		return k.err
	}
	key, known := k.keys[id]
	if !known {
		return msgbus.Refuse(msgbus.TwinNotFound, "source twin %d not found", id)
	}
	if twin.Verify(key, challenge, signature) != nil {
		return msgbus.Refuse(msgbus.BadSignature, "bad signature")
	}
	return nil
}

// box holds results; a put is told to nobody, as with Redis.
type box struct {
	mu    sync.Mutex // guards what follows
	held  map[string][]string
	err   error
	looks int
}

func (b *box) Results(_ context.Context, queue string) (uint32, []string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looks++
	if b.err != nil {
		return 0, nil, b.err
	}
	messages, known := b.held[queue]
	if !known {
		return 0, nil, msgbus.ErrNotFound
	}
	return asker, messages, nil
}

func (b *box) put(queue, message string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[queue] = append(b.held[queue], message)
}

// theClock is the clock of relays and clients under test: it stands still.
func theClock() time.Time { return time.Unix(clock, 0) }

// A bench is a relay's public side with everything around it.
type bench struct {
	t       testing.TB
	relay   *recorder
	keys    *keyring
	results *box
	asker   *twin.Identity
	self    *twin.Identity
	server  *httpapi.Server
	handler http.Handler
	url     string // empty until serve
}

func newBench(t testing.TB, change ...func(*httpapi.ServerOptions)) *bench {
	b := &bench{
		t: t, relay: &recorder{}, results: &box{held: map[string][]string{}},
		asker: identity(t, "//Alice", twin.SR25519), self: identity(t, "//Bob", twin.ED25519),
	}
	b.keys = &keyring{keys: map[uint32]twin.PublicKey{asker: b.asker.PublicKey(), self: b.self.PublicKey()}}
	opts := httpapi.ServerOptions{Twin: self, Now: theClock}
	for _, c := range change {
		c(&opts)
	}
	b.server = httpapi.NewServer(opts, b.relay, b.results, b.keys, b.self)
	b.handler = b.server.Handler()
	return b
}

// serve puts the bench on a real socket.
func (b *bench) serve() *bench {
	s := httptest.NewUnstartedServer(nil)
	s.Config = httpapi.HTTPServer(b.handler)
	s.Start()
	b.t.Cleanup(s.Close)
	b.t.Cleanup(http.DefaultClient.CloseIdleConnections)
	b.url = s.URL
	return b
}

// An answer is what came back.
type answer struct {
	code   int
	header http.Header
	body   string
}

func (b *bench) post(path, contentType string, body io.Reader) answer {
	b.t.Helper()
	resp, err := http.Post(b.url+path, contentType, body)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func (b *bench) send(path string, m *msgbus.Message) answer {
	b.t.Helper()
	return b.post(path, "application/json", bytes.NewReader(m.AppendWire(nil)))
}

// errorIs fails the test when an answer is not an error with these words in it.
func (a answer) errorIs(t testing.TB, code int, reason msgbus.Reason, text string) {
	t.Helper()
	var body map[string]string
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		t.Errorf("the body is no JSON object of text: %v: %s", err, a.body)
		return
	}
	if a.code != code || body["Status"] != "error" || body["Reason"] != string(reason) || !strings.Contains(body["Message"], text) {
		t.Errorf("got %d %s\nwant %d, reason %s, text %q", a.code, a.body, code, reason, text)
	}
	if a.header.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type is %q", a.header.Get("Content-Type"))
	}
}

func sign(m *msgbus.Message, by *twin.Identity) *msgbus.Message {
	challenge := m.Challenge()
	m.Signature = hex.EncodeToString(by.Sign(challenge[:]))
	return m
}

// request is one of twin 1001 for the relay under test; unsigned.
func request() *msgbus.Message {
	return &msgbus.Message{Version: 1, UID: "1002.7", Command: "calculator.add", Expiration: 30, Retry: 2, Data: "WzEwLDIwXQ==", Source: asker,
		Destinations: []uint32{self}, ReturnQueue: msgbus.WireReplyQueue, Now: clock}
}

// reply is twin 1001's to a request of the relay under test; unsigned.
func reply() *msgbus.Message {
	m := request()
	m.UID, m.Data = "1001.9", "MzA="
	return m
}

// command is one of twin 1001 without a relay; unsigned.
func command() *msgbus.Message {
	m := request()
	m.UID, m.ReturnQueue, m.Proxied = "", "", true
	return m
}
