package fleettest

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

// A Message is JSON as it stands on the wire: numbers keep their text.
type Message map[string]any

func Parse(t testing.TB, raw string) Message {
	t.Helper()
	m, err := ParseMessage(raw)
	if err != nil {
		t.Fatalf("%v in %q", err, raw)
	}
	return m
}

func ParseMessage(raw string) (Message, error) {
	var m Message
	dec := json.NewDecoder(bytes.NewReader([]byte(raw)))
	dec.UseNumber()
	return m, dec.Decode(&m)
}

func (m Message) String() string {
	text, err := json.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// With returns a copy that differs in one key.
func (m Message) With(key string, value any) Message {
	c := maps.Clone(m)
	c[key] = value
	return c
}

// Without returns a copy that lacks keys.
func (m Message) Without(keys ...string) Message {
	c := maps.Clone(m)
	for _, key := range keys {
		delete(c, key)
	}
	return c
}

// Text returns a key's value as text; absent is "".
func (m Message) Text(key string) string {
	if v, ok := m[key]; ok && v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// Data returns what dat says.
func (m Message) Data() string {
	b, err := base64.StdEncoding.DecodeString(m.Text("dat"))
	if err != nil {
		return "not base64: " + m.Text("dat")
	}
	return string(b)
}

func Encode(data string) string { return base64.StdEncoding.EncodeToString([]byte(data)) }

// Request is what an app of the specification sends, with a return queue of
// its own.
func Request(cmd, data string, dst ...uint32) Message {
	return Message{
		"ver": 1, "uid": "", "cmd": cmd, "exp": 120, "try": 3, "dat": Encode(data), "src": 0, "dst": dst,
		"ret": uuid.NewString(), "shm": "", "now": time.Now().Unix(), "err": "",
	}
}

// Push gives the relay a request, as an app does.
func (s *Site) Push(m Message) {
	s.T.Helper()
	s.PushRaw("local", m.String())
}

func (s *Site) PushRaw(queue, raw string) {
	s.T.Helper()
	if err := s.RDB.RPush(s.T.Context(), s.Prefix+".system."+queue, raw).Err(); err != nil {
		s.T.Fatal(err)
	}
}

// Pop waits for one message of a list.
func (s *Site) Pop(list string) Message {
	s.T.Helper()
	return Parse(s.T, s.popRaw(list))
}

func (s *Site) popRaw(list string) string {
	s.T.Helper()
	got, err := s.RDB.BLPop(s.T.Context(), Patience, list).Result()
	if err != nil {
		dead, _ := s.RDB.XRange(s.T.Context(), s.Prefix+".system.dead", "-", "+").Result()
		s.T.Fatalf("twin %d: nothing comes to %s: %v; dead letters: %v", s.ID, list, err, dead)
	}
	return got[1]
}

// Call pushes a request and waits for its reply.
func (s *Site) Call(m Message) Message {
	s.T.Helper()
	s.Push(m)
	return s.Pop(m.Text("ret"))
}

// WantAnswer makes a request of the echo service of a twin and wants a good
// answer: whatever happened before, the relays go on.
func (s *Site) WantAnswer(dst uint32) {
	s.T.Helper()
	said := "hello " + uuid.NewString()
	reply := s.Call(Request("echo", said, dst))
	if reply.Text("err") != "" || reply.Data() != said {
		s.T.Fatalf("twin %d asks %d to say %q; the answer is %s", s.ID, dst, said, reply)
	}
}

// WantError makes a request and wants an error that says all of these.
func (s *Site) WantError(m Message, parts ...string) Message {
	s.T.Helper()
	reply := s.Call(m)
	WantErrorText(s.T, reply, parts...)
	return reply
}

func WantErrorText(t testing.TB, reply Message, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if text := reply.Text("err"); text == "" || !strings.Contains(text, part) {
			t.Errorf("err is %q, want %q in it; the reply is %s", text, part, reply)
		}
	}
}

// A DeadLetter is an entry of the stream in which a relay keeps what nobody can
// handle.
type DeadLetter struct{ Queue, Reason, Detail, Message string }

// NextDead waits for a dead letter that it has not returned before.
func (s *Site) NextDead() DeadLetter {
	s.T.Helper()
	after := s.lastDead
	if after == "" {
		after = "0"
	}
	streams, err := s.RDB.XRead(s.T.Context(), &redis.XReadArgs{
		Streams: []string{s.Prefix + ".system.dead", after}, Count: 1, Block: Patience,
	}).Result()
	if err != nil {
		s.T.Fatalf("twin %d: no dead letter comes: %v", s.ID, err)
	}
	entry := streams[0].Messages[0]
	s.lastDead = entry.ID
	field := func(name string) string { return fmt.Sprint(entry.Values[name]) }
	return DeadLetter{field("queue"), field("reason"), field("detail"), field("message")}
}

// WantNoDead wants all dead letters to have been looked at.
func (s *Site) WantNoDead() {
	s.T.Helper()
	after := "-"
	if s.lastDead != "" {
		after = "(" + s.lastDead
	}
	left, err := s.RDB.XRange(s.T.Context(), s.Prefix+".system.dead", after, "+").Result()
	if err != nil || len(left) > 0 {
		s.T.Errorf("twin %d: unexpected dead letters %v (%v)", s.ID, left, err)
	}
}

// WantNoPoison wants no dead letter to be one that made the relay fail.
func (s *Site) WantNoPoison() {
	s.T.Helper()
	all, err := s.RDB.XRange(s.T.Context(), s.Prefix+".system.dead", "-", "+").Result()
	if err != nil {
		s.T.Error(err)
	}
	for _, entry := range all {
		if entry.Values["reason"] == "poison" {
			s.T.Errorf("twin %d: a dead letter that made the relay fail: %v", s.ID, entry.Values)
		}
	}
}

// Length is how much is in a list.
func (s *Site) Length(list string) int64 {
	s.T.Helper()
	n, err := s.RDB.LLen(s.T.Context(), list).Result()
	if err != nil {
		s.T.Fatal(err)
	}
	return n
}

// A Service answers a command of one site, and remembers what it was asked.
type Service struct {
	mu    sync.Mutex
	Asked []Message // guarded by mu
	each  chan Message
}

// Serve starts a service, which does not mind when its Redis is away. The
// answer is data, or an error.
func (s *Site) Serve(cmd string, answer func(request Message) (data string, err error)) *Service {
	return s.ServeMessages(cmd, func(m Message) Message {
		reply := maps.Clone(m)
		data, err := answer(m)
		reply["dat"], reply["err"] = Encode(data), ""
		if err != nil {
			reply["err"] = err.Error()
		}
		dst, _ := m["dst"].([]any)
		reply["src"], reply["dst"], reply["now"] = dst[0], []any{m["src"]}, time.Now().Unix()
		return reply
	})
}

// Echo is the service that wantAnswer asks.
func (s *Site) Echo() *Service {
	return s.Serve("echo", func(m Message) (string, error) { return m.Data(), nil })
}

// ServeMessages starts a service that makes its reply itself, or leaves it out
// with nil. It pushes to msgbus.system.reply unless ret says otherwise.
func (s *Site) ServeMessages(cmd string, answer func(request Message) Message) *Service {
	s.T.Helper()
	v := &Service{each: make(chan Message, 10_000)}
	rdb := s.Redis.Client()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			got, err := rdb.BLPop(ctx, time.Second, s.Prefix+"."+cmd).Result()
			if err != nil {
				pause(ctx, err)
				continue
			}
			m, err := ParseMessage(got[1])
			if err != nil {
				s.T.Errorf("the service of %s got %q: %v", cmd, got[1], err)
				continue
			}
			v.note(m)
			if reply := answer(m); reply != nil {
				pushReply(ctx, rdb, m.Text("ret"), reply)
			}
		}
	}()
	s.T.Cleanup(func() {
		cancel()
		_ = rdb.Close()
		<-done
	})
	return v
}

