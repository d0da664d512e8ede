package httpapi_test

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

// Published relays accept nothing but 200 with this body, and send it again
// otherwise.
func TestASignedMessageIsTakenAndSaidToBe(t *testing.T) {
	b := newBench(t).serve()
	for path, m := range map[string]*msgbus.Message{"/zbus-remote": request(), "/zbus-reply": reply()} {
		got := b.send(path, sign(m, b.asker))
		if got.code != 200 || got.body != `{"status":"accepted"}` || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s answers %d %s", path, got.code, got.body)
		}
	}
	if len(b.relay.requests) != 1 || len(b.relay.replies) != 1 {
		t.Fatalf("the relay got %d requests and %d replies", len(b.relay.requests), len(b.relay.replies))
	}
	want := request()
	got := b.relay.requests[0]
	want.Signature = got.Signature
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Twins have keys of either type; one of ours that refuses a type cuts off half
// of the network.
func TestBothKeyTypesAreTaken(t *testing.T) {
	b := newBench(t).serve()
	ed := identity(t, "//Charlie", twin.ED25519)
	b.keys.keys[1003] = ed.PublicKey()
	m := request()
	m.Source = 1003
	if got := b.send("/zbus-remote", sign(m, ed)); got.code != 200 {
		t.Errorf("got %d %s", got.code, got.body)
	}
}

// The archived daemon sends no Content-Type, a JS client claims a form.
func TestTheContentTypeIsIgnored(t *testing.T) {
	b := newBench(t).serve()
	for _, contentType := range []string{"", "application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"} {
		body := strings.NewReader(string(sign(request(), b.asker).AppendWire(nil)))
		if got := b.post("/zbus-remote", contentType, body); got.code != 200 {
			t.Errorf("%q: %d %s", contentType, got.code, got.body)
		}
	}
}

// Operators of other twins read these words in their logs, their clients show
// Message, and their relays go by the status.
func TestEveryErrorHasItsStatusAndItsWords(t *testing.T) {
	b := newBench(t).serve()
	b.keys.keys[1003] = b.self.PublicKey() // another key than the asker's
	signed := func(change func(*msgbus.Message)) string {
		m := request()
		change(m)
		return string(sign(m, b.asker).AppendWire(nil))
	}
	for name, c := range map[string]struct {
		body   string
		code   int
		reason msgbus.Reason
		text   string
	}{
		"no JSON":         {"hello", 400, msgbus.Malformed, "not a JSON object"},
		"nothing":         {"", 400, msgbus.Malformed, "not a JSON object"},
		"duplicate keys":  {`{"dst":[1],"dst":[2]}`, 400, msgbus.Malformed, "duplicate"},
		"too old":         {signed(func(m *msgbus.Message) { m.Now = clock - 61 }), 400, msgbus.ClockSkew, "too old"},
		"very old":        {signed(func(m *msgbus.Message) { m.Now = -1 << 63 }), 400, msgbus.ClockSkew, "too old"},
		"no time":         {signed(func(m *msgbus.Message) { m.Now = 0 }), 400, msgbus.ClockSkew, "too old"},
		"from the future": {signed(func(m *msgbus.Message) { m.Now = clock + 61 }), 400, msgbus.ClockSkew, "from the future"},
		"far future":      {signed(func(m *msgbus.Message) { m.Now = 1<<63 - 1 }), 400, msgbus.ClockSkew, "from the future"},
		"milliseconds":    {signed(func(m *msgbus.Message) { m.Now = clock * 1000 }), 400, msgbus.ClockSkew, "from the future"},
		"unknown twin":    {signed(func(m *msgbus.Message) { m.Source = 7 }), 400, msgbus.TwinNotFound, "source twin 7 not found"},
		"another's name":  {signed(func(m *msgbus.Message) { m.Source = 1003 }), 400, msgbus.BadSignature, "bad signature"},
		"no signature":    {string(request().AppendWire(nil)), 400, msgbus.BadSignature, "hex of 65 bytes"},
		"other twin":      {signed(func(m *msgbus.Message) { m.Destinations = []uint32{1003} }), 400, msgbus.WrongDestination, "serves twin 1002"},
		"two twins":       {signed(func(m *msgbus.Message) { m.Destinations = []uint32{self, 1003} }), 400, msgbus.WrongDestination, "serves twin 1002"},
		"our own name":    {signed(func(m *msgbus.Message) { m.Source = self }), 400, msgbus.WrongSource, "own"},
		"ret of a choice": {signed(func(m *msgbus.Message) { m.ReturnQueue = "victim" }), 400, msgbus.ReservedName, "msgbus.system.reply"},
		"pxy":             {signed(func(m *msgbus.Message) { m.Proxied = true }), 400, msgbus.Malformed, "pxy"},
		"another's uid":   {signed(func(m *msgbus.Message) { m.UID = "1003.7" }), 400, msgbus.Malformed, "1002.<n>"},
		"a strange cmd":   {signed(func(m *msgbus.Message) { m.Command = "a b" }), 400, msgbus.BadCommand, "cmd"},
		"a strange epoch": {signed(func(m *msgbus.Message) { m.Epoch = "a:b" }), 400, msgbus.Malformed, "epoch"},
		"a long epoch":    {signed(func(m *msgbus.Message) { m.Epoch = strings.Repeat("a", 33) }), 400, msgbus.Malformed, "epoch"},
	} {
		t.Run(name, func(t *testing.T) {
			b.post("/zbus-remote", "application/json", strings.NewReader(c.body)).errorIs(t, c.code, c.reason, c.text)
		})
	}
	if n := b.relay.taken(); n != 0 {
		t.Errorf("%d of them reached the relay", n)
	}
}

