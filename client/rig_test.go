package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// patience is when an event counts as one that will not come.
const patience = 45 * time.Second

// A rig is a Redis, a client on it, and a test that plays the relay.
type rig struct {
	*testing.T
	server *redistest.Server
	rdb    *redis.Client
	c      *client.Client
	log    *log
}

func newRig(t *testing.T, options ...redistest.Option) *rig {
	t.Helper()
	r := &rig{T: t, server: redistest.Start(t, options...), log: &log{}}
	r.rdb = r.server.Client()
	r.c = r.open(client.Options{})
	return r
}

func (r *rig) open(opts client.Options) *client.Client {
	r.Helper()
	opts.Redis = r.server.URL()
	opts.Log = slog.New(slog.NewTextHandler(r.log, nil))
	c, err := client.Open(opts)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := c.Close(); err != nil {
			r.Errorf("close: %v", err)
		}
	})
	return c
}

// context ends with the test, or when nothing will come any more.
func (r *rig) context() context.Context {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	r.Cleanup(cancel)
	return ctx
}

// asked waits for the next request that an app has pushed.
func (r *rig) asked() fleettest.Message {
	r.Helper()
	return r.pop("msgbus.system.local")
}

func (r *rig) pop(list string) fleettest.Message {
	r.Helper()
	got, err := r.rdb.BLPop(r.Context(), patience, list).Result()
	if err != nil {
		r.Fatalf("nothing comes to %s: %v; the log says:\n%s", list, err, r.log)
	}
	return fleettest.Parse(r, got[1])
}

// replyFrom is what the relay makes of an answer of a twin.
func replyFrom(m fleettest.Message, twin uint32, data string) fleettest.Message {
	return m.With("uid", "1002.1").With("src", twin).With("dst", []uint32{1001}).With("dat", fleettest.Encode(data))
}

// busError is an error that the relay answers with.
func busError(m fleettest.Message, twin uint32, reason, text string) fleettest.Message {
	reply := replyFrom(m, twin, "").With("dat", m["dat"]).With("err", text)
	return with(reply, "error", map[string]any{"class": "msgbus." + reason, "message": text})
}

// give puts a reply where the app wants it, as the relay does.
func (r *rig) give(m fleettest.Message) {
	r.Helper()
	r.push(m.Text("ret"), m)
}

func (r *rig) push(list string, all ...fleettest.Message) {
	r.Helper()
	values := make([]any, len(all))
	for i, m := range all {
		values[i] = m.String()
	}
	_, err := r.rdb.TxPipelined(r.Context(), func(p redis.Pipeliner) error {
		p.RPush(r.Context(), list, values...)
		p.Expire(r.Context(), list, 30*time.Minute)
		return nil
	})
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) length(list string) int64 {
	r.Helper()
	n, err := r.rdb.LLen(r.Context(), list).Result()
	if err != nil {
		r.Fatal(err)
	}
	return n
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// cut ends all connections of Redis but the test's own.
func (r *rig) cut() {
	r.Helper()
	r.must(r.rdb.ClientKillByFilter(r.Context(), "TYPE", "normal", "SKIPME", "yes").Err())
}

// ask starts a call, and returns what its error will come to.
func (r *rig) ask(ctx context.Context, out any, opts ...client.CallOption) <-chan error {
	ended := make(chan error, 1)
	var asking sync.WaitGroup
	asking.Go(func() { ended <- r.c.Call(ctx, 1002, "calc", "question", out, opts...) })
	r.Cleanup(asking.Wait)
	return ended
}

// await returns what comes to a channel.
func await[T any](t testing.TB, from <-chan T, what string) T {
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

func wantEqual[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func wantErrorIs(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

// asError finds an *Error.
func asError(t testing.TB, err error) *client.Error {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want an *Error", err)
	}
	return e
}

// compact is JSON as the client writes it.
func compact(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A log is what a client has told.
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

func (r *rig) awaitSaid(text string) {
	r.Helper()
	fleettest.Eventually(r, "the log", func() error {
		if !strings.Contains(r.log.String(), text) {
			return errors.New("it does not say " + text)
		}
		return nil
	})
}

// takers is how many clients wait for requests.
func (r *rig) takers() int {
	r.Helper()
	all, err := r.rdb.ClientList(r.Context()).Result()
	r.must(err)
	n := 0
	for line := range strings.Lines(all) {
		if strings.Contains(line, "cmd=blmove") && strings.Contains(line, "flags=b") {
			n++
		}
	}
	return n
}

func (r *rig) awaitTaker() {
	r.Helper()
	fleettest.Eventually(r, "a service that waits", func() error {
		if r.takers() == 0 {
			return errors.New("there is none")
		}
		return nil
	})
}
