package gateway_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/gateway"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/msgbus"
)

// usersPattern is what gateways hear of users by.
const usersPattern = "msgbus/presence.*.user.#"

// patience is when an event counts as one that will not come.
const patience = 45 * time.Second

// A rig is a Redis with a gateway to it, and a test that plays the relay.
type rig struct {
	*testing.T
	server *redistest.Server
	rdb    *redis.Client
	app    *client.Client
	*site
}

// A site is one gateway.
type site struct {
	t         *testing.T
	url       string
	log       *log
	seen      *observer
	interrupt func() // asks the gateway to end
	stop      func() // the same, and returns when it has ended
}

func newRig(t *testing.T, change ...func(*gateway.Options)) *rig {
	t.Helper()
	r := &rig{T: t, server: redistest.Start(t)}
	r.rdb = r.server.Client()
	r.app = r.open()
	r.playRelay()
	r.site = r.newSite(change...)
	return r
}

// open returns a client that is closed when the test ends.
func (r *rig) open() *client.Client {
	r.Helper()
	c, err := client.Open(client.Options{Redis: r.server.URL()})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := c.Close(); err != nil {
			r.Logf("close a client: %v", err)
		}
	})
	return c
}

// newSite starts a gateway, and returns when it hears of users.
func (r *rig) newSite(change ...func(*gateway.Options)) *site {
	r.Helper()
	s := &site{t: r.T, log: &log{}, seen: &observer{connected: make(map[string]int), refused: make(map[string]int)}}
	opts := gateway.Options{Secret: secret, Log: zerolog.New(s.log), Observer: s.seen}
	for _, f := range change {
		f(&opts)
	}
	g, err := gateway.New(opts, gateway.OnClient(r.open(), nil))
	if err != nil {
		r.Fatal(err)
	}
	server := httptest.NewUnstartedServer(g.Handler())
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10) // so that a page that does not read is soon seen
		return ctx
	}
	// The limits of the relay's servers, which are for requests that are short.
	server.Config.ReadTimeout, server.Config.WriteTimeout = time.Second, time.Second
	server.Start()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	before := r.countChannel(usersPattern)
	go func() {
		defer close(ended)
		g.Run(ctx)
	}()
	s.url = server.URL
	s.interrupt = stop
	s.stop = func() {
		stop()
		await(r.T, ended, "the end of the gateway")
	}
	r.Cleanup(func() {
		s.stop()
		server.Close()
	})
	eventually(r.T, "the gateway", func() error {
		return r.wantListeners(usersPattern, before+1)
	})
	return s
}

// countChannel is how many connections listen to a pattern's channel.
func (r *rig) countChannel(pattern string) int64 {
	channel := "msgbus.events." + pattern
	n, err := r.rdb.PubSubNumSub(r.Context(), channel).Result()
	if err != nil {
		r.Error(err)
	}
	return n[channel]
}

// wantListeners is an error unless at least so many connections of gateways listen.
func (r *rig) wantListeners(pattern string, n int64) error {
	if got := r.countChannel(pattern); got < n {
		return fmt.Errorf("%d listen to %s", got, pattern)
	}
	return nil
}

// playRelay publishes on this machine what apps of it publish, as the relay does.
func (r *rig) playRelay() {
	r.Helper()
	rdb := r.server.Client()
	ctx, cancel := context.WithCancel(context.Background())
	var playing sync.WaitGroup
	playing.Go(func() {
		for ctx.Err() == nil {
			got, err := rdb.BLPop(ctx, time.Second, "msgbus.system.local").Result()
			if err == nil {
				relayEvent(ctx, rdb, got[1])
			} else if !errors.Is(err, redis.Nil) {
				rest(ctx)
			}
		}
	})
	r.Cleanup(func() {
		cancel()
		_ = rdb.Close()
		playing.Wait()
	})
}

