package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A twin that is down for a day must not fill the log with a line a probe.
func TestFailureIsToldWhenItStartsChangesAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o onset
		var told []string
		tell := func(what string) func() { return func() { told = append(told, what) } }
		ended := func(d time.Duration) { told = append(told, "ended after "+d.String()) }
		o.end(ended)
		for _, what := range []string{"refused", "refused", "timeout", "timeout", "refused"} {
			o.begin(what, tell(what))
			<-time.After(time.Second)
		}
		o.end(ended)
		o.end(ended)
		if want := []string{"refused", "timeout", "refused", "ended after 5s"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// Each connection has a port of its own: a failure that is told by its whole
// text would be news each time.
func TestSameFailureOnAnotherConnectionIsNoNews(t *testing.T) {
	failure := func(port int) error {
		op := &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: port}, Err: errors.New("i/o timeout")}
		return fmt.Errorf("take: %w", fmt.Errorf("redis: %w", op))
	}
	if a, b := cause(failure(40001)), cause(failure(40002)); a != b || a != "i/o timeout" {
		t.Errorf("%q and %q", a, b)
	}
}

// A flood from a twin must not become a flood of probes of its dead relay.
func TestThrottleLetsOneThroughASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h throttle
		passed := 0
		for range 300 {
			if h.allow(1002) {
				passed++
			}
			<-time.After(10 * time.Millisecond)
		}
		if passed != 3 {
			t.Errorf("%d passed in three seconds, want 3", passed)
		}
		if !h.allow(1003) {
			t.Error("one twin's turn is another's")
		}
		for twin := range uint32(3 * throttleMost) {
			h.allow(twin)
		}
		if len(h.last) > throttleMost {
			t.Errorf("%d twins are remembered, want at most %d", len(h.last), throttleMost)
		}
	})
}

// A message that is admitted while its lane finds nothing more to send must not
// wait for the next look.
func TestLaneWokenWhileItRunsRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		begun, goOn := make(chan struct{}), make(chan struct{})
		l := newLanes(1, func(context.Context, uint32, *msgbus.Batch) { runs++; begun <- struct{}{}; <-goOn })
		l.open()
		l.wake(7)
		<-begun
		l.wake(7)
		l.wake(7)
		goOn <- struct{}{}
		<-begun
		goOn <- struct{}{}
		synctest.Wait()
		if runs != 2 {
			t.Errorf("it ran %d times, want 2", runs)
		}
		l.drain(0)
	})
}

// No more lanes run than may, and the scheduler hears of each place that is free
// and of each lane that found none.
func TestLaneWithoutAPlaceIsLeftToTheScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		l := newLanes(2, func(context.Context, uint32, *msgbus.Batch) { <-goOn })
		if l.start(1, false) {
			t.Error("a lane runs before the relay does")
		}
		l.open()
		if !l.start(1, false) || !l.start(2, false) || l.start(3, false) {
			t.Fatal("of three lanes not the first two are served")
		}
		select {
		case <-l.changed:
			t.Error("the scheduler is told of its own attempt, and would never rest")
		default:
		}
		l.wake(3)
		<-l.changed
		goOn <- struct{}{}
		<-l.freed
		if !l.start(3, false) {
			t.Error("the free place is not given")
		}
		close(goOn)
		l.drain(time.Hour)
		if l.start(4, false) {
			t.Error("a lane begins after the stop")
		}
	})
}

// Slow lanes that come to life again, all at once, must not make room for as many
// more: what runs is bounded in all.
//
// Broken by: in room, without `len(l.running) < 2*l.most`; in setSlow, without
// `l.slow++`, or without the signal; in run, without `l.slow--`.
func TestLanesAreBoundedHoweverTheyChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		l := newLanes(2, func(context.Context, uint32, *msgbus.Batch) { <-goOn })
		l.open()
		started := func(failing bool, twins ...uint32) (n int) {
			for _, twin := range twins {
				if l.start(twin, failing) {
					n++
				}
			}
			return n
		}
		if n := started(true, 1, 2, 3); n != 2 {
			t.Errorf("%d failing lanes run, want 2", n)
		}
		if n := started(false, 4, 5, 6); n != 2 {
			t.Errorf("%d others run, want 2", n)
		}
		l.setSlow(4, true) // a third slow one: beyond those that are not counted
		if n := started(false, 6); n != 0 {
			t.Error("five of at most four run")
		}
		for _, twin := range []uint32{1, 4, 4} {
			l.setSlow(twin, false)
		}
		if n := started(true, 7) + started(false, 7); n != 0 {
			t.Error("five of at most four run")
		}
		close(goOn)
		synctest.Wait()
		if l.slow != 0 || len(l.running) != 0 {
			t.Errorf("%d lanes run, %d of them slow, when all have ended", len(l.running), l.slow)
		}
		l.drain(0)
	})
}

