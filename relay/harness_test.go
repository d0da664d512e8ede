package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/relay"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silence{}) // it tells of each connection that a killed Redis refuses
	if url := os.Getenv(asVictim); url != "" {
		victim(url)
	}
	goleak.VerifyTestMain(m)
}

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// patience is how long a test waits for something that must come. Nobody
// waits for it on success.
const patience = 60 * time.Second

// A site is one twin: its Redis, its storage and its relay.
type site struct {
	t        *testing.T
	wire     *wire
	twin     uint32
	instance string
	redis    *redistest.Server
	rdb      *redis.Client
	options  relay.Options
	storage  backlog.Options
	through  func(*backlog.Store) relay.Backlog // nil: the store as it is
	log      *journal

	store *backlog.Store
	relay *relay.Relay
	halt  context.CancelFunc
	ended chan error // what Run returned
}

type setting func(*site)

func withRelay(change func(*relay.Options)) setting {
	return func(s *site) { change(&s.options) }
}

func withStorage(change func(*backlog.Options)) setting {
	return func(s *site) { change(&s.storage) }
}

// onRedisOf puts a second relay on the Redis of another site.
func onRedisOf(other *site, instance string) setting {
	return func(s *site) { s.redis, s.instance = other.redis, instance }
}

func onRedis(server *redistest.Server) setting {
	return func(s *site) { s.redis = server }
}

// newSite prepares a twin on a Redis of its own, unless a setting says
// otherwise. Nothing runs until start.
func newSite(t *testing.T, w *wire, twin uint32, settings ...setting) *site {
	t.Helper()
	s := &site{t: t, wire: w, twin: twin, instance: fmt.Sprintf("relay-%d", twin), log: &journal{}}
	for _, set := range settings {
		set(s)
	}
	if s.redis == nil {
		s.redis = redistest.Start(t)
	}
	s.rdb = s.redis.Client()
	t.Cleanup(func() {
		s.end()
		if t.Failed() {
			t.Logf("twin %d, %s, logged:\n%s", twin, s.instance, s.log)
		}
	})
	return s
}

// run starts a site and waits until its relay has a session.
func run(t *testing.T, w *wire, twin uint32, settings ...setting) *site {
	t.Helper()
	s := newSite(t, w, twin, settings...)
	s.start()
	return s
}

func (s *site) start() {
	s.t.Helper()
	s.open()
	s.serve()
	receive(s.t, s.relay.Ready(), "the relay to begin its first session")
}

// open makes a new process of the site, so to speak: nothing is kept in memory.
func (s *site) open() {
	s.t.Helper()
	where, err := backlog.ParseURL(s.redis.URL())
	if err != nil {
		s.t.Fatal(err)
	}
	storage := s.storage
	storage.Redis, storage.Twin, storage.Instance = where, s.twin, s.instance
	if s.store, err = backlog.Open(storage); err != nil {
		s.t.Fatal(err)
	}
	options := s.options
	options.Twin = s.twin
	options.Log = zerolog.New(s.log).Level(zerolog.DebugLevel)
	var custody relay.Backlog = s.store
	if s.through != nil {
		custody = s.through(s.store)
	}
	s.relay = relay.New(options, custody, sender{s.wire, s.twin})
	s.wire.attach(s.twin, s.relay)
}

// serve calls Run in the background.
func (s *site) serve() {
	ctx, halt := context.WithCancel(context.Background())
	ended, r := make(chan error, 1), s.relay
	s.halt, s.ended = halt, ended
	go func() { ended <- r.Run(ctx) }()
}

// stop ends the relay as a signal does, and fails the test unless Run is content.
func (s *site) stop() {
	s.t.Helper()
	s.halt()
	if err := receive(s.t, s.ended, "Run to return"); err != nil {
		s.t.Errorf("Run returned %v at the stop, want nil: the unit would be marked as failed", err)
	}
	s.close()
}

// end stops what runs without waiting for Redis to let go of it.
func (s *site) end() {
	if s.relay == nil {
		return
	}
	if s.halt != nil {
		s.halt()
		s.store.Interrupt()
		receive(s.t, s.ended, "Run to return")
	}
	s.close()
}

func (s *site) close() {
	s.wire.detach(s.twin, s.relay)
	_ = s.store.Close()
	s.relay, s.halt = nil, nil
}

// kill ends the relay as kill -9 does: its session stays, and so does whatever it
// has claimed. What it still tries, it tries on a closed connection.
func (s *site) kill() {
	s.t.Helper()
	_ = s.store.Close()
	s.halt()
	receive(s.t, s.ended, "Run to return")
	s.close()
}