// pushReply tries until Redis has the reply.
func pushReply(ctx context.Context, rdb *redis.Client, to string, reply Message) {
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

func (v *Service) note(m Message) {
	v.mu.Lock()
	v.Asked = append(v.Asked, m)
	v.mu.Unlock()
	v.each <- m
}

// Next waits for a request that the service has been given and that next has
// not returned before.
func (v *Service) Next(t testing.TB) Message {
	t.Helper()
	over := time.NewTimer(Patience)
	defer over.Stop()
	select {
	case m := <-v.each:
		return m
	case <-over.C:
		t.Fatal("the service is not asked")
		return nil
	}
}

// Times tells how often the service was asked with the same data.
func (v *Service) Times() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := make(map[string]int)
	for _, m := range v.Asked {
		n[m.Data()]++
	}
	return n
}

// WantOnce wants each of n numbers to have been asked for exactly once.
func (v *Service) WantOnce(t testing.TB, n int) {
	t.Helper()
	times := v.Times()
	for i := range n {
		if got := times[strconv.Itoa(i)]; got != 1 {
			t.Errorf("the service was asked %d times for request %d", got, i)
		}
	}
}

// AwaitQuiet waits until the relay has nothing left to do: no message in a
// queue, in a claim, in the backlog or on a lane.
func (s *Site) AwaitQuiet() {
	s.T.Helper()
	Eventually(s.T, fmt.Sprintf("twin %d has nothing left to do", s.ID), func() error {
		ctx, name := s.T.Context(), func(key string) string { return s.Prefix + ".system." + key }
		left := make(map[string]int64)
		for _, list := range []string{"local", "remote", "reply"} {
			left[list] = s.RDB.LLen(ctx, name(list)).Val()
		}
		for _, hash := range []string{"backlog", "replies", "open"} {
			left[hash] = s.RDB.HLen(ctx, name(hash)).Val()
		}
		left["deadlines"] = s.RDB.ZCard(ctx, name("deadlines")).Val()
		claims, err := s.RDB.Keys(ctx, name("claim.*")).Result()
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

// WantNoMore wants the lists ret-0 to ret-<n-1>, from which a reply each was
// taken, to hold no second one.
func (s *Site) WantNoMore(n int) {
	s.T.Helper()
	for i := range n {
		if more := s.Length(fmt.Sprintf("ret-%d", i)); more != 0 {
			s.T.Errorf("request %d got %d more replies", i, more)
		}
	}
}
