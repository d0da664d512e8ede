package client_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// One machine of many is down, and no app of the others can listen to anything.
func TestASubscriptionDoesNotWaitForTwinsThatAreAway(t *testing.T) {
	for name, answer := range map[string]func(r *rig, m fleettest.Message){
		"it does not answer":   func(*rig, fleettest.Message) {},
		"it cannot be joined":  func(r *rig, m fleettest.Message) { r.give(busError(m, 1003, "retries_exhausted", "away")) },
		"the request has died": func(r *rig, m fleettest.Message) { r.give(busError(m, 1003, "expired", "away")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			subscribed := r.subscribe(client.From(1002, 1003), client.Within(time.Second))
			m := r.asked()
			r.give(replyFrom(m, 1002, "{}"))
			answer(r, m)
			s := <-subscribed
			r.must(s.err)
			r.awaitSaid("its events come when it is there again")
			wanted, err := r.rdb.ZRange(r.Context(), "msgbus.system.subscriptions", 0, -1).Result()
			r.must(err)
			if len(wanted) != 2 || !slices.ContainsFunc(wanted, func(w string) bool { return strings.HasSuffix(w, " 1003 news.#") }) {
				t.Errorf("the relay finds %q, and 1003 is never asked again", wanted)
			}
			r.must(s.Close())
		})
	}
}

// A twin that refuses is there: who waits for its events waits for ever.
func TestASubscriptionToATwinThatRefusesFailsWhateverItWaits(t *testing.T) {
	r := newRig(t)
	subscribed := r.subscribe(client.From(1002), client.Within(time.Minute))
	r.give(busError(r.asked(), 1002, "not_allowed", "no"))
	var e *client.Error
	if s := <-subscribed; !errors.As(s.err, &e) || e.Twin != 1002 {
		t.Errorf("the error is %v", s.err)
	}
}

// A gateway's operator has not allowed one twin yet, and no page hears anything; or it does
// not hear that twin when he has.
func TestASubscriptionThatAsksAgainDoesNotFailWithATwinThatRefuses(t *testing.T) {
	r := newRig(t)
	subscribed := r.subscribe(client.From(1002, 1003), client.AskAgain())
	m := r.asked()
	r.give(busError(m, 1003, "not_allowed", "no"))
	r.give(replyFrom(m, 1002, "{}"))
	s := <-subscribed
	r.must(s.err)
	r.awaitSaid("a twin refuses to send events")
	if n := r.rdb.ZCard(r.Context(), "msgbus.system.subscriptions").Val(); n != 2 {
		t.Errorf("the relay finds %d of 2 wishes", n)
	}
	r.must(s.Close())
}

type subscribed struct {
	*client.Subscription
	err error
}

// subscribe subscribes while the test plays the relay.
func (r *rig) subscribe(opts ...client.SubscribeOption) <-chan subscribed {
	ended := make(chan subscribed, 1)
	go func() {
		s, err := r.c.Subscribe(r.context(), "news.#", opts...)
		ended <- subscribed{s, err}
	}()
	return ended
}
