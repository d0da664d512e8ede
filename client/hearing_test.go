package client_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A gateway with some thousand users has as many connections to Redis, which takes no more
// (maxclients), from anybody.
func TestSubscriptionsShareAConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const topics, each = 50, 4
	all := make([]*client.Subscription, topics*each)
	var subscribing sync.WaitGroup
	for i := range all {
		subscribing.Go(func() { all[i] = must[*client.Subscription](t)(r.c.Subscribe(r.context(), topicOf(i%topics))) })
	}
	subscribing.Wait()
	if n := len(r.listening()); n != 1 {
		t.Errorf("%d subscriptions have %d connections", len(all), n)
	}
	for i := range topics {
		if n := r.tellAll(topicOf(i), i); n != 1 {
			t.Errorf("an event goes to Redis's clients %d times", n)
		}
	}
	for i, s := range all {
		r.wantEvent(s, i%topics, 0)
	}
	for _, s := range all[topics:] {
		r.must(s.Close())
	}
	r.tellAll(topicOf(7), "still")
	r.wantEvent(all[7], "still", 0)
	for _, s := range all[:topics] {
		r.must(s.Close())
	}
	fleettest.Eventually(r, "the end of the subscriptions", func() error {
		if left := r.rdb.PubSubChannels(r.Context(), "*").Val(); len(left) > 0 {
			return fmt.Errorf("Redis still sends %q", left)
		}
		return nil
	})
}

// A page that is too slow keeps the others from hearing, or is not told what it has missed.
func TestASlowSubscriptionCostsTheOthersNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	slow, other := r.hears("news", client.Buffer(2)), r.hears("news", client.Buffer(1000))
	const n = 500
	for i := range n {
		r.tellAll("news", i)
	}
	for i := range n {
		r.wantEvent(other, i, 0)
	}
	r.wantEvent(slow, n-2, n-2)
	r.wantEvent(slow, n-1, 0)
}

// One app changes what it has heard, and another one hears that.
func TestWhatASubscriptionGetsIsItsOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first, second := r.hears("news"), r.hears("news")
	r.tellAll("news", "mine")
	e := must[*client.Event](t)(first.Next(r.context()))
	copy(e.Data, "xxxxxx")
	r.wantEvent(second, "mine", 0)
}

// Redis is started again, and some subscriptions hear nothing from then on, or do not know
// that they have missed something.
func TestAllSubscriptionsHearAgainAndKnowThatTheyMayHaveMissedSomething(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var all []*client.Subscription
	for i := range 20 {
		all = append(all, r.hears(topicOf(i)))
	}
	for range 3 {
		r.must(r.rdb.ClientKillByFilter(r.Context(), "TYPE", "pubsub").Err())
		for i := range all {
			fleettest.Eventually(r, "to be heard again", func() error {
				if r.tellAll(topicOf(i), i) != 1 {
					return fmt.Errorf("nobody hears %s", topicOf(i))
				}
				return nil
			})
		}
		for i, s := range all {
			r.wantEvent(s, i, -1)
		}
	}
	r.awaitSaid("events can be heard again")
}

