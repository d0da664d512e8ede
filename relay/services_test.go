package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/relay"
)

// atOnce gives back what services had taken as soon as their leases are gone.
var atOnce = withStorage(func(o *backlog.Options) { o.Grace = -1 })

// announce does what a service does every 5 s. Its lease lasts for so long.
func (s *site) announce(consumer, cmd string, lease time.Duration) {
	s.t.Helper()
	tx := s.rdb.TxPipeline()
	tx.ZAdd(s.t.Context(), "msgbus.system.consumers", redis.Z{Member: consumer + " " + cmd})
	tx.Set(s.t.Context(), "msgbus.system.consumer."+consumer, "{}", lease)
	if _, err := tx.Exec(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func takenBy(consumer, cmd string) string { return "msgbus.system.taken." + consumer + "." + cmd }

// moveTo takes the next request as a service does that has announced itself.
func (s *site) moveTo(consumer, cmd string) string {
	s.t.Helper()
	raw, err := s.rdb.BLMove(s.t.Context(), "msgbus."+cmd, takenBy(consumer, cmd), "LEFT", "RIGHT", patience).Result()
	if err != nil {
		s.t.Fatalf("nothing came for %s: %v", consumer, err)
	}
	return raw
}

// acknowledge answers a request and gives up what was taken, as one.
func (s *site) acknowledge(consumer, cmd, raw string) (removed int64) {
	s.t.Helper()
	answer := strings.Replace(raw, `"src":1001,"dst":[1002]`, `"src":1002,"dst":[1001]`, 1)
	tx := s.rdb.TxPipeline()
	tx.RPush(s.t.Context(), "msgbus.system.reply", strings.Replace(answer, "WzEsMl0=", "Mw==", 1))
	n := tx.LRem(s.t.Context(), takenBy(consumer, cmd), 1, raw)
	if _, err := tx.Exec(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return n.Val()
}

// A service is killed over a request, or its machine stands still, and the app waits for its
// deadline though others serve the command; or it gets two answers.
//
// Breaks it: in housekeep, without giveBack.
func TestRequestOfAServiceThatWasKilledIsAnsweredByAnother(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002, atOnce)
	b.announce("c1", "calc.add", 100*time.Millisecond)
	a.request(ask("calc.add", "app.1", 1002))
	first := b.moveTo("c1", "calc.add")

	b.announce("c2", "calc.add", time.Minute)
	second := b.moveTo("c2", "calc.add")
	expect(t, "the second service got", parse(t, second), map[string]any{
		"uid": "1002.1", "src": 1001, "cmd": "calc.add", "dat": "WzEsMl0=", "ret": "msgbus.system.reply", "msgbusd": map[string]any{"returned": 1},
	})
	if n := b.acknowledge("c2", "calc.add", second); n != 1 {
		t.Errorf("%d requests were acknowledged", n)
	}
	expect(t, "the app got", a.pop("app.1"), map[string]any{"uid": "1002.1", "src": 1002, "dat": "Mw==", "err": "", "msgbusd": nil})
	if n := b.acknowledge("c1", "calc.add", first); n != 0 { // it was stopped, and wakes up
		t.Error("the first service still had the request")
	}
	eventually(t, "its answer is late, here or there", func() bool {
		left := b.log.find("reply leaves")
		return len(a.log.find("dropped a reply")) > 0 || len(left) == 2 && left[1]["outcome"] == "late"
	})
	if n := a.length("app.1") + b.length("msgbus.calc.add") + b.length(takenBy("c2", "calc.add")); n != 0 {
		t.Errorf("%d messages too many", n)
	}
	b.log.await(t, "services ended, or were silent for too long, and what they had taken goes to others", 1)
}

// A request that kills its services is handed to one after the other, and its app waits for
// its deadline; or somebody else's request gets the error.
//
// Breaks it: in giveBack, without tellSource; in tellSource, without the look at Source; in
// tellSource, without failOwn; in departFailed, without the observer.
func TestAppOfARequestThatThreeServicesEndedWithIsTold(t *testing.T) {
	t.Parallel()
	const text = "three services ended, or were stopped, while they had this request"
	kill := func(b *site, cmd string) {
		for n := range 3 {
			b.announce(fmt.Sprint("c", n), cmd, time.Millisecond)
			b.moveTo(fmt.Sprint("c", n), cmd)
		}
	}
	buried := func(t *testing.T, b *site) {
		t.Helper()
		eventually(t, "it is buried", func() bool { return len(b.letters()) == 1 })
		expect(t, "the dead letter", b.letters()[0], map[string]any{"queue": "taken", "reason": "poison", "to": "msgbus.x", "detail": text})
		if m := parse(t, b.letters()[0]["message"].(string)); m["msgbusd"] != nil || m["cmd"] != "x" {
			t.Errorf("the dead letter has %v", m)
		}
		eventually(t, "nothing is open", func() bool { return b.rdb.HLen(t.Context(), "msgbus.system.open").Val() == 0 })
		b.log.await(t, "buried a message", 1)
	}
	t.Run("of another twin", func(t *testing.T) {
		t.Parallel()
		w := newWire()
		var c tally
		a, b := run(t, w, 1001), run(t, w, 1002, atOnce, withRelay(func(o *relay.Options) { o.Observer = &c }))
		a.request(ask("x", "app.1", 1002))
		kill(b, "x")
		expect(t, "the app got", a.pop("app.1"), map[string]any{"uid": "1002.1", "src": 1002, "err": text, "dat": ""})
		buried(t, b)
		const gone = 3 // events that tell of the services
		c.want(t, map[string]int{
			"arrival accepted": 1 + gone, "arrival buried poison": 1, "reply accepted": 1, "reply delivered": 1, "attempt": 1,
			"request accepted": gone, "request delivered": gone, "request aged": gone, "arrival delivered": gone,
		})
	})
	t.Run("by a service of the other dialect", func(t *testing.T) {
		t.Parallel()
		w := newWire()
		w.to(1003, accepting)
		a, b := run(t, w, 1001), run(t, w, 1002, atOnce, withRelay(func(o *relay.Options) { o.RefServices = []string{"x"} }))
		other := incoming("1002.1", "y")
		other.Source = 1003
		if err := b.relay.AcceptRequest(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		a.request(ask("x", "app.1", 1002))
		kill(b, "x")
		expect(t, "the app got", a.pop("app.1"), map[string]any{"uid": "1002.1", "src": 1002, "err": text})
		if record := b.rdb.HGet(t.Context(), "msgbus.system.open", "1002.1").Val(); !strings.HasPrefix(record, "1003 ") {
			t.Errorf("of the request of another twin is left: %q", record)
		}
	})
	t.Run("of the own twin", func(t *testing.T) {
		t.Parallel()
		a := run(t, newWire(), 1001, atOnce)
		a.request(ask("x", "app.1", 1001))
		kill(a, "x")
		expect(t, "the app got", a.pop("app.1"), map[string]any{"uid": "1001.1", "src": 1001, "err": text})
		buried(t, a)
	})
	t.Run("of a command", func(t *testing.T) {
		t.Parallel()
		b := run(t, newWire(), 1002, atOnce)
		m := incoming("", "x")
		m.Epoch = ""
		queue, err := b.relay.AcceptCommand(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		kill(b, "x")
		expect(t, "the result", b.pop(queue), map[string]any{"src": 1002, "err": text})
		buried(t, b)
	})
	t.Run("that has ended", func(t *testing.T) {
		t.Parallel()
		b := run(t, newWire(), 1002, atOnce)
		b.push("msgbus.x", ask("x", "app.1", 1002)) // no relay knows of it
		kill(b, "x")
		buried(t, b)
	})
}

// A program writes over a key, and the relay gives nothing back, or does not see who serves.
//
// Breaks it: in housekeep, giveBack only without an error of TakeStock.
func TestHousekeepingGoesOnWhateverKeysHold(t *testing.T) {
	t.Parallel()
	spoilt := func(t *testing.T, key string) (a, b *site) {
		w := newWire()
		a, b = run(t, w, 1001), run(t, w, 1002, atOnce)
		if err := b.rdb.Set(t.Context(), key, "text", 0).Err(); err != nil {
			t.Fatal(err)
		}
		return a, b
	}
	t.Run("consumers", func(t *testing.T) {
		t.Parallel()
		a, b := spoilt(t, "msgbus.system.consumers")
		a.request(ask("y", "app.1", 1002))
		b.service("y")
		eventually(t, "the service is seen", func() bool { return b.rdb.ZCard(t.Context(), "msgbus.system.served").Val() == 1 })
	})
	t.Run("commands", func(t *testing.T) {
		t.Parallel()
		_, b := spoilt(t, "msgbus.system.commands")
		b.push(takenBy("c1", "x"), `{"uid":"1002.1"}`)
		b.announce("c1", "x", time.Millisecond)
		expect(t, "given back", b.service("x"), map[string]any{"uid": "1002.1"})
	})
}

// A stranger writes that his request has come back twice: the first service that ends over
// it is the last one.
//
// Breaks it: in AppendWire of package msgbus, with the note.
func TestWhatAStrangerSaysOfReturnsCountsForNothing(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002, atOnce)
	a.request(with(ask("x", "app.1", 1002), map[string]any{"msgbusd": map[string]any{"returned": 2}}))
	b.announce("c1", "x", time.Millisecond)
	expect(t, "the service got", parse(t, b.moveTo("c1", "x")), map[string]any{"uid": "1002.1", "msgbusd": nil})
	expect(t, "the second got", b.service("x"), map[string]any{"uid": "1002.1", "msgbusd": map[string]any{"returned": 1}})
}
