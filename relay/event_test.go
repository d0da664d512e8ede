package relay_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/relay"
)

// listen subscribes an app of this machine to a pattern, as Redis clients do.
func (s *site) listen(pattern string) <-chan *redis.Message {
	s.t.Helper()
	sub := s.rdb.Subscribe(s.t.Context(), "msgbus.events."+pattern)
	s.t.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.Receive(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return sub.Channel()
}

// want has an app of this machine want events of another twin, until the lease of the app
// is taken away.
func (s *site) want(app string, twin uint32, pattern string) {
	s.t.Helper()
	pipe := s.rdb.TxPipeline()
	pipe.ZAdd(s.t.Context(), "msgbus.system.subscriptions", redis.Z{Member: fmt.Sprintf("%s %d %s", app, twin, pattern)})
	pipe.Set(s.t.Context(), "msgbus.system.consumer."+app, "{}", time.Minute)
	if _, err := pipe.Exec(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func publish(topic, data string, ext map[string]any) map[string]any {
	all := map[string]any{"topic": topic, "oneway": true}
	for k, v := range ext {
		all[k] = v
	}
	m := extend(ask("msgbus.event", ""), all)
	return with(m, map[string]any{"dst": []int{}, "dat": base64.StdEncoding.EncodeToString([]byte(data))})
}

// heard is the next event of a subscription, as "<src> <topic> <data>".
func heard(t *testing.T, from <-chan *redis.Message) string {
	t.Helper()
	return told(t, receive(t, from, "an event").Payload)
}

func told(t *testing.T, event string) string {
	t.Helper()
	var e struct {
		Src   uint32 `json:"src"`
		Topic string `json:"topic"`
		Dat   []byte `json:"dat"`
	}
	if err := json.Unmarshal([]byte(event), &e); err != nil {
		t.Fatalf("%v in %s", err, event)
	}
	return fmt.Sprintf("%d %s %s", e.Src, e.Topic, e.Dat)
}

// subscribe asks a twin for events, as the app's library does, and waits for the answer.
func (s *site) subscribe(twin uint32, lease int, patterns ...string) map[string]any {
	s.t.Helper()
	raw, _ := json.Marshal(map[string]any{"patterns": patterns, "lease": lease})
	s.request(with(ask("msgbus.subscribe", "app.subscribed", twin), map[string]any{"dat": base64.StdEncoding.EncodeToString(raw)}))
	return s.pop("app.subscribed")
}

// Apps on three machines hear what one publishes, each what it wants, once, in order.
func TestEventGoesToWhoWantsIt(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b, c := run(t, w, 1001), run(t, w, 1002), run(t, w, 1003)
	here, exact, all := a.listen("task.*.17"), b.listen("task.finished.17"), b.listen("#")
	elsewhere := c.listen("#")
	b.want("app-b", 1001, "task.#")
	expect(t, "the answer", b.subscribe(1001, 60, "task.#"), map[string]any{"err": ""})

	for _, n := range []string{"one", "two"} {
		a.request(publish("task.finished.17", n, nil))
	}
	a.request(publish("task.begun.18", "three", nil))
	a.request(publish("job.finished.17", "four", nil))
	for _, n := range []string{"one", "two"} {
		for _, from := range []<-chan *redis.Message{here, exact, all} {
			if got, want := heard(t, from), "1001 task.finished.17 "+n; got != want {
				t.Errorf("heard %s, want %s", got, want)
			}
		}
	}
	if got := heard(t, all); got != "1001 task.begun.18 three" {
		t.Errorf("heard %s", got)
	}
	eventually(t, "all are delivered", func() bool { return len(a.waiting()) == 0 })
	if n := len(here) + len(exact) + len(all) + len(elsewhere); n != 0 {
		t.Errorf("%d events too many were heard", n)
	}
	if got := w.sendings(1003); len(got) != 0 {
		t.Errorf("twin 1003 got %v and wants nothing", got)
	}
	for _, s := range []*site{a, b} {
		if letters := s.letters(); len(letters) != 0 {
			t.Errorf("twin %d has dead letters: %v", s.twin, letters)
		}
	}
}

// Who publishes is told how many listen, and knows when he has heard of all.
func TestPublisherIsToldWhoListens(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	a.listen("x")
	a.listen("#")
	b.listen("x")
	b.want("app-b", 1001, "x")
	b.subscribe(1001, 60, "x")
	a.request(with(publish("x", "data", map[string]any{"oneway": false, "id": "7"}), map[string]any{"ret": "app.1"}))
	counts := make(map[string]string)
	for range 2 {
		m := a.pop("app.1")
		data, _ := base64.StdEncoding.DecodeString(m["dat"].(string))
		counts[fmt.Sprint(m["src"])] = string(data)
		expect(t, "the answer", m, map[string]any{"ext": map[string]any{"id": "7", "of": 2}})
	}
	if counts["1001"] != `{"listeners":2}` || counts["1002"] != `{"listeners":1}` {
		t.Errorf("told %v", counts)
	}
}

// A twin on the network fills this machine's Redis, or its apps hear what they never asked
// for.
func TestEventThatNobodyWantsIsRefused(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	heardByB := b.listen("#")
	b.want("app-b", 1001, "x")
	for _, topic := range []string{"y", "z"} {
		m := publish(topic, "data", map[string]any{"durable": topic == "z", "retain": true})
		a.request(with(m, map[string]any{"dst": []int{1002}}))
	}
	eventually(t, "it is buried", func() bool { return len(a.letters()) == 1 })
	if letter := a.letters()[0]; !has(letter["message"], `"z"`) || !has(letter["detail"], "nobody here wants events of twin 1001 about z") {
		t.Errorf("the dead letter is %v, want the durable event", letter)
	}
	eventually(t, "all have ended", func() bool { return len(a.waiting()) == 0 })
	if n := len(heardByB); n != 0 {
		t.Errorf("%d events were heard", n)
	}
	if n := b.rdb.Exists(t.Context(), "msgbus.system.stream.default", "msgbus.system.retained").Val(); n != 0 {
		t.Error("they are kept")
	}
}

// A front end that starts has no routes until the next one changes.
func TestNewSubscriberGetsTheLatestRetainedEvent(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	heardByB := b.listen("#")
	for _, m := range []map[string]any{
		publish("routes", "old", map[string]any{"retain": true}), publish("routes", "new", map[string]any{"retain": true, "tag": 7}),
		publish("routes", "passing", nil), publish("other", "other", map[string]any{"retain": true}),
	} {
		a.request(m)
	}
	eventually(t, "they are published", func() bool { return len(a.waiting()) == 0 && a.length("msgbus.system.local") == 0 })
	b.want("app-b", 1001, "routes")
	b.subscribe(1001, 60, "routes")
	if got := heard(t, heardByB); got != "1001 routes new" {
		t.Errorf("heard %s", got)
	}
	kept := b.rdb.HGetAll(t.Context(), "msgbus.system.retained").Val()
	if len(kept) != 1 || told(t, kept["1001 routes"]) != "1001 routes new" {
		t.Errorf("twin 1002 keeps %v, for its own new subscribers", kept)
	}
}

// A relay that was away has missed what happened, and nobody can tell it.
func TestDurableEventWaitsForATwinThatIsAway(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	b.want("app-b", 1001, "task/#")
	b.subscribe(1001, 3600, "task/#")
	w.to(1002, dead(1002))
	for n := range 3 {
		a.request(publish(fmt.Sprintf("task/finished.%d", n), "x", map[string]any{"durable": true}))
	}
	eventually(t, "they wait", func() bool { return len(a.waiting()) == 3 })
	w.to(1002, nil)
	b.request(ask("msgbus.ping", "app.1", 1001)) // it is there again
	want := []string{"1001 task/finished.0 x", "1001 task/finished.1 x", "1001 task/finished.2 x"}
	for _, s := range []*site{b, a} {
		var got []string
		eventually(t, fmt.Sprintf("twin %d has them", s.twin), func() bool {
			got = nil
			for _, e := range s.rdb.XRange(t.Context(), "msgbus.system.stream.task", "-", "+").Val() {
				got = append(got, told(t, e.Values["event"].(string)))
			}
			return len(got) >= 3
		})
		if !slices.Equal(got, want) {
			t.Errorf("twin %d keeps %v, want %v", s.twin, got, want)
		}
	}
}

// Twins that nobody needs any more go on to send, or one whose app lives is forgotten.
func TestSubscriptionLastsAsLongAsItsApp(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002, atOnce)
	b.want("app-1", 1001, "x")
	b.want("app-2", 1001, "x")
	subscribers := func() []string { return a.rdb.ZRange(t.Context(), "msgbus.system.subscribers", 0, -1).Val() }
	eventually(t, "the relay has asked for it", func() bool { return slices.Equal(subscribers(), []string{"1002 x"}) })
	for _, app := range []string{"app-1", "app-2"} {
		if n := len(subscribers()); n != 1 {
			t.Errorf("%d subscriptions, while %s lives", n, app)
		}
		b.rdb.Del(t.Context(), "msgbus.system.consumer."+app)
		eventually(t, "the app is forgotten", func() bool {
			return !slices.Contains(b.rdb.ZRange(t.Context(), "msgbus.system.subscriptions", 0, -1).Val(), app+" 1001 x")
		})
	}
	eventually(t, "it has ended", func() bool { return len(subscribers()) == 0 })
}

// Nobody may read along whom the operator has not let in.
func TestSubscriptionNeedsToBeExposed(t *testing.T) {
	t.Parallel()
	w := newWire()
	run(t, w, 1001, withRelay(func(o *relay.Options) { o.Expose = []string{"calc.*"} }))
	b := run(t, w, 1002)
	expect(t, "the answer", b.subscribe(1001, 60, "#"), map[string]any{"err": `command "msgbus.subscribe" cannot be called from remote`})
	for _, bad := range []map[string]any{{"patterns": []string{"a..b"}}, {"patterns": []string{}}, {"patterns": []string{"a"}, "lease": -1}, {"patterns": "a"}} {
		raw, _ := json.Marshal(bad)
		b.request(with(ask("msgbus.subscribe", "app.1", 1002), map[string]any{"dat": base64.StdEncoding.EncodeToString(raw)}))
		if got := b.pop("app.1"); !has(got["err"], "received invalid message: msgbus.subscribe wants") {
			t.Errorf("%s: %v", raw, got["err"])
		}
	}
}

// A service goes on with what nobody wants any more.
func TestCancellationReachesServicesAsAnEvent(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002, withRelay(func(o *relay.Options) { o.Expose = []string{"work"} }))
	cancelled := b.listen("msgbus/cancel")
	a.request(extend(ask("msgbus.cancel", "", 1002), map[string]any{"oneway": true}))
	if got := heard(t, cancelled); got != "1001 msgbus/cancel [1,2]" {
		t.Errorf("heard %s", got)
	}
	if n := b.rdb.XLen(t.Context(), "msgbus.system.stream.msgbus").Val(); n != 1 {
		t.Errorf("%d cancellations are kept for services that come later", n)
	}
}
