package backlog_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/msgbus"
)

// self is the twin that the stores of these tests serve.
const self = 1001

// A rig is one Redis and what the cases do with it.
type rig struct {
	*testing.T
	rdb  *redis.Client
	url  string
	real *redistest.Server // nil on the embedded one

	// Only rigs of onMovingClocks have these. advance lets time pass, by Redis's
	// clock and by the monotonic one of the stores; step sets Redis's clock alone.
	advance, step func(time.Duration)
	monotonic     func() time.Duration
	// restart kills the real Redis of a moving clock and starts it again, with
	// what it last saved.
	restart func()
}

// onBoth runs a case on a real Redis and on the embedded one.
func onBoth(t *testing.T, run func(r *rig)) {
	t.Helper()
	t.Run("real", func(t *testing.T) { run(onReal(t)) })
	t.Run("embedded", func(t *testing.T) {
		s := redistest.Embedded(t)
		run(&rig{T: t, rdb: s.Client(), url: s.URL()})
	})
}

func onReal(t *testing.T, opts ...redistest.Option) *rig {
	t.Helper()
	s := redistest.Start(t, opts...)
	return &rig{T: t, rdb: s.Client(), url: s.URL(), real: s}
}

// onMovingClocks is onBoth for cases that move Redis's clock.
func onMovingClocks(t *testing.T, run func(r *rig)) {
	t.Helper()
	t.Run("real", func(t *testing.T) { run(onRealMovingClock(t)) })
	t.Run("embedded", func(t *testing.T) {
		s := redistest.Embedded(t)
		r := &rig{T: t, rdb: s.Client(), url: s.URL()}
		clock := time.Now()
		s.SetTime(clock)
		var passed atomic.Int64
		r.monotonic = func() time.Duration { return time.Duration(passed.Load()) }
		r.step = func(d time.Duration) {
			clock = clock.Add(d)
			s.SetTime(clock)
			s.FastForward(d) // TTLs go by the clock, back too
		}
		r.advance = func(d time.Duration) {
			r.step(d)
			passed.Add(int64(d))
		}
		run(r)
	})
}

// onRealMovingClock starts a real Redis whose clock can be moved.
func onRealMovingClock(t *testing.T) *rig {
	t.Helper()
	s := redistest.Start(t, redistest.MovableClock(t))
	r := &rig{T: t, rdb: s.Client(), url: s.URL(), real: s, restart: s.Restart}
	start := time.Now()
	var passed atomic.Int64
	r.monotonic = func() time.Duration { return time.Since(start) + time.Duration(passed.Load()) }
	var ahead time.Duration
	r.step = func(d time.Duration) {
		t.Helper()
		ahead += d
		s.SetClock(ahead)
	}
	r.advance = func(d time.Duration) {
		t.Helper()
		r.step(d)
		passed.Add(int64(d))
	}
	return r
}

// open returns a store that has not joined. Unless told otherwise it is
// instance "a" of twin 1001.
func (r *rig) open(settings ...func(*backlog.Options)) *backlog.Store {
	r.Helper()
	addr, err := backlog.ParseURL(r.url)
	r.must(err)
	opts := backlog.Options{Redis: addr, Twin: self, Instance: "a", Grace: -1} // no time at all
	for _, set := range settings {
		set(&opts)
	}
	s, err := backlog.Open(opts)
	r.must(err)
	r.Cleanup(func() { _ = s.Close() })
	if r.monotonic != nil {
		s.FakeMonotonic(r.monotonic)
	}
	return s
}

func (r *rig) join(settings ...func(*backlog.Options)) *backlog.Store {
	r.Helper()
	s := r.open(settings...)
	r.must(s.Join(r.Context()))
	return s
}

func instance(name string) func(*backlog.Options) {
	return func(o *backlog.Options) { o.Instance = name }
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) wantErr(err, want error) {
	r.Helper()
	if !errors.Is(err, want) {
		r.Fatalf("error is %v, want %v", err, want)
	}
}

func (r *rig) push(key string, messages ...string) {
	r.Helper()
	for _, m := range messages {
		r.must(r.rdb.RPush(r.Context(), key, m).Err())
	}
}

func (r *rig) list(key string) []string {
	r.Helper()
	l, err := r.rdb.LRange(r.Context(), key, 0, -1).Result()
	r.must(err)
	return l
}

// wantList fails unless the list at key holds exactly want.
func (r *rig) wantList(key string, want ...string) {
	r.Helper()
	wantEqual(r, "list "+key, fmt.Sprint(r.list(key)), fmt.Sprint(want))
}