// A clock that is a minute off still works; WIRE.md's limit is 60 s.
func TestAMinuteOfSkewIsAllowedBothWays(t *testing.T) {
	b := newBench(t).serve()
	for _, off := range []int64{-60, -30, 0, 30, 60} {
		m := request()
		m.Now = clock + off
		if got := b.send("/zbus-remote", sign(m, b.asker)); got.code != 200 {
			t.Errorf("%+d s: %d %s", off, got.code, got.body)
		}
	}
}

// What the relay, its resolver or its storage cannot do now must not look like
// the message's fault, or the sender drops it.
//
// Broken by: in status, without TooManyLookups.
func TestWhatTheRelayCannotDoIsNotTheSendersFault(t *testing.T) {
	for name, c := range map[string]struct {
		keys, relay error
		code        int
		reason      msgbus.Reason
		retry       string
	}{
		"resolver down":     {msgbus.Refuse(msgbus.ResolverUnavailable, "key lookup failed"), nil, 502, msgbus.ResolverUnavailable, ""},
		"too many lookups":  {msgbus.Refuse(msgbus.TooManyLookups, "too many twins are being looked up"), nil, 503, msgbus.TooManyLookups, "1"},
		"redis down":        {nil, errors.New("dial tcp 127.0.0.1:6379: secret detail"), 503, msgbus.StorageFailed, "1"},
		"redis full":        {nil, fmt.Errorf("accept: %w", msgbus.ErrStorageFull), 503, msgbus.StorageFull, "1"},
		"queue full":        {nil, msgbus.Refuse(msgbus.QueueFull, "queue is full"), 503, msgbus.QueueFull, "1"},
		"below the window":  {nil, msgbus.Refuse(msgbus.BelowWindow, "too old a uid"), 409, msgbus.BelowWindow, ""},
		"not exposed":       {nil, msgbus.Refuse(msgbus.NotExposed, "no"), 403, msgbus.NotExposed, ""},
		"not from the twin": {nil, fmt.Errorf("x: %w", msgbus.Refuse(msgbus.WrongSource, "no")), 400, msgbus.WrongSource, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t).serve()
			b.keys.err, b.relay.err = c.keys, c.relay
			got := b.send("/zbus-remote", sign(request(), b.asker))
			got.errorIs(t, c.code, c.reason, "")
			if got.header.Get("Retry-After") != c.retry {
				t.Errorf("Retry-After is %q, want %q", got.header.Get("Retry-After"), c.retry)
			}
			if strings.Contains(got.body, "secret") {
				t.Errorf("the error's own words reach a stranger: %s", got.body)
			}
		})
	}
}

// Looking up a twin costs a call of the resolver: a stranger who can cause one
// with rubbish has a lever.
func TestNobodyIsLookedUpForAMessageThatCannotBeTaken(t *testing.T) {
	b := newBench(t).serve()
	for name, change := range map[string]func(*msgbus.Message){
		"destination": func(m *msgbus.Message) { m.Destinations = []uint32{9} },
		"source":      func(m *msgbus.Message) { m.Source = 0 },
		"uid":         func(m *msgbus.Message) { m.UID = "x" },
		"ret":         func(m *msgbus.Message) { m.ReturnQueue = "x" },
		"cmd":         func(m *msgbus.Message) { m.Command = "" },
		"dat":         func(m *msgbus.Message) { m.Data = "*" },
		"epoch":       func(m *msgbus.Message) { m.Epoch = "XYZ" },
		"old":         func(m *msgbus.Message) { m.Now = clock - 61 },
		"future":      func(m *msgbus.Message) { m.Now = clock + 61 },
		"no sig":      func(m *msgbus.Message) { m.Signature = "" },
		"short sig":   func(m *msgbus.Message) { m.Signature = m.Signature[:128] },
		"long sig":    func(m *msgbus.Message) { m.Signature += "00" },
		"odd sig":     func(m *msgbus.Message) { m.Signature += "0" },
		"no hex":      func(m *msgbus.Message) { m.Signature = strings.Repeat("zz", 65) },
	} {
		for _, path := range []string{"/zbus-remote", "/zbus-reply", "/zbus-cmd"} {
			m := sign(request(), b.asker)
			change(m)
			if got := b.send(path, m); got.code != 400 {
				t.Errorf("%s, %s: %d %s", path, name, got.code, got.body)
			}
		}
	}
	b.post("/zbus-remote", "", strings.NewReader(`{"dst":[1],"dst":[2]}`))
	if b.keys.calls != 0 {
		t.Errorf("twins were looked up %d times", b.keys.calls)
	}
	b.send("/zbus-remote", sign(request(), b.asker))
	if b.keys.calls != 1 {
		t.Errorf("a good message was checked %d times", b.keys.calls)
	}
}