// A lane is slow when its attempt lasts, and no more when it has been answered;
// whoever waits for a place hears of both.
//
// Broken by: in setSlow, without the signal; in succeeded, without setSlow.
func TestSlowLaneGivesItsPlaceAndTakesItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		l := newLanes(1, func(context.Context, uint32, *msgbus.Batch) { <-goOn })
		l.open()
		l.start(1, false)
		timer := l.watch(1)
		if l.start(2, false) {
			t.Error("a lane that has just begun has lost its place")
		}
		<-l.freed
		if !l.start(2, false) {
			t.Error("a slow lane holds its place")
		}
		timer.Stop()
		l.succeeded(1, func(time.Duration) {})
		<-l.freed
		if l.slow != 0 || l.start(3, true) {
			t.Error("a lane that was answered is slow for ever, or three of at most two run")
		}
		quick := l.watch(2)
		quick.Stop()
		<-time.After(time.Minute)
		if l.slow != 0 {
			t.Error("a quick attempt made its lane slow")
		}
		close(goOn)
		l.drain(0)
	})
}

// The stop waits for what is being sent, and not for ever.
func TestDrainCutsWhatHangsAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(2, func(ctx context.Context, _ uint32, _ *msgbus.Batch) { <-ctx.Done() })
		l.open()
		l.wake(1)
		begin := time.Now()
		l.drain(10 * time.Second)
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("it took %v, want 10s", took)
		}
	})
}

// A clockwork is a Backlog of which only the clock works.
type clockwork struct {
	Backlog
	now time.Time
}

func (c clockwork) Now() time.Time { return c.now }

// A request with the longest life is refused by its peer when a lagging clock
// makes it a second longer.
func TestRequestIsNotSentWithMoreLifeThanItWasGiven(t *testing.T) {
	admitted := time.UnixMilli(1_700_000_000_123)
	for _, c := range []struct {
		after time.Duration
		want  int64
	}{{-20 * time.Millisecond, 10}, {0, 10}, {time.Millisecond, 10}, {4500 * time.Millisecond, 6}, {time.Hour, 1}} {
		r := New(Options{Twin: 1001}, clockwork{now: admitted.Add(c.after)}, nil)
		e := &msgbus.Entry{Message: &msgbus.Message{Expiration: 10}, Admitted: admitted, Deadline: admitted.Add(10 * time.Second)}
		if got := r.requestToPeer(e).Expiration; got != c.want {
			t.Errorf("%v after its admission it is sent with exp %d, want %d", c.after, got, c.want)
		}
	}
}

// Clients show this text: it names the life that was asked for, as far as it
// was granted, and not what was left of it.
func TestExpiredTextNamesTheLife(t *testing.T) {
	admitted := time.UnixMilli(1_700_000_000_123)
	r := New(Options{Twin: 1001, MaxLife: 2 * time.Hour}, clockwork{now: admitted}, nil)
	for _, c := range []struct {
		exp  int64
		life time.Duration
		want string
	}{
		{30, 12 * time.Second, "request timeout (expiration reached, 30)"}, // its now was 18 s old
		{0, time.Hour, "request timeout (expiration reached, 3600)"},
		{99999, 2 * time.Hour, "request timeout (expiration reached, 7200)"},
		{1_700_000_060, 60 * time.Second, "request timeout (expiration reached, 60)"},
	} {
		e := &msgbus.Entry{Message: &msgbus.Message{Expiration: c.exp}, Admitted: admitted, Deadline: admitted.Add(c.life)}
		if got := r.expiredText(e); got != c.want {
			t.Errorf("exp %d: %q, want %q", c.exp, got, c.want)
		}
	}
}
