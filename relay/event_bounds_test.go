package relay_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// subscriber notes that a twin wants events, as if it had asked for them.
func (s *site) subscriber(twin uint32, pattern string) {
	s.t.Helper()
	until := float64(time.Now().Add(time.Hour).UnixMilli())
	s.rdb.ZAdd(s.t.Context(), "msgbus.system.subscribers", redis.Z{Score: until, Member: fmt.Sprintf("%d %s", twin, pattern)})
}

// A subscriber dies, and a day later no app of this machine is served any more: its events
// have filled the backlog.
//
// Breaks it: in withRoom, without the look at room.
func TestDeadSubscriberCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, dead(1002))
	a, c := run(t, w, 1001, withStorage(func(o *backlog.Options) { o.MaxBacklog = 200 })), run(t, w, 1003)
	a.subscriber(1002, "*/#")
	c.want("app-c", 1001, "*/#")
	heardByC := c.listen("*/#")
	c.subscribe(1001, 60, "*/#")
	for n := range 40 {
		a.request(with(publish("task/x", fmt.Sprint(n), map[string]any{"durable": true}), map[string]any{"exp": 3600}))
		if got, want := heard(t, heardByC), fmt.Sprintf("1001 task/x %d", n); got != want {
			t.Fatalf("heard %s, want %s", got, want)
		}
	}
	a.request(ask("msgbus.ping", "app.1", 1003))
	expect(t, "the answer of another twin", a.pop("app.1"), map[string]any{"err": "", "src": 1003})
	letters := a.letters()
	if len(a.waiting()) != 20 || len(letters) != 20 {
		t.Fatalf("of 40 durable events %d wait for the dead twin, want a tenth of what the backlog takes, and %d are among the dead letters", len(a.waiting()), len(letters))
	}
	expect(t, "a dead letter", letters[0], map[string]any{"queue": "local", "reason": "queue_full", "detail": "too much waits for the twin"})
	if !has(letters[0]["message"], `"dst":[1002]`) || !has(letters[0]["message"], `"topic":"task/x"`) {
		t.Errorf("it holds %v", letters[0]["message"])
	}
}

// An operator takes back who may hear of this twin's events, and nothing changes for a day.
//
// Breaks it: in addSubscribers, AdmitsTwin in the place of refuseCommand.
func TestSubscriptionEndsWithTheRightToIt(t *testing.T) {
	t.Parallel()
	w := newWire()
	a := run(t, w, 1001)
	run(t, w, 1002)
	a.subscriber(1002, "#")
	a.relay.SetRules(relay.Rules{Expose: []string{"calc.*"}})
	here := a.listen("#")
	a.request(publish("x", "", nil))
	heard(t, here)
	eventually(t, "it has ended", func() bool { return len(a.waiting()) == 0 })
	if got := w.sendings(1002); len(got) != 0 {
		t.Errorf("twin 1002 got %v", got)
	}
}

// So many twins want events that a large one is refused, and reaches nobody at all.
func TestLargeEventReachesThisMachineWhoeverWantsIt(t *testing.T) {
	t.Parallel()
	a := run(t, newWire(), 1001, withRelay(func(o *relay.Options) { o.MaxFanOut = 10_000 }))
	here := a.listen("#")
	for twin := range uint32(9) {
		a.subscriber(2000+twin, "#")
	}
	a.request(publish("x", strings.Repeat("x", 2000), nil))
	if got := receive(t, here, "the event").Payload; !has(got, `"topic":"x"`) {
		t.Errorf("heard %s", got)
	}
	lines := a.log.await(t, "an event does not go to some who want it", 1)
	expect(t, "the log", lines[0], map[string]any{"topic": "x", "reason": "too_many_destinations"})
	a.request(with(publish("x", strings.Repeat("x", msgbus.MaxEvent), map[string]any{"oneway": false}), map[string]any{"ret": "app.1"}))
	if got := a.pop("app.1"); !has(got["err"], "an event of") {
		t.Errorf("an event that is too large for all got %v", got["err"])
	}
}

