package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// What apps have agreed on crosses the network, whichever version of the wire carries it.
func TestWhatAppsAddReachesTheOtherTwin(t *testing.T) {
	t.Parallel()
	for name, hides := range map[string]bool{"version 2": false, "version 1": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, toA, toB := hiddenPair(t)
			toA.hides.Store(hides)
			toB.hides.Store(hides)
			a.Launch()
			b.Launch()
			a.Daemon.AwaitReady()
			b.Daemon.AwaitReady()

			// An id, a tag, interim replies and a typed error. Version 1 posts messages side by
			// side, and what comes behind the answer is late: so the answer waits.
			answer := make(chan struct{})
			asked := b.ServeMessages("work", func(m fleettest.Message) fleettest.Message {
				for n, status := range []string{"accepted", "started"} {
					interim := m.With("src", b.ID).With("dst", []any{m["src"]}).With("ext", map[string]any{"status": status, "seq": n + 1})
					b.PushRaw("reply", interim.String())
				}
				select {
				case <-answer:
				case <-t.Context().Done():
				}
				return m.With("err", "no").With("ext", map[string]any{"error": map[string]any{"code": 4, "class": "ValueError", "message": "no"}})
			})
			m := fleettest.Request("work", "x", b.ID)
			progress := m.Text("ret") + ".progress"
			a.Push(m.With("ext", map[string]any{"id": "17", "tag": []int{1, 2}, "progress": progress}))
			said := make(map[string]bool)
			for range 2 {
				text, _ := json.Marshal(a.Pop(progress)["ext"])
				said[string(text)] = true
			}
			if !said[`{"id":"17","seq":1,"status":"accepted","tag":[1,2]}`] || !said[`{"id":"17","seq":2,"status":"started","tag":[1,2]}`] {
				t.Errorf("interim replies %v", said)
			}
			close(answer)
			wantExt(t, a.Pop(m.Text("ret")), `{"error":{"class":"ValueError","code":4,"message":"no"},"id":"17","tag":[1,2]}`)
			asked.Next(t)

			// No answer at all.
			notes := b.ServeMessages("note", func(m fleettest.Message) fleettest.Message { return m })
			a.Push(fleettest.Request("note", "x", b.ID).With("ret", "").With("ext", map[string]any{"oneway": true}))
			notes.Next(t)
			a.AwaitQuiet()

			// The relay's own commands.
			ping := fleettest.Request("msgbus.ping", "are you there", b.ID)
			wantClassicReply(t, a.Call(ping), ping, b.ID, "are you there", "")

			// Events.
			hears := b.RDB.Subscribe(t.Context(), "msgbus.events.task.#")
			t.Cleanup(func() { _ = hears.Close() })
			if _, err := hears.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.RDB.ZAdd(t.Context(), "msgbus.system.subscriptions", redis.Z{Member: fmt.Sprintf("app %d task.#", a.ID)})
			b.RDB.Set(t.Context(), "msgbus.system.consumer.app", "{}", fleettest.Patience)
			if reply := b.Call(fleettest.Request("msgbus.subscribe", `{"patterns":["task.#"],"lease":60}`, a.ID)); reply.Text("err") != "" {
				t.Fatalf("subscribing is answered %s", reply)
			}
			a.Push(fleettest.Request("msgbus.event", "done").With("dst", []int{}).With("ret", "").
				With("ext", map[string]any{"topic": "task.finished.17", "oneway": true}))
			event, err := hears.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := fleettest.Parse(t, event.Payload); got.Text("topic") != "task.finished.17" || got.Data() != "done" || got.Text("src") != fmt.Sprint(a.ID) {
				t.Errorf("heard %s", event.Payload)
			}
			a.AwaitQuiet()
			a.WantNoDead()
			b.WantNoDead()
			version := 2
			if hides {
				version = 1
			}
			toB.wantSpoken(t, version)
		})
	}
}

func wantExt(t *testing.T, m fleettest.Message, want string) {
	t.Helper()
	if got, _ := json.Marshal(m["ext"]); string(got) != want {
		t.Errorf("ext is %s, want %s", got, want)
	}
}
