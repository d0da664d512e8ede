package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/redistest"
)

// Redis is killed under a running relay and comes back, with all that it had
// accepted: every message from before and after must be answered, once.
func TestMessagesSurviveCrashesOfTheAppsRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001, redistest.AppendOnly("always")), f.site(1002)
	a.start()
	b.start()
	w := newBatch(t, a, b)
	for range 5 {
		w.push(40) // wherever they are when it crashes
		w.work.next(t)
		a.redis.Kill()
		a.daemon.awaitNotReady("Redis")
		a.redis.Restart()
		w.push(10) // while the relay finds its way back
		a.daemon.awaitReady()
	}
	w.push(10)
	w.wantAllOnce()
}

// The other side's Redis, with requests in its service's queue. There is no
// service yet: it would lose what it has popped.
func TestMessagesSurviveCrashesOfTheServicesRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001), f.site(1002, redistest.AppendOnly("always"))
	a.start()
	b.start()
	w := &batch{t: t, a: a, b: b}
	for range 5 {
		w.push(40)
		eventually(t, "some have arrived", func() error {
			if b.length("msgbus.work") == 0 {
				return errors.New("the service's queue is empty")
			}
			return nil
		})
		b.redis.Kill()
		b.daemon.awaitNotReady("Redis")
		w.push(10)
		b.redis.Restart()
		b.daemon.awaitReady()
	}
	w.work = b.serve("work", func(m message) (string, error) { return m.data(), nil })
	w.wantAllOnce()
}

// A Redis that hangs (its disk, its machine) and goes on: the relay must not
// lose what it held meanwhile, nor send it twice.
func TestMessagesSurviveARedisThatHangs(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	w := newBatch(t, a, b)
	for _, hangs := range []*site{a, b} {
		other := a
		if hangs == a {
			other = b
		}
		hangs.redis.Stop()
		if hangs == b {
			// The app's Redis is well, and takes on.
			w.push(10)
		}
		hangs.daemon.awaitNotReady("Redis")
		other.daemon.awaitReady()
		hangs.redis.Continue()
		w.push(10)
		hangs.daemon.awaitReady()
	}
	w.wantAllOnce()
}

// A Redis that was emptied by hand (FLUSHALL) knows no session and no counter.
// The relay must begin anew by itself, and no old number may be used twice.
func TestRelayGoesOnAfterRedisWasEmptied(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	for range 5 {
		a.wantAnswer(b.id)
	}
	for _, s := range []*site{a, b} {
		if err := s.rdb.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			a.wantAnswer(b.id)
		}
	}
}

// A Redis that keeps nothing on disk loses what it held with a crash, and the
// relay must still go on by itself: with numbers that were not used before.
func TestRelayGoesOnAfterACrashOfARedisThatKeepsNothing(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	for range 3 {
		for _, s := range []*site{a, b} {
			b.echo()
			a.wantAnswer(b.id)
			s.redis.Kill()
			s.daemon.awaitNotReady("Redis")
			s.redis.Restart()
			s.daemon.awaitReady()
			a.wantAnswer(b.id)
		}
	}
}

// After a power cut Redis comes back as it was some time ago. A number that was
// given out since would be taken for a repeat by the other side, and its request
// dropped in silence.
func TestOldCopyOfRedisUsesNoNumberTwice(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	w := newBatch(t, a, b)
	w.push(5)
	w.answers(5)
	a.awaitQuiet()
	if err := a.rdb.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.push(20)
	w.answers(20)
	a.daemon.kill()
	a.redis.Kill()
	a.redis.Restart()
	a.start()
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
			f := newFleet(t)
			a := f.site(1001)
			a.start()
			a.echo()
			a.wantAnswer(a.id)
			began := time.Now()
			trouble(a.redis)
			a.daemon.stop()
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
	f := newFleet(t)
	b := f.site(1002)
	b.start()
	x := newForeign(t, f, 1003)
	b.redis.Kill()
	b.daemon.awaitNotReady("Redis")
	for path, m := range map[string]message{
		"/zbus-remote": x.sign(x.wire("echo", "x", b.id, 1)),
		"/zbus-reply":  x.sign(x.wire("echo", "x", b.id, 1).with("uid", "1003.1")),
		"/zbus-cmd":    x.command("echo", "x", b.id),
		"/zbus-result": {"retqueue": "0ac5ef0a-3b6c-4bd2-8f8c-4a4e3b6f2a10"},
	} {
		status, answer := post(t, b.url(path), m.String())
		if status != 503 || answer.text("Reason") != "storage_failed" || strings.Contains(answer.text("Message"), "127.0.0.1") {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
	b.redis.Restart()
	b.daemon.awaitReady()
	b.echo()
	b.deliver("/zbus-remote", x.sign(x.wire("echo", "x", b.id, 1)))
	x.reply(b)
}

// Somebody writes something else into a key that must be a list: what goes
// through other keys must go on.
func TestQueueOfAnotherTypeHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	ctx := t.Context()
	a.rdb.Set(ctx, "msgbus.system.remote", "oops", 0)
	b.rdb.Set(ctx, "msgbus.system.remote", "oops", 0)
	b.rdb.Set(ctx, "msgbus.not-a-list", "oops", 0)
	a.daemon.wantSaid("WRONGTYPE")
	for range 3 {
		a.wantAnswer(b.id)
		a.wantError(request("not-a-list", "x", b.id), "cannot be served: its queue is no list")
	}

	// The queue itself, and a counter, until somebody mends them.
	a.rdb.Set(ctx, "msgbus.system.local", "oops", 0)
	a.rdb.Del(ctx, "msgbus.system.local")
	a.rdb.Del(ctx, "msgbus.counter.1002")
	a.rdb.LPush(ctx, "msgbus.counter.1002", "oops")
	a.wantAnswer(b.id)
	a.rdb.Set(ctx, "msgbus.counter.1002", "not a number", 0)
	a.wantAnswer(b.id)
}
