package httpapi_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A tally counts messages by what their senders are told.
type tally struct {
	mu    sync.Mutex
	count map[msgbus.Reason]int // guarded by mu
}

func (c *tally) MessagesReceived(why msgbus.Reason, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = make(map[msgbus.Reason]int)
	}
	c.count[why] += n
}

// want wants these to have been counted since it was last called.
func (c *tally) want(t *testing.T, what string, want map[msgbus.Reason]int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !maps.Equal(c.count, want) {
		t.Errorf("%s is counted as %v, want %v", what, c.count, want)
	}
	c.count = nil
}

// Half of what comes is turned away, and the metrics of the relay show a quiet day; or the
// messages of a transfer count as one.
func TestEachMessageIsCountedAsItsSenderIsTold(t *testing.T) {
	var c tally
	b := newBench(t, func(o *httpapi.ServerOptions) { o.Observer = &c }).serve()
	type counts = map[msgbus.Reason]int

	b.send("/zbus-remote", sign(request(), b.asker))
	c.want(t, "a request", counts{"": 1})
	b.send("/zbus-reply", sign(reply(), b.asker))
	c.want(t, "a reply", counts{"": 1})
	b.send("/zbus-cmd", sign(command(), b.asker))
	c.want(t, "a command", counts{"": 1})
	b.send("/zbus-remote", sign(request(), b.self))
	c.want(t, "a forged request", counts{msgbus.BadSignature: 1})
	b.post("/zbus-remote", "application/json", strings.NewReader("no message"))
	c.want(t, "no message", counts{msgbus.Malformed: 1})

	b.relay.outcomes = []error{nil, &msgbus.Deferral{Reason: msgbus.QueueFull}, msgbus.Refuse(msgbus.BelowWindow, "old"), errors.New("Redis"), nil}
	b.transfer(newParcel(outgoing(msgbus.RequestParcel, ours(), ours(), ours(), ours(), ours())...).sign(b.asker))
	c.want(t, "a transfer", counts{"": 2, msgbus.QueueFull: 1, msgbus.BelowWindow: 1, msgbus.StorageFailed: 1})
	b.transfer(newParcel().sign(b.asker))
	c.want(t, "a greeting", nil)
	b.transfer(newParcel(outgoing(msgbus.RequestParcel, ours(), ours())...).sign(b.self))
	c.want(t, "a forged transfer", counts{msgbus.BadSignature: 1})
	b.relay.outcomes, b.relay.err = nil, msgbus.ErrRepeated
	b.transfer(newParcel(outgoing(msgbus.RequestParcel, ours(), ours())...).sign(b.asker))
	c.want(t, "a transfer that was accepted before", counts{msgbus.Replayed: 1})

	b = newBench(t, func(o *httpapi.ServerOptions) { o.Observer, o.RequireV2 = &c, true }).serve()
	b.send("/zbus-remote", sign(request(), b.asker))
	c.want(t, "a request of version 1", counts{msgbus.VersionRequired: 1})
	b.results.err = errors.New("Redis")
	b.post("/zbus-result", "application/json", strings.NewReader(`{"retqueue":"`+uuid4+`"}`))
	c.want(t, "a question for results, which is no message", nil)
}

// Prometheus finds nothing at its usual path, or a relay that has no metrics says that it
// has.
func TestTheAdminSideShowsMetricsIfThereAreAny(t *testing.T) {
	ready := func(context.Context) error { return nil }
	shown := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1") })
	for _, c := range []struct {
		metrics http.Handler
		method  string
		code    int
		body    string
	}{
		{shown, http.MethodGet, 200, "up 1"},
		{shown, http.MethodPost, 405, ""},
		{nil, http.MethodGet, 404, ""},
	} {
		w := httptest.NewRecorder()
		httpapi.AdminHandler(ready, c.metrics).ServeHTTP(w, httptest.NewRequest(c.method, "/metrics", nil))
		if w.Code != c.code || c.body != "" && w.Body.String() != c.body {
			t.Errorf("%s /metrics (there: %v): %d %q", c.method, c.metrics != nil, w.Code, w.Body)
		}
	}
}
