package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

// A relay's public side and another's client, which meet on a real socket or in
// memory.

const epochOfAsker = "5218"

// ours is a request as our relays send it: with an epoch.
func ours() *msgbus.Message {
	m := request()
	m.Epoch = epochOfAsker
	return m
}

// A resolver knows where one relay is, and the keys of a keyring.
type resolver struct {
	endpoint
	*keyring
}

func (r resolver) Verify(ctx context.Context, id uint32, challenge, signature []byte) error {
	return r.keyring.Verify(ctx, id, challenge, signature)
}

// client is that of twin 1001 for the bench's relay, which must be served.
func (b *bench) client(opts httpapi.ClientOptions) *httpapi.Client {
	b.t.Helper()
	opts.Twin = asker
	if opts.Now == nil {
		opts.Now = theClock
	}
	keys := &keyring{keys: b.keys.keys}
	c := httpapi.NewClient(opts, resolver{endpoint(b.url), keys}, b.asker)
	b.t.Cleanup(c.Close)
	return c
}

// A parcel is a transfer by hand: what a test changes before or after it is
// signed.
type parcel struct {
	head   transfer.Head
	header http.Header
	body   []byte
}

func newParcel(messages ...msgbus.Outgoing) *parcel {
	p := &parcel{header: http.Header{}, head: transfer.Head{
		Source: asker, Destination: self, Epoch: epochOfAsker, Encoding: transfer.Identity, Seal: transfer.None,
		Created: clock, Nonce: transfer.NewNonce(),
	}}
	for _, o := range messages {
		p.body = transfer.AppendMessage(p.body, o)
	}
	return p
}

func (p *parcel) sign(by *twin.Identity) *parcel {
	p.head.Digest = transfer.DigestOf(p.body)
	p.head.Sign(p.header, by)
	return p
}

