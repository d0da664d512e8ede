package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// A message is JSON as it stands on the wire: numbers keep their text.
type message map[string]any

func parse(t testing.TB, raw string) message {
	t.Helper()
	m, err := parseMessage(raw)
	if err != nil {
		t.Fatalf("%v in %q", err, raw)
	}
	return m
}

func parseMessage(raw string) (message, error) {
	var m message
	dec := json.NewDecoder(bytes.NewReader([]byte(raw)))
	dec.UseNumber()
	return m, dec.Decode(&m)
}

func (m message) String() string {
	text, err := json.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// with returns a copy that differs in one key.
func (m message) with(key string, value any) message {
	c := maps.Clone(m)
	c[key] = value
	return c
}

// without returns a copy that lacks keys.
func (m message) without(keys ...string) message {
	c := maps.Clone(m)
	for _, key := range keys {
		delete(c, key)
	}
	return c
}

// text returns a key's value as text; absent is "".
func (m message) text(key string) string {
	if v, ok := m[key]; ok && v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// data returns what dat says.
func (m message) data() string {
	b, err := base64.StdEncoding.DecodeString(m.text("dat"))
	if err != nil {
		return "not base64: " + m.text("dat")
	}
	return string(b)
}

func encode(data string) string { return base64.StdEncoding.EncodeToString([]byte(data)) }

// request is what an app of the specification sends, with a return queue of
// its own.
func request(cmd, data string, dst ...uint32) message {
	return message{
		"ver": 1, "uid": "", "cmd": cmd, "exp": 120, "try": 3, "dat": encode(data), "src": 0, "dst": dst,
		"ret": uuid.NewString(), "shm": "", "now": time.Now().Unix(), "err": "",
	}
}

// push gives the relay a request, as an app does.
func (s *site) push(m message) {
	s.t.Helper()
	s.pushRaw("local", m.String())
}

func (s *site) pushRaw(queue, raw string) {
	s.t.Helper()
	if err := s.rdb.RPush(s.t.Context(), s.prefix+".system."+queue, raw).Err(); err != nil {
		s.t.Fatal(err)
	}
}

// pop waits for one message of a list.
func (s *site) pop(list string) message {
	s.t.Helper()
	return parse(s.t, s.popRaw(list))
}

func (s *site) popRaw(list string) string {
	s.t.Helper()
	got, err := s.rdb.BLPop(s.t.Context(), patience, list).Result()
	if err != nil {
		s.t.Fatalf("twin %d: nothing comes to %s: %v", s.id, list, err)
	}
	return got[1]
}

// call pushes a request and waits for its reply.
func (s *site) call(m message) message {
	s.t.Helper()
	s.push(m)
	return s.pop(m.text("ret"))
}

// wantAnswer makes a request of the echo service of a twin and wants a good
// answer: whatever happened before, the relays go on.
func (s *site) wantAnswer(dst uint32) {
	s.t.Helper()
	said := "hello " + uuid.NewString()
	reply := s.call(request("echo", said, dst))
	if reply.text("err") != "" || reply.data() != said {
		s.t.Fatalf("twin %d asks %d to say %q; the answer is %s", s.id, dst, said, reply)
	}
}

// wantError makes a request and wants an error that says all of these.
func (s *site) wantError(m message, parts ...string) message {
	s.t.Helper()
	reply := s.call(m)
	wantErrorText(s.t, reply, parts...)
	return reply
}

func wantErrorText(t testing.TB, reply message, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if text := reply.text("err"); text == "" || !strings.Contains(text, part) {
			t.Errorf("err is %q, want %q in it; the reply is %s", text, part, reply)
		}
	}
}

// A deadLetter is an entry of the stream in which a relay keeps what nobody can
// handle.
type deadLetter struct{ queue, reason, detail, message string }

// nextDead waits for a dead letter that it has not returned before.
func (s *site) nextDead() deadLetter {
	s.t.Helper()
	after := s.lastDead
	if after == "" {
		after = "0"
	}
	streams, err := s.rdb.XRead(s.t.Context(), &redis.XReadArgs{
		Streams: []string{s.prefix + ".system.dead", after}, Count: 1, Block: patience,
	}).Result()
	if err != nil {
		s.t.Fatalf("twin %d: no dead letter comes: %v", s.id, err)
	}
	entry := streams[0].Messages[0]
	s.lastDead = entry.ID
	field := func(name string) string { return fmt.Sprint(entry.Values[name]) }
	return deadLetter{field("queue"), field("reason"), field("detail"), field("message")}
}

// wantNoDead wants all dead letters to have been looked at.
func (s *site) wantNoDead() {
	s.t.Helper()
	after := "-"
	if s.lastDead != "" {
		after = "(" + s.lastDead
	}
	left, err := s.rdb.XRange(s.t.Context(), s.prefix+".system.dead", after, "+").Result()
	if err != nil || len(left) > 0 {
		s.t.Errorf("twin %d: unexpected dead letters %v (%v)", s.id, left, err)
	}
}

// length is how much is in a list.
func (s *site) length(list string) int64 {
	s.t.Helper()
	n, err := s.rdb.LLen(s.t.Context(), list).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// A service answers a command of one site, and remembers what it was asked.
type service struct {
	mu    sync.Mutex
	asked []message // guarded by mu
	each  chan message
}

// serve starts a service, which does not mind when its Redis is away. The
// answer is data, or an error.
func (s *site) serve(cmd string, answer func(request message) (data string, err error)) *service {
	return s.serveMessages(cmd, func(m message) message {
		reply := maps.Clone(m)
		data, err := answer(m)
		reply["dat"], reply["err"] = encode(data), ""
		if err != nil {
			reply["err"] = err.Error()
		}
		dst, _ := m["dst"].([]any)
		reply["src"], reply["dst"], reply["now"] = dst[0], []any{m["src"]}, time.Now().Unix()
		return reply
	})
}

// echo is the service that wantAnswer asks.
func (s *site) echo() *service {
	return s.serve("echo", func(m message) (string, error) { return m.data(), nil })
}

// serveMessages starts a service that makes its reply itself, or leaves it out
// with nil. It pushes to msgbus.system.reply unless ret says otherwise.
func (s *site) serveMessages(cmd string, answer func(request message) message) *service {
	s.t.Helper()
	v := &service{each: make(chan message, 10_000)}
	rdb := s.redis.Client()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			got, err := rdb.BLPop(ctx, time.Second, s.prefix+"."+cmd).Result()
			if err != nil {
				pause(ctx, err)
				continue
			}
			m, err := parseMessage(got[1])
			if err != nil {
				s.t.Errorf("the service of %s got %q: %v", cmd, got[1], err)
				continue
			}
			v.note(m)
			if reply := answer(m); reply != nil {
				pushReply(ctx, rdb, m.text("ret"), reply)
			}
		}
	}()
	s.t.Cleanup(func() {
		cancel()
		_ = rdb.Close()
		<-done
	})
	return v
}

