package httpapi_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

// A client without a relay gets the queue in which its answer will be.
func TestACommandIsAnsweredWithItsQueue(t *testing.T) {
	b := newBench(t).serve()
	for _, change := range []func(*msgbus.Message){
		func(*msgbus.Message) {},
		func(m *msgbus.Message) { m.Proxied = false },
		func(m *msgbus.Message) { m.ReturnQueue = uuid4 },
		func(m *msgbus.Message) { m.UID = "1002.1" },
	} {
		m := command()
		change(m)
		got := b.post("/zbus-cmd", "application/x-www-form-urlencoded", strings.NewReader(string(sign(m, b.asker).AppendWire(nil))))
		if got.code != 200 || got.body != `{"retqueue":"`+uuid4+`"}` {
			t.Errorf("got %d %s", got.code, got.body)
		}
	}
	if len(b.relay.commands) != 4 || len(b.relay.requests) != 0 {
		t.Errorf("the relay got %d commands and %d requests", len(b.relay.commands), len(b.relay.requests))
	}
}

// What a relay signs must not pass as a client's command, nor the other way round.
func TestMessagesOfRelaysAndOfClientsAreNotMixedUp(t *testing.T) {
	b := newBench(t).serve()
	result := command()
	result.MarkResult()
	elsewhere := command()
	elsewhere.ReturnQueue = "victim"
	for _, c := range []struct {
		path string
		m    *msgbus.Message
	}{
		{"/zbus-cmd", request()}, {"/zbus-cmd", reply()}, {"/zbus-cmd", result}, {"/zbus-cmd", elsewhere},
		{"/zbus-remote", command()}, {"/zbus-remote", reply()}, {"/zbus-remote", result},
		{"/zbus-reply", command()}, {"/zbus-reply", request()}, {"/zbus-reply", result},
	} {
		if got := b.send(c.path, sign(c.m, b.asker)); got.code != 400 {
			t.Errorf("%s takes %s: %d %s", c.path, c.m.AppendWire(nil), got.code, got.body)
		}
	}
	if b.keys.calls != 0 || b.relay.taken() != 0 {
		t.Errorf("%d lookups, %d taken", b.keys.calls, b.relay.taken())
	}
}

func ask(queue string) *strings.Reader { return strings.NewReader(`{"retqueue":"` + queue + `"}`) }

// Clients show this text as it is; a poll with anything else reads some other
// list of Redis.
func TestAResultIsAskedForByUUID(t *testing.T) {
	b := newBench(t).serve()
	b.results.held["msgbus.system.backlog"] = []string{`{}`}
	for _, body := range []string{"", "hello", `{}`, `{"retqueue":5}`, `{"retqueue":""}`, `{"retqueue":"msgbus.system.backlog"}`,
		`{"retqueue":"5bf6bc0c-72f1-1b2e-8c0c-e87d799fbc73"}`, // version 1
		`{"retqueue":"5bf6bc0c72f14b2e8c0ce87d799fbc73"}`, `{"retqueue":"urn:uuid:` + uuid4 + `"}`, `{"retqueue":"{` + uuid4 + `}"}`,
		`{"retqueue":"` + uuid4 + `"`, `["` + uuid4 + `"]`, `{"retqueue":"` + strings.Repeat("x", 5000) + `"}`} {
		got := b.post("/zbus-result", "", strings.NewReader(body))
		var e struct{ Message string }
		if err := json.Unmarshal([]byte(got.body), &e); err != nil || got.code != 400 || e.Message != "Invalid Retqueue, it should be a valid UUID" {
			t.Errorf("%.60q: %d %s", body, got.code, got.body)
		}
	}
	if b.results.looks != 0 {
		t.Errorf("Redis was read %d times", b.results.looks)
	}
}

// Clients poll until the list is not empty; an error instead of `[]` ends them.
func TestThereIsAnEmptyListUntilAResultIsThere(t *testing.T) {
	b := newBench(t).serve()
	b.results.held[uuid4] = nil
	for _, queue := range []string{uuid4, "00000000-0000-4000-8000-000000000000", strings.ToUpper(uuid4)} {
		if got := b.post("/zbus-result", "", ask(queue)); got.code != 200 || got.body != "[]" {
			t.Errorf("%s: %d %s", queue, got.code, got.body)
		}
	}
	b.results.err = errors.New("redis: secret")
	b.post("/zbus-result", "", ask(uuid4)).errorIs(t, 503, msgbus.StorageFailed, "storage")
}