func (b *bench) transfer(p *parcel) answer {
	b.t.Helper()
	req, err := http.NewRequest(http.MethodPost, b.url+transfer.Path, bytes.NewReader(p.body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header = p.header
	resp, err := http.DefaultClient.Do(req)
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

// isSigned tells whether the relay under test signed an answer.
func (a answer) isSigned() bool { return a.header.Get("Signature") != "" }

// The path of every message between two of these relays: all of a batch arrives
// in one POST, in order, requests and replies.
func TestManyMessagesGoInOneTransfer(t *testing.T) {
	b := newBench(t).serve()
	c := b.client(httpapi.ClientOptions{})
	var messages []msgbus.Outgoing
	for i := range 300 {
		m := ours()
		m.UID = fmt.Sprintf("%d.%d", self, i+1)
		messages = append(messages, msgbus.Outgoing{Kind: msgbus.RequestParcel, Message: m})
	}
	messages = slices.Insert(messages, 5, outgoing(msgbus.ReplyParcel, reply())...)
	for i, err := range c.Send(t.Context(), self, messages) {
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	var arrived []msgbus.Outgoing
	for _, got := range b.relay.transfers {
		if got.Source != asker || got.Epoch != epochOfAsker || len(got.Digest) != 32 || got.Signed != clock {
			t.Errorf("the relay is told %+v", got)
		}
		arrived = append(arrived, got.Messages...)
	}
	if len(b.relay.transfers) != 3 || len(arrived) != 301 {
		t.Fatalf("%d messages in %d transfers, want 301 in 3", len(arrived), len(b.relay.transfers))
	}
	for i, got := range arrived {
		if got.Kind != messages[i].Kind || got.Message.UID != messages[i].Message.UID || got.Message.Data != messages[i].Message.Data {
			t.Fatalf("message %d is %s %s, want %s %s", i, got.Kind, got.Message.UID, messages[i].Kind, messages[i].Message.UID)
		}
	}
}

// A message that the other relay does not take must not end others, and what is
// only put off must not end at all.
func TestEachMessageOfATransferHasItsOutcome(t *testing.T) {
	b := newBench(t).serve()
	b.relay.outcomes = []error{
		nil,
		msgbus.Refuse(msgbus.BelowWindow, "too old"),
		&msgbus.Deferral{Reason: msgbus.QueueFull, Detail: "full", After: 3 * time.Second},
		errors.New("Redis said something"),
		&msgbus.Panic{Value: "boom"},
	}
	c := b.client(httpapi.ClientOptions{})
	errs := c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, ours(), ours(), ours(), ours(), ours()))
	var refusal *msgbus.Refusal
	var later *msgbus.Deferral
	if errs[0] != nil {
		t.Error(errs[0])
	}
	for i, word := range map[int]string{1: "below_window", 4: "poison"} {
		if !errors.As(errs[i], &refusal) || refusal.Reason != msgbus.RefusedByPeer || !strings.Contains(refusal.Text, word) {
			t.Errorf("outcome %d is %v, want a refusal that says %s", i, errs[i], word)
		}
	}
	if !errors.As(errs[2], &later) || later.Reason != msgbus.QueueFull || later.After != 3*time.Second {
		t.Errorf("outcome 2 is %v", errs[2])
	}
	if !errors.As(errs[3], &later) || later.Reason != msgbus.StorageFailed || strings.Contains(errs[3].Error(), "Redis said") {
		t.Errorf("outcome 3 is %v", errs[3])
	}
}

// A stranger's transfer must cost the checks of its header fields and no more,
// and nothing is signed for one.
func TestATransferIsRefusedBeforeItsBodyIsRead(t *testing.T) {
	mallory := identity(t, "//Mallory", twin.SR25519)
	message := outgoing(msgbus.RequestParcel, ours())
	for name, c := range map[string]struct {
		change func(*parcel)
		by     *twin.Identity
		after  func(*parcel)
		code   int
		reason msgbus.Reason
	}{
		"by a stranger":       {by: mallory, code: 400, reason: msgbus.BadSignature},
		"of an unknown twin":  {change: func(p *parcel) { p.head.Source = 77 }, code: 400, reason: msgbus.TwinNotFound},
		"for another twin":    {change: func(p *parcel) { p.head.Destination = 1003 }, code: 400, reason: msgbus.WrongDestination},
		"of the own twin":     {change: func(p *parcel) { p.head.Source = self }, code: 400, reason: msgbus.WrongSource},
		"too old":             {change: func(p *parcel) { p.head.Created = clock - 61 }, code: 400, reason: msgbus.ClockSkew},
		"from the future":     {change: func(p *parcel) { p.head.Created = clock + 61 }, code: 400, reason: msgbus.ClockSkew},
		"with another epoch":  {after: func(p *parcel) { p.header.Set("Msgbus-Epoch", "ff") }, code: 400, reason: msgbus.BadSignature},
		"without a signature": {after: func(p *parcel) { p.header.Del("Signature") }, code: 400, reason: msgbus.Malformed},
		"with two epochs":     {after: func(p *parcel) { p.header.Add("Msgbus-Epoch", epochOfAsker) }, code: 400, reason: msgbus.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t).serve()
			p := newParcel(message...)
			if c.change != nil {
				c.change(p)
			}
			by := b.asker
			if c.by != nil {
				by = c.by
			}
			p.sign(by)
			if c.after != nil {
				c.after(p)
			}
			got := b.transfer(p)
			got.errorIs(t, c.code, c.reason, "")
			if got.isSigned() {
				t.Error("the refusal is signed: strangers could have anything signed")
			}
			if b.relay.taken() != 0 {
				t.Error("it was taken")
			}
		})
	}
}

// errorIsSigned is errorIs for an answer that the relay signed: it has a line's
// content type.
func (a answer) errorIsSigned(t testing.TB, code int, reason msgbus.Reason) {
	t.Helper()
	if a.code != code || !a.isSigned() || !strings.Contains(a.body, `"Reason":"`+string(reason)+`"`) {
		t.Errorf("got %d, signed %t: %s\nwant %d, reason %s, signed", a.code, a.isSigned(), a.body, code, reason)
	}
}

