package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// Redis is killed under a running relay and comes back, with all that it had
// accepted: every message from before and after must be answered, once.
func TestMessagesSurviveCrashesOfTheAppsRedis(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001, redistest.AppendOnly("always")), f.Site(1002)
	a.Start()
	b.Start()
	w := newBatch(t, a, b)
	for range 5 {
		w.push(40) // wherever they are when it crashes
		w.work.Next(t)
		a.Redis.Kill()
		a.Daemon.AwaitNotReady("Redis")
		a.Redis.Restart()
		w.push(10) // while the relay finds its way back
		a.Daemon.AwaitReady()
	}
	w.push(10)
	w.wantAllOnce()
}

// The other side's Redis, with requests in its service's queue. There is no
// service yet: it would lose what it has popped.
func TestMessagesSurviveCrashesOfTheServicesRedis(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002, redistest.AppendOnly("always"))
	a.Start()
	b.Start()
	w := &batch{t: t, a: a, b: b}
	for range 5 {
		w.push(40)
		fleettest.Eventually(t, "some have arrived", func() error {
			if b.Length("msgbus.work") == 0 {
				return errors.New("the service's queue is empty")
			}
			return nil
		})
		b.Redis.Kill()
		b.Daemon.AwaitNotReady("Redis")
		w.push(10)
		b.Redis.Restart()
		b.Daemon.AwaitReady()
	}
	w.work = b.Serve("work", func(m fleettest.Message) (string, error) { return m.Data(), nil })
	w.wantAllOnce()
}

// A Redis that hangs (its disk, its machine) and goes on: the relay must not
// lose what it held meanwhile, nor send it twice.
func TestMessagesSurviveARedisThatHangs(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	w := newBatch(t, a, b)
	for _, hangs := range []*fleettest.Site{a, b} {
		other := a
		if hangs == a {
			other = b
		}
		hangs.Redis.Stop()
		if hangs == b {
			// The app's Redis is well, and takes on.
			w.push(10)
		}
		hangs.Daemon.AwaitNotReady("Redis")
		other.Daemon.AwaitReady()
		hangs.Redis.Continue()
		w.push(10)
		hangs.Daemon.AwaitReady()
	}
	w.wantAllOnce()
}

// A Redis that was emptied by hand (FLUSHALL) knows no session and no counter.
// The relay must begin anew by itself, and no old number may be used twice.
func TestRelayGoesOnAfterRedisWasEmptied(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	for range 5 {
		a.WantAnswer(b.ID)
	}
	for _, s := range []*fleettest.Site{a, b} {
		if err := s.RDB.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			a.WantAnswer(b.ID)
		}
	}
}

// A Redis that keeps nothing on disk loses what it held with a crash, and the
// relay must still go on by itself: with numbers that were not used before.
func TestRelayGoesOnAfterACrashOfARedisThatKeepsNothing(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	for range 3 {
		for _, s := range []*fleettest.Site{a, b} {
			b.Echo()
			a.WantAnswer(b.ID)
			s.Redis.Kill()
			s.Daemon.AwaitNotReady("Redis")
			s.Redis.Restart()
			s.Daemon.AwaitReady()
			a.WantAnswer(b.ID)
		}
	}
}

// After a power cut Redis comes back as it was some time ago. A number that was
// given out since would be taken for a repeat by the other side, and its request
// dropped in silence.
func TestOldCopyOfRedisUsesNoNumberTwice(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	w := newBatch(t, a, b)
	w.push(5)
	w.answers(5)
	a.AwaitQuiet()
	if err := a.RDB.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.push(20)
	w.answers(20)
	a.Daemon.Kill()
	a.Redis.Kill()
	a.Redis.Restart()
	a.Start()
	w.push(20)
	w.wantAllOnce()
}

// An operator stops the relay because Redis is in trouble: it must end, and not
// be killed after systemd's patience.
func TestRelayEndsWhenAskedWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	for what, trouble := range map[string]func(*redistest.Server){
		"killed": (*redistest.Server).Kill,
		"hangs":  (*redistest.Server).Stop,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := fleettest.New(t)
			a := f.Site(1001)
			a.Start()
			a.Echo()
			a.WantAnswer(a.ID)
			began := time.Now()
			trouble(a.Redis)
			a.Daemon.Stop()
			const systemd = 30 * time.Second // TimeoutStopSec of the unit
			if took := time.Since(began); took > systemd {
				t.Errorf("it took %s to end", took)
			}
		})
	}
}

// 200 is said only when Redis has the message. Without Redis the other side must
// keep it and come back.
func TestNothingIsAcceptedWithoutRedis(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	b := f.Site(1002)
	b.Start()
	x := newForeign(t, f, 1003)
	b.Redis.Kill()
	b.Daemon.AwaitNotReady("Redis")
	for path, m := range map[string]fleettest.Message{
		"/zbus-remote": x.Sign(x.Wire("echo", "x", b.ID, 1)),
		"/zbus-reply":  x.Sign(x.Wire("echo", "x", b.ID, 1).With("uid", "1003.1")),
		"/zbus-cmd":    x.Command("echo", "x", b.ID),
		"/zbus-result": {"retqueue": "0ac5ef0a-3b6c-4bd2-8f8c-4a4e3b6f2a10"},
	} {
		status, answer := fleettest.Post(t, b.URL(path), m.String())
		if status != 503 || answer.Text("Reason") != "storage_failed" || strings.Contains(answer.Text("Message"), "127.0.0.1") {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
	b.Redis.Restart()
	b.Daemon.AwaitReady()
	b.Echo()
	deliver(b, "/zbus-remote", x.Sign(x.Wire("echo", "x", b.ID, 1)))
	x.reply(b)
}

// Somebody writes something else into a key that must be a list: what goes
// through other keys must go on.
func TestQueueOfAnotherTypeHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	ctx := t.Context()
	a.RDB.Set(ctx, "msgbus.system.remote", "oops", 0)
	b.RDB.Set(ctx, "msgbus.system.remote", "oops", 0)
	b.RDB.Set(ctx, "msgbus.not-a-list", "oops", 0)
	a.Daemon.WantSaid("WRONGTYPE")
	for range 3 {
		a.WantAnswer(b.ID)
		a.WantError(fleettest.Request("not-a-list", "x", b.ID), "cannot be served: its queue is no list")
	}

	// The queue itself, and a counter, until somebody mends them.
	a.RDB.Set(ctx, "msgbus.system.local", "oops", 0)
	a.RDB.Del(ctx, "msgbus.system.local")
	a.RDB.Del(ctx, "msgbus.counter.1002")
	a.RDB.LPush(ctx, "msgbus.counter.1002", "oops")
	a.WantAnswer(b.ID)
	a.RDB.Set(ctx, "msgbus.counter.1002", "not a number", 0)
	a.WantAnswer(b.ID)
}