// A client checks the signature over what it reads: data in plain text, a fresh
// now, this relay as the source.
func TestResultsAreDecodedFreshAndSigned(t *testing.T) {
	b := newBench(t).serve()
	encoded := base64.StdEncoding.EncodeToString([]byte(`{"sum":30}`))
	b.results.put(uuid4, `{"ver":1,"uid":"x","cmd":"calculator.add","dat":"`+encoded+`","src":5,"dst":[9],"ret":"other","now":1,"pxy":false,"err":"","sig":"stale","trace":7}`)
	b.results.put(uuid4, `not a message`)
	b.results.put(uuid4, `{"ver":1,"uid":"x","dat":"not base64!","err":"broken"}`)
	b.results.put(uuid4, `{"ver":1,"uid":"x","dat":"/w=="}`)
	var first string
	for range 2 { // reading does not remove them
		got := b.post("/zbus-result", "", ask(uuid4))
		var raw []json.RawMessage
		if err := json.Unmarshal([]byte(got.body), &raw); err != nil || got.code != 200 || len(raw) != 3 {
			t.Fatalf("%v: %d %s", err, got.code, got.body)
		}
		for i, wantData := range []string{`{"sum":30}`, "not base64!", "\ufffd"} {
			m, err := msgbus.Decode(raw[i])
			if err != nil {
				t.Fatal(err)
			}
			if m.Data != wantData || m.Now != clock || m.Source != self || len(m.Destinations) != 1 || m.Destinations[0] != asker ||
				m.ReturnQueue != uuid4 || !m.Proxied || m.Version != 1 {
				t.Errorf("result %d is %s", i, raw[i])
			}
			signature, err := hex.DecodeString(m.Signature)
			if err != nil {
				t.Fatal(err)
			}
			challenge := m.Challenge()
			if err := twin.Verify(b.self.PublicKey(), challenge[:], signature); err != nil {
				t.Errorf("result %d: %v", i, err)
			}
			for _, check := range []func(uint32) error{m.CheckProxied, m.CheckRemoteReply, m.CheckRemoteRequest} {
				if check(asker) == nil {
					t.Errorf("result %d would be taken by a relay as a message: %s", i, raw[i])
				}
			}
		}
		if !strings.Contains(string(raw[0]), `"trace":7`) || !strings.Contains(string(raw[1]), `"err":"broken"`) {
			t.Errorf("a member was lost: %s", got.body)
		}
		first = got.body
	}
	if strings.Contains(first, "stale") {
		t.Error("the service's stale signature is passed on")
	}
}

// poll asks on no socket, so that time can be a test's own.
func (b *bench) poll(ctx context.Context, query, from string) answer {
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/zbus-result"+query, ask(uuid4))
	req.RemoteAddr = from
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, req)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// A wait that is no duration is told, not taken for none.
func TestABadWaitIsRefused(t *testing.T) {
	b := newBench(t)
	for _, wait := range []string{"soon", "10", "-1s", "1e3s", "10s10"} {
		b.poll(context.Background(), "?wait="+wait, "192.0.2.1:1").errorIs(t, 400, msgbus.Malformed, "such as 10s")
	}
}

// A long poll answers when the result is there, not when its time is over.
func TestALongPollEndsWithItsResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.results.held[uuid4] = nil
		time.AfterFunc(3*time.Second, func() { b.results.put(uuid4, `{"ver":1,"uid":"x","dat":"MzA="}`) })
		start := time.Now()
		got := b.poll(t.Context(), "?wait=20s", "192.0.2.1:1")
		if got.code != 200 || !strings.Contains(got.body, `"dat":"30"`) {
			t.Errorf("got %d %s", got.code, got.body)
		}
		if took := time.Since(start); took < 3*time.Second || took > 3100*time.Millisecond {
			t.Errorf("it took %s for a result that came after 3s", took)
		}
	})
}