// What a twin signed and cannot be taken is told under our signature, so that
// nobody on the way can make it up.
func TestATransferThatCannotBeTakenIsAnsweredSigned(t *testing.T) {
	bomb := newParcel()
	bomb.head.Encoding = transfer.Gzip
	bomb.body = transfer.Compress(bytes.Repeat([]byte{'\n'}, 5<<20))
	torn := newParcel(outgoing(msgbus.RequestParcel, ours())...)
	torn.body = torn.body[:len(torn.body)-1]
	sealed := newParcel(outgoing(msgbus.RequestParcel, ours())...)
	sealed.head.Seal = `key="0123456789abcdef"`
	large := newParcel()
	large.body = bytes.Repeat([]byte{'\n'}, 5<<20)
	noGzip := newParcel(outgoing(msgbus.RequestParcel, ours())...)
	noGzip.head.Encoding = transfer.Gzip
	for name, c := range map[string]struct {
		parcel *parcel
		after  func(*parcel)
		code   int
		reason msgbus.Reason
	}{
		"another body":         {newParcel(outgoing(msgbus.RequestParcel, ours())...), func(p *parcel) { p.body = bytes.ToUpper(p.body) }, 400, msgbus.BadSignature},
		"a gzip bomb":          {bomb, nil, 413, msgbus.TooLarge},
		"too large":            {large, nil, 413, msgbus.TooLarge},
		"a torn line":          {torn, nil, 400, msgbus.Malformed},
		"not gzip":             {noGzip, nil, 400, msgbus.Malformed},
		"sealed, without keys": {sealed, nil, 409, msgbus.UnknownKey},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t).serve()
			c.parcel.sign(b.asker)
			if c.after != nil {
				c.after(c.parcel)
			}
			b.transfer(c.parcel).errorIsSigned(t, c.code, c.reason)
			if b.relay.taken() != 0 {
				t.Error("it was taken")
			}
		})
	}
	t.Run("accepted before", func(t *testing.T) {
		b := newBench(t).serve()
		b.relay.err = msgbus.ErrRepeated
		b.transfer(newParcel(outgoing(msgbus.RequestParcel, ours())...).sign(b.asker)).errorIsSigned(t, 409, msgbus.Replayed)
	})
	t.Run("Redis is full", func(t *testing.T) {
		b := newBench(t).serve()
		b.relay.err = fmt.Errorf("accept: %w", msgbus.ErrStorageFull)
		got := b.transfer(newParcel(outgoing(msgbus.RequestParcel, ours())...).sign(b.asker))
		got.errorIsSigned(t, 503, msgbus.StorageFull)
		if got.header.Get("Retry-After") == "" {
			t.Error("the peer is not told when to come again")
		}
	})
}

