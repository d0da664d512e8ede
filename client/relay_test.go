package client_test

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A relay is what these tests have in place of two msgbusd: it hands requests of apps to
// services of the same Redis, as twin 1001's, and their replies to the apps.
type relay struct {
	rdb  *redis.Client
	n    int
	open map[string]fleettest.Message // by uid
}

// startRelay runs a relay until the returned function is called, which closes rdb.
func startRelay(rdb *redis.Client) (stop func()) {
	r := &relay{rdb: rdb, open: make(map[string]fleettest.Message)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			got, err := rdb.BLPop(ctx, time.Second, "msgbus.system.local", "msgbus.system.reply").Result()
			if err != nil {
				continue
			}
			m, err := fleettest.ParseMessage(got[1])
			if err != nil {
				panic(fmt.Sprintf("%v in %s", err, got[1]))
			}
			if got[0] == "msgbus.system.local" {
				r.admit(ctx, m)
			} else {
				r.answer(ctx, m)
			}
		}
	}()
	return func() {
		cancel()
		_ = rdb.Close()
		<-done
	}
}

// runRelay runs a relay for as long as the test lasts.
func (r *rig) runRelay() { r.Cleanup(startRelay(r.server.Client())) }

func (r *relay) admit(ctx context.Context, m fleettest.Message) {
	for _, dst := range m["dst"].([]any) {
		r.n++
		uid := fmt.Sprintf("%v.%d", dst, r.n)
		if !extOf(m).has("oneway") {
			r.open[uid] = m
		}
		request := m.With("uid", uid).With("src", 1001).With("dst", []any{dst}).With("ret", "msgbus.system.reply")
		if extOf(m).has("progress") {
			request = with(request, "progress", "msgbus.system.reply")
		}
		r.rdb.RPush(ctx, "msgbus."+m.Text("cmd"), request.String())
	}
}

func (r *relay) answer(ctx context.Context, m fleettest.Message) {
	asked, there := r.open[m.Text("uid")]
	if !there {
		return
	}
	to := asked.Text("ret")
	if extOf(m).has("status") {
		to = extOf(asked).text("progress")
	} else {
		delete(r.open, m.Text("uid"))
	}
	m = with(m, "id", extOf(asked)["id"]).With("ret", asked["ret"])
	r.rdb.RPush(ctx, to, m.String())
	r.rdb.Expire(ctx, to, 30*time.Minute)
}

// ext is the extension of a message.
type ext map[string]any

func extOf(m fleettest.Message) ext {
	e, _ := m["ext"].(map[string]any)
	return e
}

func (e ext) has(name string) bool { return e[name] != nil }

func (e ext) text(name string) string {
	if e[name] == nil {
		return ""
	}
	return fmt.Sprint(e[name])
}

// with returns a copy of a message that differs in one member of its extension.
func with(m fleettest.Message, name string, value any) fleettest.Message {
	e := maps.Clone(extOf(m))
	if e == nil {
		e = make(ext)
	}
	e[name] = value
	return m.With("ext", map[string]any(e))
}