// A reader of a stream is away for an hour, and what happened meanwhile is nowhere: its twin's
// relay had asked for a minute only.
//
// Breaks it: in renewSubscriptions, subscriptionLease in the place of d.Lease; in effects.lua,
// without GT.
func TestOtherTwinsAreAskedForAsLongAsAnAppWantsThem(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	b.want("app-1", 1001, "task/#") // for a minute
	b.rdb.Set(t.Context(), "msgbus.system.consumer.stream-task", "{}", 24*time.Hour)
	b.rdb.ZAdd(t.Context(), "msgbus.system.subscriptions", redis.Z{Member: "stream-task 1001 task/#"})
	hours := func() float64 {
		until := a.rdb.ZScore(t.Context(), "msgbus.system.subscribers", "1002 task/#").Val()
		return time.Until(time.UnixMilli(int64(until))).Hours()
	}
	eventually(t, "the twin is asked for a day", func() bool { return hours() > 23 })
	b.subscribe(1001, 60, "task/#")
	if left := hours(); left < 23 {
		t.Errorf("after another app has asked for a minute it is for %.2f hours", left)
	}
	b.subscribe(1001, 0, "task/#")
	eventually(t, "it is not asked for any more", func() bool { return hours() < 0 })
}

// A relay ends between having taken a subscription and sending what is retained: the
// subscriber has no routes until the next ones.
//
// Breaks it: in sendNews, without Repeated.
func TestLatestEventFollowsASubscriptionThatComesAgain(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	b.want("app-b", 1001, "routes")
	b.subscribe(1001, 60, "routes")
	a.rdb.HSet(t.Context(), "msgbus.system.retained", "1001 routes", `{"topic":"routes","src":1001,"now":1,"dat":"bmV3","shm":"","at":1000}`)
	from := b.listen("routes")

	var first []msgbus.Outgoing // the relay's own subscription, which it renews
	w.to(1001, func(ctx context.Context, messages []msgbus.Outgoing) []error {
		if errs := w.deliver(ctx, 1001, messages); errs[0] != nil || len(first) > 0 || messages[0].Message.Command != msgbus.SubscribeCommand {
			return errs
		}
		first = messages
		return w.deliver(ctx, 1001, messages)
	})
	b.subscribe(1001, 60, "routes")
	if got := heard(t, from); got != "1001 routes new" {
		t.Errorf("heard %s", got)
	}
}

// Each new app that listens makes all others of its machine hear old events again.
func TestWhatIsRetainedComesOnce(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	from := b.listen("#")
	b.want("app-b", 1001, "#")
	a.request(publish("routes", "new", map[string]any{"retain": true}))
	eventually(t, "it is published", func() bool { return len(a.waiting()) == 0 && a.length("msgbus.system.local") == 0 })
	b.subscribe(1001, 60, "#")
	if got := heard(t, from); got != "1001 routes new" {
		t.Errorf("heard %s", got)
	}
	b.subscribe(1001, 60, "#")
	b.subscribe(1001, 60, "routes") // new, and it has been heard
	a.request(publish("end", "", nil))
	if got := heard(t, from); got != "1001 end " {
		t.Errorf("heard %s", got)
	}
}

// A subscriber is sent what was the latest, is overtaken by a newer one, and keeps the old one
// for ever.
//
// Breaks it: in effects.lua, retain without the look at `at`.
func TestOldRetainedEventDoesNotTakeThePlaceOfANewerOne(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	from := b.listen("#")
	b.want("app-b", 1001, "#")
	b.subscribe(1001, 60, "#")
	a.request(publish("routes", "new", map[string]any{"retain": true}))
	if got := heard(t, from); got != "1001 routes new" {
		t.Errorf("heard %s", got)
	}
	for _, ext := range []map[string]any{{"retain": true, "latest": true, "at": 1000}, {"retain": true, "latest": true}} {
		a.request(with(publish("routes", "old", ext), map[string]any{"dst": []int{1002}}))
	}
	a.request(publish("routes", "", map[string]any{"retain": true}))
	if got := heard(t, from); got != "1001 routes " {
		t.Errorf("heard %s", got)
	}
	for _, s := range []*site{a, b} {
		if kept := s.rdb.HGetAll(t.Context(), "msgbus.system.retained").Val(); len(kept) != 0 {
			t.Errorf("twin %d keeps %v after an event without data", s.twin, kept)
		}
	}
}

// A twin fills every service's memory with what it wants cancelled.
func TestCancellationIsSmall(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	data, _ := json.Marshal(map[string]any{"cmd": "work", "tag": strings.Repeat("x", msgbus.MaxCancel)})
	for _, large := range []map[string]any{
		{"dat": base64.StdEncoding.EncodeToString(data)}, {"shm": strings.Repeat("x", msgbus.MaxCancel)},
	} {
		a.request(with(ask("msgbus.cancel", "app.1", 1002), large))
		if got := a.pop("app.1"); !has(got["err"], "at most 4096 are allowed") {
			t.Errorf("it got %v", got["err"])
		}
	}
	if n := b.rdb.Exists(t.Context(), "msgbus.system.stream.msgbus").Val(); n != 0 {
		t.Error("it is kept")
	}
}