// A poll must end: at its time, at the longest one, or when the client is gone.
func TestALongPollWithoutAResultEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			query string
			gone  time.Duration // when the client goes away
			want  time.Duration
		}{
			{"", time.Hour, 0}, {"?wait=0s", time.Hour, 0}, {"?wait=2s", time.Hour, 2 * time.Second},
			{"?wait=24h", time.Hour, 30 * time.Second}, {"?wait=20s", time.Second, time.Second},
		} {
			b := newBench(t)
			b.results.held[uuid4] = nil
			ctx, cancel := context.WithTimeout(t.Context(), c.gone)
			start := time.Now()
			got := b.poll(ctx, c.query, "192.0.2.1:1")
			cancel()
			if took := time.Since(start); took != c.want || got.body != "[]" {
				t.Errorf("%q took %s, want %s: %s", c.query, took, c.want, got.body)
			}
		}
		// Nobody waits for what cannot come.
		b := newBench(t)
		start := time.Now()
		if got := b.poll(t.Context(), "?wait=20s", "192.0.2.1:1"); got.body != "[]" || time.Since(start) != 0 {
			t.Errorf("an unknown queue was waited for: %s", got.body)
		}
	})
}

// One address cannot take all of a relay's connections by waiting on them, and
// others do not pay for it.
func TestWaitsOfOneAddressAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *httpapi.ServerOptions) { o.MaxWaits = 3 })
		b.results.held[uuid4] = nil
		ctx, gone := context.WithCancel(t.Context())
		for port := range 3 {
			go b.poll(ctx, "?wait=20s", fmt.Sprintf("192.0.2.1:%d", port+1))
		}
		synctest.Wait()

		refused := b.poll(t.Context(), "?wait=20s", "192.0.2.1:99")
		refused.errorIs(t, 429, msgbus.Overloaded, "waiting")
		if refused.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After is %q", refused.header.Get("Retry-After"))
		}
		if got := b.poll(t.Context(), "", "192.0.2.1:99"); got.code != 200 {
			t.Errorf("a poll that does not wait is refused: %d", got.code)
		}
		if got := b.poll(t.Context(), "?wait=1s", "192.0.2.2:1"); got.code != 200 {
			t.Errorf("another address is refused: %d", got.code)
		}

		gone()
		synctest.Wait()
		if got := b.poll(t.Context(), "?wait=1s", "192.0.2.1:99"); got.code != 200 {
			t.Errorf("the address is refused after its waits have ended: %d", got.code)
		}
	})
}

// Whoever has one IPv6 address has 2^64 of them: they count as one. Those that
// carry an IPv4 address count as that.
func TestWaitsAreCountedByNetwork(t *testing.T) {
	for _, c := range []struct {
		one, other string
		same       bool
	}{
		{"[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::9]:2", true},
		{"[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1", false},
		{"[fe80::1%eth0]:1", "[fe80::2%eth1]:1", true},
		{"[::ffff:192.0.2.1]:1", "192.0.2.1:2", true},
		{"[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:1", false},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, func(o *httpapi.ServerOptions) { o.MaxWaits = 1 })
			b.results.held[uuid4] = nil
			go b.poll(t.Context(), "?wait=20s", c.one)
			synctest.Wait()
			if got := b.poll(t.Context(), "?wait=1s", c.other); (got.code == 429) != c.same {
				t.Errorf("%s and %s: %d", c.one, c.other, got.code)
			}
		})
	}
}

// Many addresses together cannot take all of a relay's connections either.
func TestWaitsOfAllAddressesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 256
		b := newBench(t)
		b.results.held[uuid4] = nil
		ctx, gone := context.WithCancel(t.Context())
		for n := range most {
			go b.poll(ctx, "?wait=20s", fmt.Sprintf("198.51.100.%d:1", n))
		}
		synctest.Wait()
		b.poll(t.Context(), "?wait=20s", "192.0.2.1:1").errorIs(t, 429, msgbus.Overloaded, "waiting")
		gone()
		synctest.Wait()
		if got := b.poll(t.Context(), "?wait=1s", "192.0.2.1:1"); got.code != 200 {
			t.Errorf("refused after all waits have ended: %d", got.code)
		}
	})
}

// A stop must not wait half a minute for clients that wait.
func TestALongPollEndsWhenTheRelayStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		b := newBench(t, func(o *httpapi.ServerOptions) { o.Stop = stop })
		b.results.held[uuid4] = nil
		time.AfterFunc(2*time.Second, func() { close(stop) })
		start := time.Now()
		if got := b.poll(t.Context(), "?wait=20s", "192.0.2.1:1"); got.code != 200 || got.body != "[]" {
			t.Errorf("got %d %s", got.code, got.body)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("it took %s with a stop after 2s", took)
		}
	})
}
