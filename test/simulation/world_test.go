package simulation

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// A world is a relay, its Redis and an app. All of it runs in a bubble of
// testing/synctest, so no socket may be in it: connections are pipes.
type world struct {
	t     *testing.T
	redis *miniredis.Miniredis
	calls atomic.Int64 // of the relay to its storage
	store *backlog.Store
	app   *redis.Client
	twins *twins

	requests int
	ended    []int // how often each request has; what the app knows
	errors   int   // how many of those with an error
}

// nowhere is an address that nobody dials. It is no name: looking one up would share
// what package net remembers with the bubble of another test.
const nowhere = "127.0.0.1:1"

func newWorld(t *testing.T, n, mostRequests int) *world {
	w := &world{t: t, redis: miniredis.NewMiniRedis(), twins: newTwins(n), ended: make([]int, mostRequests)}
	w.redis.ClockTTL(true)
	dial := func(context.Context, string, string) (net.Conn, error) { return w.redis.Dial() }
	w.app = redis.NewClient(&redis.Options{Addr: nowhere, Dialer: dial, MaxRetries: -1})
	counted := func(context.Context, string, string) (net.Conn, error) {
		conn, err := w.redis.Dial()
		return &countedConn{conn, &w.calls}, err
	}
	var err error
	w.store, err = backlog.Open(backlog.Options{Redis: backlog.At(redis.Options{Addr: nowhere, Dialer: counted}), Twin: self, Instance: "simulated"})
	if err != nil {
		t.Fatal(err)
	}
	w.twins.relay = relay.New(relay.Options{Twin: self, Log: zerolog.Nop()}, w.store, w.twins)
	return w
}

// A countedConn counts what is sent, each of which waits for an answer: a command, a
// script or a pipeline of them.
type countedConn struct {
	net.Conn
	calls *atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.calls.Add(1)
	return c.Conn.Write(b)
}

// run runs the relay until stop, which returns when everything has ended.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.twins.relay.Run(ctx) }()
	<-w.twins.relay.Ready()
	return func() {
		w.twins.busy.Wait()
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the relay ended: %v", err)
		}
		_ = w.store.Close()
		_ = w.app.Close()
		w.redis.Close()
	}
}

// ask pushes requests, the next ones in the order of the twins.
func (w *world) ask(n int) {
	if n == 0 {
		return
	}
	requests := make([]any, n)
	for i := range requests {
		requests[i] = fmt.Sprintf(`{"ver":1,"cmd":"x","exp":%d,"try":1000000,"dat":"","dst":[%d],"ret":"app","shm":"%d","now":0}`,
			int(lives[w.requests/len(w.twins.all)%len(lives)].Seconds()), firstTwin+w.requests%len(w.twins.all), w.requests)
		w.requests++
	}
	if err := w.app.RPush(context.Background(), "msgbus.system.local", requests...).Err(); err != nil {
		w.t.Fatal(err)
	}
}

// collect takes what has come for the app.
func (w *world) collect() {
	for {
		raws, err := w.app.LPopCount(context.Background(), "app", 1000).Result()
		if err == redis.Nil {
			return
		}
		if err != nil {
			w.t.Fatal(err)
		}
		for _, raw := range raws {
			m, err := msgbus.Decode([]byte(raw))
			var number int
			if err == nil {
				_, err = fmt.Sscan(m.Schema, &number)
			}
			if err != nil {
				w.t.Fatalf("%v in %s", err, raw)
			}
			w.ended[number]++
			if m.Error != "" {
				w.errors++
			}
		}
	}
}