// Lines are as strict as the messages of version 1, and each is for itself.
func TestALineThatIsNoMessageOfItsTransferIsRefused(t *testing.T) {
	b := newBench(t).serve()
	change := func(kind msgbus.ParcelKind, m *msgbus.Message, f func(*msgbus.Message)) msgbus.Outgoing {
		f(m)
		return msgbus.Outgoing{Kind: kind, Message: m}
	}
	bad := []struct {
		out    msgbus.Outgoing
		reason msgbus.Reason
	}{
		{change(msgbus.RequestParcel, ours(), func(m *msgbus.Message) { m.Source = 1003 }), msgbus.WrongSource},
		{change(msgbus.RequestParcel, ours(), func(m *msgbus.Message) { m.Destinations = []uint32{1003} }), msgbus.WrongDestination},
		{change(msgbus.RequestParcel, ours(), func(m *msgbus.Message) { m.Epoch = "" }), msgbus.Malformed},
		{change(msgbus.RequestParcel, ours(), func(m *msgbus.Message) { m.Epoch = "ff" }), msgbus.Malformed},
		{change(msgbus.RequestParcel, ours(), func(m *msgbus.Message) { m.UID = "1003.1" }), msgbus.Malformed},
		{change(msgbus.RequestParcel, ours(), func(m *msgbus.Message) { m.ReturnQueue = "victim" }), msgbus.ReservedName},
		{change(msgbus.RequestParcel, ours(), func(m *msgbus.Message) { m.Proxied = true }), msgbus.Malformed},
		{change(msgbus.RequestParcel, ours(), func(m *msgbus.Message) { m.Command = "a b" }), msgbus.BadCommand},
		{change(msgbus.RequestParcel, ours(), func(m *msgbus.Message) { m.Signature = "73" }), msgbus.Malformed},
		{change(msgbus.ReplyParcel, reply(), func(m *msgbus.Message) { m.UID = "1003.1" }), msgbus.WrongSource},
		{change(msgbus.ReplyParcel, reply(), func(m *msgbus.Message) { m.Epoch = "not hex" }), msgbus.Malformed},
	}
	var messages []msgbus.Outgoing
	for _, c := range bad {
		messages = append(messages, c.out)
	}
	p := newParcel(append(messages, outgoing(msgbus.RequestParcel, ours())...)...)
	p.body = append(p.body, "{\"request\":{\"uid\":1,\"uid\":2}}\nnull\n{\"other\":{}}\n"...)
	got := b.transfer(p.sign(b.asker))
	outcomes, ok := transfer.ReadOutcomes([]byte(got.body), len(bad)+4)
	if got.code != 200 || !ok {
		t.Fatalf("got %d %s", got.code, got.body)
	}
	for i, c := range bad {
		if outcomes[i].Word != transfer.Refused || outcomes[i].Reason != c.reason {
			t.Errorf("line %d: %+v, want refused, %s", i, outcomes[i], c.reason)
		}
	}
	if o := outcomes[len(bad)]; o.Word != transfer.Accepted {
		t.Errorf("the good one between them: %+v", o)
	}
	for i := range 3 {
		if o := outcomes[len(bad)+1+i]; o.Word != transfer.Refused || o.Reason != msgbus.Malformed {
			t.Errorf("garbage %d: %+v", i, o)
		}
	}
	if n := len(b.relay.transfers[0].Messages); n != 1 {
		t.Errorf("the relay got %d messages", n)
	}
}

// A relay of before is told apart by its answer to a greeting, and spoken to as
// it understands; it is asked again after ten minutes, or when it has sent a
// transfer itself.
func TestAPeerThatKnowsNoTransfersGetsVersion1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var paths []string
		l := newPipes()
		s := httpapi.HTTPServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			paths = append(paths, req.URL.Path)
			if req.URL.Path == transfer.Path {
				http.NotFound(w, req)
			}
		}))
		go s.Serve(l)
		c := httpapi.NewClient(httpapi.ClientOptions{Dial: l.dial, Twin: asker}, endpoint("http://peer:8051"), identity(t, "//Alice", twin.SR25519))
		sent := func() string {
			t.Helper()
			if err := c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, ours()))[0]; err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got := strings.Join(paths, " ")
			paths = nil
			return got
		}
		for _, step := range []struct {
			before func()
			want   string
		}{
			{func() {}, "/zbus-transfer /zbus-remote"},
			{func() {}, "/zbus-remote"},
			{func() { <-time.After(11 * time.Minute) }, "/zbus-transfer /zbus-remote"},
			{func() { c.Greeted(self) }, "/zbus-transfer /zbus-remote"},
		} {
			step.before()
			if got := sent(); got != step.want {
				t.Errorf("posted to %q, want %q", got, step.want)
			}
		}
		c.Close()
		s.Close()
	})
}

// memory is a Memory in memory.
type memory struct {
	mu    sync.Mutex
	kept  map[uint32]string // guarded by mu
	saved int               // guarded by mu
}

func (m *memory) LoadPeer(_ context.Context, twin uint32) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if text, ok := m.kept[twin]; ok {
		return text, nil
	}
	return "", msgbus.ErrNotFound
}

func (m *memory) SavePeer(_ context.Context, twin uint32, offer string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		m.kept = make(map[uint32]string)
	}
	m.kept[twin] = offer
	m.saved++
	return nil
}

