package client_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// keepEvent puts an event into the stream of the exchange `jobs`, as the relay does.
func (r *rig) keepEvent(n int) {
	r.Helper()
	event := fmt.Sprintf(`{"topic":"jobs/do.%d","src":1001,"now":1795767852,"dat":"","shm":""}`, n)
	r.must(r.rdb.XAdd(r.Context(), &redis.XAddArgs{Stream: "msgbus.system.stream.jobs", Values: []string{"event", event}}).Err())
}

// compete opens a stream of the group `workers`.
func (r *rig) compete(consumer string) *client.Stream {
	r.Helper()
	s, err := r.c.Stream(r.context(), "jobs", client.After("0"), client.Competing("workers", consumer))
	r.must(err)
	r.Cleanup(func() { _ = s.Close() })
	return s
}

func (r *rig) wantNext(s *client.Stream, topic string) *client.Event {
	r.Helper()
	e, err := s.Next(r.context())
	r.must(err)
	wantEqual(r, "event", e.Topic, topic)
	return e
}

// One worker takes all that waits, and works on it for hours, while the other one has nothing
// to do.
func TestAWorkerTakesNoMoreThanItWorksOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for n := range 3 {
		r.keepEvent(n)
	}
	one, two := r.compete("one"), r.compete("two")
	r.wantNext(one, "jobs/do.0")
	r.wantNext(two, "jobs/do.1")
	r.wantNext(one, "jobs/do.2")
}

// A worker installs a machine for an hour, and after a minute another one begins to install it,
// too. But when the first one has died, somebody must.
func TestWhatAWorkerWorksOnIsItsOwnWhileItLives(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.c.SetSilence(3 * time.Second)
	r.keepEvent(0)
	one, two := r.compete("one"), r.compete("two")
	first := r.wantNext(one, "jobs/do.0")

	// An hour passes, as far as Redis knows.
	r.age(first.ID)
	fleettest.Eventually(t, "it says that it lives", func() error {
		if idle := r.idle(first.ID); idle > time.Minute {
			return fmt.Errorf("it was silent for %v", idle)
		}
		return nil
	})
	r.keepEvent(1)
	second := r.wantNext(two, "jobs/do.1")
	r.must(two.Ack(r.context(), second))

	r.must(one.Close())
	r.age(first.ID)
	r.wantNext(two, "jobs/do.0")
	if err := two.Ack(r.context(), first); err != nil || r.idle(first.ID) != 0 {
		t.Errorf("it cannot be acknowledged: %v", err)
	}
}

// age has an event be with its consumer for an hour.
func (r *rig) age(id string) {
	r.Helper()
	held := r.held(id)
	if len(held) != 1 {
		r.Fatalf("event %s is with %v", id, held)
	}
	r.must(r.rdb.Do(r.Context(), "XCLAIM", "msgbus.system.stream.jobs", "workers", held[0].Consumer, 0, id, "IDLE", time.Hour.Milliseconds(), "JUSTID").Err())
}

// idle is how long nothing was heard of an event, 0 if it is acknowledged.
func (r *rig) idle(id string) time.Duration {
	r.Helper()
	for _, held := range r.held(id) {
		return held.Idle
	}
	return 0
}

func (r *rig) held(id string) []redis.XPendingExt {
	r.Helper()
	held, err := r.rdb.XPendingExt(r.Context(), &redis.XPendingExtArgs{
		Stream: "msgbus.system.stream.jobs", Group: "workers", Start: id, End: id, Count: 1,
	}).Result()
	r.must(err)
	return held
}

// handOut has Redis hand events to a worker, whose answer is cut off.
func (r *rig) handOut(consumer string, n int64) {
	r.Helper()
	r.must(r.rdb.XReadGroup(r.Context(), &redis.XReadGroupArgs{
		Group: "workers", Consumer: consumer, Streams: []string{"msgbus.system.stream.jobs", ">"}, Count: n,
	}).Err())
}

// A connection breaks while a worker takes an event, and nobody ever works on it, as long as
// that worker lives.
//
// Breaks it: in keepHeld, what XPENDING tells in the place of ARGV.
func TestAnEventThatNeverArrivedGoesToAnotherWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.c.SetSilence(3 * time.Second)
	one, two := r.compete("one"), r.compete("two")
	r.keepEvent(0)
	held := r.wantNext(one, "jobs/do.0")
	r.keepEvent(1)
	r.handOut("one", 1)
	r.wantNext(two, "jobs/do.1")
	r.must(one.Ack(r.context(), held))
}

// A worker that had much to do when it ended gets only the first hundred of it back, and
// nobody gets the rest.
//
// Breaks it: in readHeld, without behind.
func TestAWorkerThatBeginsAgainGetsAllThatItHad(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const all = 250
	for n := range all {
		r.keepEvent(n)
	}
	first := r.compete("one")
	r.wantNext(first, "jobs/do.0")
	r.must(first.Close())
	r.handOut("one", all)
	again := r.compete("one")
	for n := range all {
		r.must(again.Ack(r.context(), r.wantNext(again, fmt.Sprintf("jobs/do.%d", n))))
	}
	r.keepEvent(all)
	r.wantNext(again, fmt.Sprintf("jobs/do.%d", all))
}

// What a dead worker has left is not found behind what others work on.
//
// Breaks it: in readLeft, "0" in the place of s.left.
func TestWhatAWorkerHasLeftIsFoundBehindWhatOthersWorkOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.must(r.compete("one").Close())
	const busy = 1200
	for n := range busy + 1 {
		r.keepEvent(n)
	}
	r.handOut("busy", busy)
	r.handOut("dead", 1)
	left := r.rdb.XPendingExt(r.Context(), &redis.XPendingExtArgs{Stream: "msgbus.system.stream.jobs", Group: "workers", Start: "-", End: "+", Count: 1, Consumer: "dead"}).Val()
	r.must(r.rdb.Do(r.Context(), "XCLAIM", "msgbus.system.stream.jobs", "workers", "dead", 0, left[0].ID, "IDLE", (2 * time.Minute).Milliseconds(), "JUSTID").Err())
	r.wantNext(r.compete("two"), fmt.Sprintf("jobs/do.%d", busy))
}