// request pushes what an app would.
func (s *site) request(fields map[string]any) { s.t.Helper(); s.push("msgbus.system.local", fields) }

// requests pushes the same request many times, at once: their lives begin together,
// also on a busy machine.
func (s *site) requests(n int, fields map[string]any) {
	s.t.Helper()
	raw, err := json.Marshal(fields)
	if err != nil {
		s.t.Fatal(err)
	}
	all := slices.Repeat([]any{raw}, n)
	if err := s.rdb.RPush(s.t.Context(), "msgbus.system.local", all...).Err(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) push(queue string, message any) {
	s.t.Helper()
	text, ok := message.(string)
	if !ok {
		raw, err := json.Marshal(message)
		if err != nil {
			s.t.Fatal(err)
		}
		text = string(raw)
	}
	if err := s.rdb.RPush(s.t.Context(), queue, text).Err(); err != nil {
		s.t.Fatal(err)
	}
}

// pop takes the next message of a list, as a service or an app does.
func (s *site) pop(list string) map[string]any {
	s.t.Helper()
	got, err := s.rdb.BLPop(s.t.Context(), patience, list).Result()
	if err != nil {
		s.t.Fatalf("nothing came on %s of twin %d: %v", list, s.twin, err)
	}
	return parse(s.t, got[1])
}

// service takes the next request of a command.
func (s *site) service(cmd string) map[string]any { s.t.Helper(); return s.pop("msgbus." + cmd) }

// reply answers a request as services do: a copy with source and destination
// swapped.
func (s *site) reply(request map[string]any, changes map[string]any) {
	s.t.Helper()
	answer := maps.Clone(request)
	answer["src"], answer["dst"] = s.twin, []any{request["src"]}
	maps.Copy(answer, changes)
	s.push("msgbus.system.reply", answer)
}

func (s *site) length(list string) int64 {
	s.t.Helper()
	n, err := s.rdb.LLen(s.t.Context(), list).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// letters are the dead letters, oldest first.
func (s *site) letters() []map[string]any {
	s.t.Helper()
	entries, err := s.rdb.XRange(s.t.Context(), "msgbus.system.dead", "-", "+").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	var out []map[string]any
	for _, e := range entries {
		out = append(out, e.Values)
	}
	return out
}

// waiting are the uids of requests that have not ended.
func (s *site) waiting() []string {
	s.t.Helper()
	uids, err := s.rdb.HKeys(s.t.Context(), "msgbus.system.backlog").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(uids)
	return uids
}

// ask is an ordinary request of an old client.
func ask(cmd, ret string, dst ...uint32) map[string]any {
	return map[string]any{
		"ver": 1, "uid": "", "cmd": cmd, "exp": 60, "try": 2, "dat": "WzEsMl0=", "src": 0, "dst": dst,
		"ret": ret, "shm": "", "now": time.Now().Unix(), "pxy": false, "err": "", "sig": "",
	}
}

func with(m map[string]any, changes map[string]any) map[string]any {
	out := maps.Clone(m)
	maps.Copy(out, changes)
	return out
}

func parse(t *testing.T, raw string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return m
}

// expect compares the fields of a message that are named.
func expect(t *testing.T, what string, got map[string]any, want map[string]any) {
	t.Helper()
	raw, _ := json.Marshal(want)
	want = parse(t, string(raw))
	for name, value := range want {
		if !reflect.DeepEqual(got[name], value) {
			t.Errorf("%s: %s is %#v, want %#v", what, name, got[name], value)
		}
	}
}

// expectAll compares a whole message; `now` is only to be a number.
func expectAll(t *testing.T, what string, got map[string]any, want map[string]any) {
	t.Helper()
	got = maps.Clone(got)
	if _, number := got["now"].(float64); !number {
		t.Errorf("%s: now is %#v, want a number", what, got["now"])
	}
	delete(got, "now")
	raw, _ := json.Marshal(want)
	want = parse(t, string(raw))
	if !reflect.DeepEqual(got, want) {
		g, _ := json.Marshal(got)
		t.Errorf("%s:\n got %s\nwant %s", what, g, raw)
	}
}

// receive waits for a channel.
func receive[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v = <-c:
		return v
	case <-timer.C:
		t.Fatalf("waited in vain for %s", what)
		return v
	}
}

// eventually waits for a condition that nothing announces.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-timer.C:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func has(text any, part string) bool {
	s, _ := text.(string)
	return strings.Contains(s, part)
}