// rest is between two attempts at a Redis that is away.
func rest(ctx context.Context) {
	timer := time.NewTimer(20 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func relayEvent(ctx context.Context, rdb *redis.Client, raw string) {
	var m struct {
		Cmd, Dat string
		Ext      struct {
			Topic  string
			Retain bool
		}
	}
	if json.Unmarshal([]byte(raw), &m) != nil || m.Cmd != msgbus.EventCommand {
		return
	}
	text, _ := json.Marshal(map[string]any{"topic": m.Ext.Topic, "src": 1001, "now": 1_800_000_000, "dat": m.Dat, "shm": ""})
	if m.Ext.Retain {
		rdb.HSet(ctx, "msgbus.system.retained", "1001 "+m.Ext.Topic, text)
	}
	const prefix = "msgbus.events."
	channels, _ := rdb.PubSubChannels(ctx, prefix+"*").Result()
	for _, c := range channels {
		if msgbus.MatchTopic(strings.TrimPrefix(c, prefix), m.Ext.Topic) {
			rdb.Publish(ctx, c, text)
		}
	}
}

// publish publishes what an app says.
func (r *rig) publish(topic string, data any, opts ...client.CallOption) {
	r.Helper()
	if err := r.app.Publish(r.context(), topic, data, opts...); err != nil {
		r.Fatal(err)
	}
}

// publishRaw publishes an event in Redis itself, where only this pattern hears it.
func (r *rig) publishRaw(pattern, topic string, data []byte) {
	r.Helper()
	text, err := json.Marshal(map[string]any{
		"topic": topic, "src": 1002, "now": 1_800_000_000, "dat": base64.StdEncoding.EncodeToString(data), "shm": "", "tag": map[string]int{"job": 4},
	})
	if err == nil {
		err = r.rdb.Publish(r.Context(), "msgbus.events."+pattern, text).Err()
	}
	if err != nil {
		r.Fatal(err)
	}
}

// context ends with the test, or when nothing will come any more.
func (r *rig) context() context.Context { return patient(r.T) }

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	return ctx
}

// token is one that is good for an hour.
func token(t testing.TB, c gateway.Claims) string {
	t.Helper()
	if c.Expires == 0 {
		c.Expires = time.Now().Add(time.Hour).Unix()
	}
	return mint(t, c)
}

// hears is a token for these topics.
func hears(t testing.TB, topics ...string) string {
	t.Helper()
	return token(t, gateway.Claims{Topics: topics})
}

// ask asks for a path and returns the status, and the reason if it is refused.
func (s *site) ask(path string, header http.Header) (status int, reason string, answer http.Header) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(patient(s.t), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := transport(s.t).RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return resp.StatusCode, "", resp.Header // it would go on for ever
	}
	var told struct{ Error struct{ Reason string } }
	_ = json.NewDecoder(resp.Body).Decode(&told)
	return resp.StatusCode, told.Error.Reason, resp.Header
}

func transport(t *testing.T) *http.Transport {
	tr := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// await waits until a channel is closed or something comes.
func await[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-from:
		return v
	case <-timer.C:
		t.Fatalf("%s does not come", what)
		panic("unreachable")
	}
}

// eventually waits until look finds nothing wrong.
func eventually(t *testing.T, what string, look func() error) {
	t.Helper()
	over := time.NewTimer(patience)
	defer over.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-over.C:
			t.Fatalf("%s: %v, after %s", what, err, patience)
		case <-again.C:
		}
	}
}

// A log is what a gateway has told.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// An observer counts what it is told.
type observer struct {
	mu         sync.Mutex
	connected  map[string]int // by kind; guarded by mu
	refused    map[string]int // by reason; guarded by mu
	sent, lost int            // guarded by mu
}

func (o *observer) note(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

func (o *observer) BrowserConnected(kind string) { o.note(func() { o.connected[kind]++ }) }
func (o *observer) BrowserLeft(kind string)      { o.note(func() { o.connected[kind]-- }) }
func (o *observer) BrowserRefused(why string)    { o.note(func() { o.refused[why]++ }) }
func (o *observer) EventsSent(n int)             { o.note(func() { o.sent += n }) }
func (o *observer) EventsLost(n int)             { o.note(func() { o.lost += n }) }

// wantConnected waits until so many browsers of a kind are connected.
func (s *site) wantConnected(kind string, n int) {
	s.t.Helper()
	eventually(s.t, "connections", func() (err error) {
		s.seen.note(func() {
			if s.seen.connected[kind] != n {
				err = fmt.Errorf("%d are connected", s.seen.connected[kind])
			}
		})
		return err
	})
}