func (r *rig) take(s *backlog.Store, q msgbus.Queue) *msgbus.Claim {
	r.Helper()
	c, err := s.Take(r.Context(), q)
	r.must(err)
	return c
}

// now reads Redis's clock.
func (r *rig) now() time.Time {
	r.Helper()
	now, err := r.rdb.Time(r.Context()).Result()
	r.must(err)
	return now
}

// dump reads all of Redis, to show that a refused step changed nothing.
func (r *rig) dump() string {
	r.Helper()
	keys, err := r.rdb.Keys(r.Context(), "*").Result()
	r.must(err)
	all := map[string]string{}
	for _, k := range keys {
		kind, err := r.rdb.Type(r.Context(), k).Result()
		r.must(err)
		switch kind {
		case "list":
			all[k] = fmt.Sprint(r.list(k))
		case "hash":
			all[k] = fmt.Sprint(r.rdb.HGetAll(r.Context(), k).Val())
		case "zset":
			all[k] = fmt.Sprint(r.rdb.ZRangeWithScores(r.Context(), k, 0, -1).Val())
		case "string":
			// Bits of zero at the end of a window say what no bits there say.
			all[k] = fmt.Sprintf("%q", strings.TrimRight(r.rdb.Get(r.Context(), k).Val(), "\x00"))
		case "stream":
			all[k] = r.stream(k)
		}
	}
	return fmt.Sprint(all) // sorts the keys
}

// stream reads a stream: of what became of requests the lines, however many came in one
// step.
func (r *rig) stream(key string) string {
	r.Helper()
	entries := r.rdb.XRange(r.Context(), key, "-", "+").Val()
	if key != "msgbus.system.ended" {
		return fmt.Sprint(entries)
	}
	var lines []string
	for _, e := range entries {
		for kind, text := range e.Values {
			for line := range strings.SplitSeq(text.(string), "\n") {
				lines = append(lines, kind+" "+line)
			}
		}
	}
	return strings.Join(lines, "\n")
}

// unchanged runs step and fails when Redis is not as before.
func (r *rig) unchanged(what string, step func()) {
	r.Helper()
	before := r.dump()
	step()
	wantEqual(r, "Redis after "+what, r.dump(), before)
}

func wantEqual[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// request returns a request of an app to some twins.
func request(destinations ...uint32) *msgbus.Message {
	return &msgbus.Message{
		Version: 1, Command: "calc.add", Expiration: 60, Data: "MQ==",
		Destinations: destinations, ReturnQueue: "app.ret", Schema: "s",
	}
}

// admit takes one message from the local queue and admits requests in its place.
func (r *rig) admit(s *backlog.Store, requests ...*msgbus.Message) []string {
	r.Helper()
	r.push("msgbus.system.local", "{}")
	c := r.take(s, msgbus.LocalQueue)
	var admissions []msgbus.Admission
	for _, m := range requests {
		admissions = append(admissions, msgbus.Admission{Message: m, Start: m.Now})
	}
	uids, err := s.Admit(r.Context(), c, admissions)
	r.must(err)
	return uids
}

func (r *rig) entry(s *backlog.Store, uid string) *msgbus.Entry {
	r.Helper()
	e, err := s.Entry(r.Context(), uid)
	r.must(err)
	return e
}

func (r *rig) fetch(s *backlog.Store, twin uint32) *msgbus.Batch {
	r.Helper()
	b, err := s.Fetch(r.Context(), twin)
	r.must(err)
	return b
}

func ids(b *msgbus.Batch) string {
	var out []string
	for _, p := range b.Parcels {
		out = append(out, p.ID)
	}
	return fmt.Sprint(out)
}

// sample is an epoch as a source relay would make it.
const sample = "00112233445566778899aabbccddeeff"

// arrival returns the n-th request of a source to this twin.
func arrival(n uint64) msgbus.Acceptance {
	return msgbus.Acceptance{
		UID: msgbus.FormatUID(self, n), Number: n, Command: "calc.add",
		Life: time.Minute, Body: []byte("request " + strconv.FormatUint(n, 10)),
	}
}

// accept hands in requests of one source and returns their outcomes.
func (r *rig) accept(s *backlog.Store, source uint32, epoch string, requests ...msgbus.Acceptance) string {
	r.Helper()
	out, err := s.Accept(r.Context(), nil, source, epoch, requests)
	r.must(err)
	return fmt.Sprint(out)
}

func refusal() *msgbus.Refusal { return msgbus.Refuse(msgbus.Malformed, "no message") }

// eventually polls until done, or fails after a while that no working system needs.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}