// Every field that version 1 signs, changed on the way, must break it.
func TestAChangedMessageIsRefused(t *testing.T) {
	b := newBench(t).serve()
	for name, change := range map[string]func(*msgbus.Message){
		"ver": func(m *msgbus.Message) { m.Version = 2 },
		"uid": func(m *msgbus.Message) { m.UID = "1002.8" },
		"cmd": func(m *msgbus.Message) { m.Command = "calculator.sub" },
		"dat": func(m *msgbus.Message) { m.Data = "" },
		"src": func(m *msgbus.Message) { m.Source = 1003; b.keys.keys[1003] = b.self.PublicKey() },
		"now": func(m *msgbus.Message) { m.Now++ },
		"sig": func(m *msgbus.Message) { m.Signature = m.Signature[:129] + flip(m.Signature[129]) },
		"key": func(m *msgbus.Message) { m.Signature = "65" + m.Signature[2:] },
	} {
		m := sign(request(), b.asker)
		change(m)
		b.send("/zbus-remote", m).errorIs(t, 400, msgbus.BadSignature, "signature")
		if b.relay.taken() != 0 {
			t.Fatalf("%s: it was taken", name)
		}
	}
}

func flip(digit byte) string {
	if digit == '0' {
		return "1"
	}
	return "0"
}

// A signature is accepted once, told by its text. The same bytes in capital
// letters would be taken, and handled, again.
func TestTheTextOfASignatureIsMadeUniform(t *testing.T) {
	b := newBench(t).serve()
	m := sign(request(), b.asker)
	lower := m.Signature
	m.Signature = strings.ToUpper(lower)
	if got := b.send("/zbus-remote", m); got.code != 200 {
		t.Fatalf("got %d %s", got.code, got.body)
	}
	if got := b.relay.requests[0].Signature; got != lower {
		t.Errorf("the relay is told of signature %s, want %s", got, lower)
	}
}

// The key msgbusd is a relay's note to itself; a stranger's is thrown away.
func TestAStrangersNoteIsThrownAway(t *testing.T) {
	b := newBench(t).serve()
	m := sign(request(), b.asker)
	body := strings.Replace(string(m.AppendWire(nil)), "{", `{"msgbusd":{"deadline":1},`, 1)
	if got := b.post("/zbus-remote", "", strings.NewReader(body)); got.code != 200 {
		t.Fatalf("got %d %s", got.code, got.body)
	}
	if note := b.relay.requests[0].Note; note != nil {
		t.Errorf("the relay is given the note %s", note)
	}
}

// Reserved commands and other versions are not refused here: the relay answers
// them with an error reply, which the app sees, where a status would not be.
func TestWhatIsAnsweredRatherThanRefusedReachesTheRelay(t *testing.T) {
	b := newBench(t).serve()
	for _, change := range []func(*msgbus.Message){
		func(m *msgbus.Message) { m.Command = "system.local" },
		func(m *msgbus.Message) { m.Version = 2 },
		func(m *msgbus.Message) { m.Expiration = 1 },
	} {
		m := request()
		change(m)
		if got := b.send("/zbus-remote", sign(m, b.asker)); got.code != 200 {
			t.Errorf("got %d %s", got.code, got.body)
		}
	}
	if n := len(b.relay.requests); n != 3 {
		t.Errorf("%d of 3 reached the relay", n)
	}
}

// A reply is taken only from the twin that its uid was given for.
func TestAReplyComesFromTheTwinThatWasAsked(t *testing.T) {
	b := newBench(t).serve()
	m := reply()
	m.UID = "1003.9"
	b.send("/zbus-reply", sign(m, b.asker)).errorIs(t, 400, msgbus.WrongSource, "1003.9")
	if b.relay.taken() != 0 {
		t.Error("it was taken")
	}
}

// Anything but a POST of the five paths is none of this side's business.
func TestOtherPathsAndMethodsAreNotServed(t *testing.T) {
	b := newBench(t).serve()
	for path, want := range map[string]int{"/zbus-remote": 405, "/": 404, "/metrics": 404, "/healthz": 404, "/zbus-transfer": 405} {
		resp, err := http.Get(b.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s answers %d, want %d", path, resp.StatusCode, want)
		}
	}
}