// pushReply tries until Redis has the reply.
func pushReply(ctx context.Context, rdb *redis.Client, to string, reply message) {
	for ctx.Err() == nil {
		err := rdb.RPush(ctx, to, reply.String()).Err()
		if err == nil {
			return
		}
		pause(ctx, err)
	}
}

// pause keeps a service from asking a Redis that is away without a rest.
func pause(ctx context.Context, err error) {
	if errors.Is(err, redis.Nil) {
		return
	}
	timer := time.NewTimer(lookAt)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (v *service) note(m message) {
	v.mu.Lock()
	v.asked = append(v.asked, m)
	v.mu.Unlock()
	v.each <- m
}

// next waits for a request that the service has been given and that next has
// not returned before.
func (v *service) next(t testing.TB) message {
	t.Helper()
	over := time.NewTimer(patience)
	defer over.Stop()
	select {
	case m := <-v.each:
		return m
	case <-over.C:
		t.Fatal("the service is not asked")
		return nil
	}
}

// times tells how often the service was asked with the same data.
func (v *service) times() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := make(map[string]int)
	for _, m := range v.asked {
		n[m.data()]++
	}
	return n
}

// wantOnce wants each of n numbers to have been asked for exactly once.
func (v *service) wantOnce(t testing.TB, n int) {
	t.Helper()
	times := v.times()
	for i := range n {
		if got := times[strconv.Itoa(i)]; got != 1 {
			t.Errorf("the service was asked %d times for request %d", got, i)
		}
	}
}

// awaitQuiet waits until the relay has nothing left to do: no message in a
// queue, in a claim, in the backlog or on a lane.
func (s *site) awaitQuiet() {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("twin %d has nothing left to do", s.id), func() error {
		ctx, name := s.t.Context(), func(key string) string { return s.prefix + ".system." + key }
		left := make(map[string]int64)
		for _, list := range []string{"local", "remote", "reply"} {
			left[list] = s.rdb.LLen(ctx, name(list)).Val()
		}
		for _, hash := range []string{"backlog", "replies", "open"} {
			left[hash] = s.rdb.HLen(ctx, name(hash)).Val()
		}
		left["deadlines"] = s.rdb.ZCard(ctx, name("deadlines")).Val()
		claims, err := s.rdb.Keys(ctx, name("claim.*")).Result()
		if err != nil {
			return err
		}
		left["claims"] = int64(len(claims))
		for what, n := range left {
			if n != 0 {
				return fmt.Errorf("%d in %s", n, what)
			}
		}
		return nil
	})
}

// wantNoMore wants the lists ret-0 to ret-<n-1>, from which a reply each was
// taken, to hold no second one.
func (s *site) wantNoMore(n int) {
	s.t.Helper()
	for i := range n {
		if more := s.length(fmt.Sprintf("ret-%d", i)); more != 0 {
			s.t.Errorf("request %d got %d more replies", i, more)
		}
	}
}