func (m *memory) ForgetPeer(_ context.Context, twin uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.kept, twin)
	return nil
}

// Somebody on the way answers 404 for a relay that speaks version 2, to have
// messages signed as in version 1. They wait; only a peer that goes on for ten
// minutes is believed, and the log says so. What is remembered outlives a restart.
//
// Broken by: in unknowing, `return true` where doubt begins, or doubtEnds = time.Hour.
func TestNobodyTalksAPeerDownSilently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		var mu sync.Mutex
		var down bool
		var single int
		l := newPipes()
		s := httpapi.HTTPServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			mu.Lock()
			now := down
			if req.URL.Path == "/zbus-remote" {
				single++
			}
			mu.Unlock()
			if now && req.URL.Path == transfer.Path {
				http.NotFound(w, req)
				return
			}
			b.handler.ServeHTTP(w, req)
		}))
		go s.Serve(l)
		kept := &memory{}
		start := func() *httpapi.Client {
			return httpapi.NewClient(httpapi.ClientOptions{Dial: l.dial, Twin: asker, Memory: kept, Now: theClock},
				resolver{"http://peer:8051", b.keys}, b.asker)
		}
		c := start()
		try := func() error { return c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, ours()))[0] }
		if err := try(); err != nil {
			t.Fatal(err)
		}
		c.Close()
		c = start() // which is to remember
		mu.Lock()
		down = true
		mu.Unlock()
		wantDowngraded := func() {
			if f := failureOf(t, try()); f.Reason != msgbus.Downgraded {
				t.Errorf("got %v", f)
			}
		}
		wantDowngraded() // and nothing is asked for long: that is no ten minutes of such answers
		<-time.After(15 * time.Minute)
		for range 30 {
			wantDowngraded()
			<-time.After(20 * time.Second)
		}
		if single != 0 {
			t.Errorf("%d messages went as version 1", single)
		}
		wantDowngraded() // is believed with this
		if err := try(); err != nil || single != 1 {
			t.Errorf("after ten minutes: %v, %d messages as version 1", err, single)
		}
		if _, err := kept.LoadPeer(t.Context(), self); !errors.Is(err, msgbus.ErrNotFound) {
			t.Error("it is still remembered")
		}
		c.Close()
		s.Close()
	})
}

// Only what the peer signed ends a message: all else may be somebody's on the
// way, and the message waits.
func TestAnAnswerThatThePeerDidNotSignEndsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w http.ResponseWriter, code int, header http.Header, body []byte)
		reason msgbus.Reason
	}{
		"a made-up acceptance": {func(w http.ResponseWriter, _ int, _ http.Header, _ []byte) {
			io.WriteString(w, "{\"outcome\":\"accepted\"}\n")
		}, msgbus.BadSignature},
		"a made-up refusal": {func(w http.ResponseWriter, _ int, _ http.Header, _ []byte) {
			w.WriteHeader(http.StatusForbidden)
		}, msgbus.PeerFailed},
		"another body": {func(w http.ResponseWriter, code int, header http.Header, _ []byte) {
			for k, v := range header {
				w.Header()[k] = v
			}
			w.Header().Del("Content-Length")
			w.WriteHeader(code)
			io.WriteString(w, "{\"outcome\":\"refused\",\"reason\":\"below_window\"}\n")
		}, msgbus.BadSignature},
		"another status": {func(w http.ResponseWriter, _ int, header http.Header, body []byte) {
			for k, v := range header {
				w.Header()[k] = v
			}
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			w.Write(body)
		}, msgbus.PeerFailed},
		"another key": {func(w http.ResponseWriter, code int, header http.Header, body []byte) {
			for k, v := range header {
				w.Header()[k] = v
			}
			w.Header().Set("Msgbus-Key", `id="0123456789abcdef", key=:`+strings.Repeat("A", 43)+`=:, until=99999999999`)
			w.WriteHeader(code)
			w.Write(body)
		}, msgbus.BadSignature},
		"an answer to another transfer": {func(w http.ResponseWriter, code int, header http.Header, body []byte) {
			for k, v := range header {
				w.Header()[k] = v
			}
			answer := transfer.AnswerHead{Status: code, Source: self, Key: transfer.None, Digest: transfer.DigestOf(body), Created: clock, Request: make([]byte, transfer.SignatureLength)}
			answer.Sign(w.Header(), identity(t, "//Bob", twin.ED25519))
			w.WriteHeader(code)
			w.Write(body)
		}, msgbus.BadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			inner := b.handler
			greeted := false
			b.handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if !greeted {
					greeted = true
					inner.ServeHTTP(w, req)
					return
				}
				rec := newRecorder()
				inner.ServeHTTP(rec, req)
				c.change(w, rec.code, rec.header, rec.body.Bytes())
			})
			b.serve()
			cl := b.client(httpapi.ClientOptions{})
			f := failureOf(t, cl.Send(t.Context(), self, outgoing(msgbus.RequestParcel, ours()))[0])
			if f.Reason != c.reason {
				t.Errorf("reason %s: %s; want %s", f.Reason, f.Detail, c.reason)
			}
		})
	}
}