// What is published as soon as an app has subscribed does not come, or what was published
// before it did comes, too: both only now and then, when others come and go.
func TestASubscriptionBeginsWhenItReturns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := r.context()
	var coming sync.WaitGroup
	for worker := range 8 {
		coming.Go(func() {
			for i := range 50 {
				id := fmt.Sprintf("%d.%d", worker, i)
				r.tellAll("news", "before "+id)
				s, err := r.c.Subscribe(ctx, "news")
				if err != nil {
					t.Error(err)
					return
				}
				r.tellAll("news", "after "+id)
				for {
					e, err := s.Next(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					var got string
					if e.Decode(&got) != nil || e.Lost != 0 {
						t.Errorf("%s comes, after %d were lost", e.Data, e.Lost)
					}
					if got == "before "+id {
						t.Error("it hears what was published before")
					}
					if got == "after "+id {
						break
					}
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	coming.Wait()
}

// One app asks for what this user of Redis may not hear, and waits for ever, or the others
// with it.
func TestASubscriptionThatRedisRefusesFailsAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.must(r.rdb.Do(r.Context(), "acl", "setuser", "default", "resetchannels", "&msgbus.events.news").Err())
	s := r.hears("news")
	if _, err := r.c.Subscribe(r.context(), "secret"); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("the error is %v", err)
	}
	r.hears("news")
	r.tellAll("news", "x")
	must[*client.Event](t)(s.Next(r.context()))
}

// An app waits for its deadline although Redis is not there.
func TestWithoutRedisASubscriptionFailsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.hears("news")
	r.server.Kill()
	if _, err := r.c.Subscribe(r.Context(), "other"); err == nil {
		t.Error("it hears what nobody publishes")
	}
	r.must(s.Close())
}

// A page that has just been opened shows what is old, or of another topic.
func TestTheLatestAreThoseOfTheTopicsThatAreAskedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for field, data := range map[string]string{"1001 state.a": "a", "1002 state.a": "b", "1001 other": "c"} {
		twin, topic, _ := strings.Cut(field, " ")
		r.rdb.HSet(r.Context(), "msgbus.system.retained", field, eventOf(topic, data).With("src", json.Number(twin)).String())
	}
	r.rdb.HSet(r.Context(), "msgbus.system.retained", "1003 state.a", "no JSON")
	latest, err := r.c.Latest(r.context(), "state.*")
	r.must(err)
	var got []string
	for _, e := range latest {
		if !e.Latest {
			t.Errorf("%s does not say that it is the latest", e.Data)
		}
		got = append(got, fmt.Sprintf("%d %s %s", e.Source, e.Topic, e.Data))
	}
	slices.Sort(got)
	if want := []string{`1001 state.a "a"`, `1002 state.a "b"`}; !slices.Equal(got, want) {
		t.Errorf("the latest are %q, want %q", got, want)
	}
	if _, err := r.c.Latest(r.context(), "a..b"); err == nil {
		t.Error("there are latest events of what is no pattern")
	}
}

// An app that closes its client waits for events for ever.
func TestSubscriptionsEndWithTheirClient(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.open(client.Options{})
	s := must[*client.Subscription](t)(c.Subscribe(r.context(), "news"))
	r.must(c.Close())
	_, err := s.Next(r.context())
	wantErrorIs(t, err, client.ErrClosed)
	_, err = c.Subscribe(r.context(), "news")
	wantErrorIs(t, err, client.ErrClosed)
	r.must(s.Close())
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
		return v
	}
}

func topicOf(n int) string { return fmt.Sprint("task.", n) }

// hears subscribes until the test ends.
func (r *rig) hears(pattern string, opts ...client.SubscribeOption) *client.Subscription {
	r.Helper()
	s, err := r.c.Subscribe(r.context(), pattern, opts...)
	r.must(err)
	r.Cleanup(func() { _ = s.Close() })
	return s
}

// listening are the connections of Redis that listen to channels.
func (r *rig) listening() (all []string) {
	r.Helper()
	list, err := r.rdb.ClientList(r.Context()).Result()
	r.must(err)
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " sub=0 ") {
			all = append(all, line)
		}
	}
	return all
}

// tellAll publishes as the relay does, and returns how often Redis sends it.
func (r *rig) tellAll(topic string, v any) int64 {
	n, err := r.rdb.Publish(r.Context(), "msgbus.events."+topic, eventOf(topic, v).String()).Result()
	if err != nil {
		r.Errorf("publish %s: %v", topic, err)
	}
	return n
}

// eventOf is an event as the relay publishes it.
func eventOf(topic string, v any) fleettest.Message {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return fleettest.Message{"topic": topic, "src": 1001, "now": 1_800_000_000, "dat": fleettest.Encode(string(data)), "shm": ""}
}

func (r *rig) wantEvent(s *client.Subscription, v any, lost int) {
	r.Helper()
	e, err := s.Next(r.context())
	if err != nil {
		r.Fatalf("%v does not come: %v; the log says:\n%s", v, err, r.log)
	}
	if string(e.Data) != compact(r, v) || e.Lost != lost {
		r.Errorf("heard %s after %d were lost, want %v after %d", e.Data, e.Lost, v, lost)
	}
}
