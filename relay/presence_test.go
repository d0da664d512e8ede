package relay_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Nobody notices that the only one who did a work has died.
func TestAppThatEndsIsMissed(t *testing.T) {
	t.Parallel()
	a := run(t, newWire(), 1001, atOnce)
	gone := a.listen("msgbus/presence.#")
	a.rdb.ZAdd(t.Context(), "msgbus.system.presence", redis.Z{Member: "runner.7"}, redis.Z{Member: "runner.8"}, redis.Z{Member: "no name"})
	a.rdb.Set(t.Context(), "msgbus.system.presence.runner.8", "{}", time.Minute)
	if got := heard(t, gone); got != "1001 msgbus/presence.down.runner.7 " {
		t.Errorf("heard %s", got)
	}
	a.rdb.Del(t.Context(), "msgbus.system.presence.runner.8")
	if got := heard(t, gone); got != "1001 msgbus/presence.down.runner.8 " {
		t.Errorf("heard %s", got)
	}
	if n := a.rdb.ZCard(t.Context(), "msgbus.system.presence").Val(); n != 0 {
		t.Errorf("%d names are kept", n)
	}
}

// The last service of a command dies, and who watches over it hears nothing, or hears it
// again and again.
func TestServiceThatEndsWithoutAWordIsMissedOnce(t *testing.T) {
	t.Parallel()
	a := run(t, newWire(), 1001, atOnce)
	gone := a.listen("msgbus/service.#")
	a.rdb.ZAdd(t.Context(), "msgbus.system.consumers", redis.Z{Member: "c1 render"}, redis.Z{Member: "c1 no topic"}, redis.Z{Member: "c2 store"})
	a.rdb.Set(t.Context(), "msgbus.system.consumer.c2", "{}", time.Minute)
	message := receive(t, gone, "an event")
	var event struct {
		Topic string `json:"topic"`
		Data  []byte `json:"dat"`
	}
	if err := json.Unmarshal([]byte(message.Payload), &event); err != nil {
		t.Fatal(err)
	}
	if event.Topic != "msgbus/service.down.render" || string(event.Data) != `{"consumer":"c1"}` {
		t.Errorf("heard %s", message.Payload)
	}
	a.rdb.Del(t.Context(), "msgbus.system.consumer.c2")
	if got := receive(t, gone, "an event").Payload; !has(got, "msgbus/service.down.store") {
		t.Errorf("heard %s instead of that the other service has gone", got)
	}
}

// An app that waits for a machine does not learn that it has gone, or that it is back, or
// twins learn of each other what is none of their business.
func TestAppsHearThatATwinCannotBeJoinedAndThatItCanAgain(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, dead(1002))
	a, c := run(t, w, 1001), run(t, w, 1003)
	news, elsewhere := a.listen("msgbus/twin.#"), c.listen("*/#")
	c.want("app-1", 1001, "*/#")
	eventually(t, "twin 1003 gets the events of twin 1001", func() bool {
		return a.rdb.ZCard(t.Context(), "msgbus.system.subscribers").Val() == 1
	})
	a.request(ask("x", "app.1", 1002))
	if got := heard(t, news); got != "1001 msgbus/twin.away.1002 " {
		t.Errorf("heard %s", got)
	}
	run(t, w, 1002)
	w.to(1002, nil)
	if got := heard(t, news); got != "1001 msgbus/twin.back.1002 " {
		t.Errorf("heard %s", got)
	}
	a.request(publish("end", "", nil))
	if got := heard(t, elsewhere); got != "1001 end " {
		t.Errorf("another twin heard %s", got)
	}
}