// response is an answer that is kept.
type response struct {
	code   int
	header http.Header
	body   bytes.Buffer
}

func newRecorder() *response                    { return &response{code: 200, header: http.Header{}} }
func (r *response) Header() http.Header         { return r.header }
func (r *response) WriteHeader(code int)        { r.code = code }
func (r *response) Write(b []byte) (int, error) { return r.body.Write(b) }

// A peer with a smaller bound than ours gets fewer messages at a time, and one
// message that is too large for it ends.
func TestATransferThatIsTooLargeForThePeerIsSentInParts(t *testing.T) {
	b := newBench(t, func(o *httpapi.ServerOptions) { o.MaxBody = 24 << 10 }).serve()
	c := b.client(httpapi.ClientOptions{})
	var messages []*msgbus.Message
	for range 8 {
		m := ours()
		m.Data = strings.Repeat("QUJD", 5<<10)
		messages = append(messages, m)
	}
	messages[3].Data = strings.Repeat("QUJD", 20<<10)
	errs := c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, messages...))
	for i, err := range errs {
		var refusal *msgbus.Refusal
		if i == 3 && !(errors.As(err, &refusal) && refusal.Reason == msgbus.RefusedByPeer) || i != 3 && err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

// Requests of two histories of the source's Redis do not go together: the epoch
// is of the whole transfer.
func TestRequestsOfTwoEpochsGoInTwoTransfers(t *testing.T) {
	b := newBench(t).serve()
	c := b.client(httpapi.ClientOptions{CompressFrom: 1})
	other := ours()
	other.Epoch = "ff"
	for i, err := range c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, ours(), ours(), other)) {
		if err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if len(b.relay.transfers) != 2 || b.relay.transfers[0].Epoch != epochOfAsker || b.relay.transfers[1].Epoch != "ff" {
		t.Errorf("%+v", b.relay.transfers)
	}
}

// An operator who requires version 2 gets nothing signed with md5, in or out.
func TestVersion1IsNeitherTakenNorSentWhereVersion2IsRequired(t *testing.T) {
	b := newBench(t, func(o *httpapi.ServerOptions) { o.RequireV2 = true }).serve()
	for path, m := range map[string]*msgbus.Message{"/zbus-remote": request(), "/zbus-reply": reply(), "/zbus-cmd": command()} {
		b.send(path, sign(m, b.asker)).errorIs(t, http.StatusForbidden, msgbus.VersionRequired, "/zbus-transfer")
	}
	if b.relay.taken() != 0 {
		t.Error("it was taken")
	}
	c := peer(t, httpapi.ClientOptions{RequireV2: true}, func(http.ResponseWriter, *http.Request) { t.Error("version 1 was sent") })
	if f := failureOf(t, sendOne(t, c)); f.Reason != msgbus.VersionRequired {
		t.Errorf("got %v", f)
	}
}
