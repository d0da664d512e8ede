package relay_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// A message that is being sent when the relay is told to stop must still be
// noted as sent, or the peer gets it again.
func TestStopLetsWhatIsInFlightFinish(t *testing.T) {
	t.Parallel()
	w := newWire()
	letGo := make(chan struct{})
	w.to(1002, hang(1002, letGo))
	a := run(t, w, 1001)
	a.request(ask("x", "app.1", 1002))
	w.awaitSendings(t, 1002, 1)
	a.halt()
	eventually(t, "it waits for the lane only", func() bool { return a.length("msgbus.system.local") == 0 })
	close(letGo)
	a.stop()
	if n := a.rdb.ZCard(t.Context(), "msgbus.system.lane.1002.requests").Val(); n != 0 {
		t.Error("what was sent at the stop would be sent again")
	}
	if a.rdb.HExists(t.Context(), "msgbus.system.instances", a.instance).Val() {
		t.Error("the session goes on: what it claims would wait for the end of its lease")
	}
}

// A claim that was taken is dealt with, though the relay is told to stop
// meanwhile: else each restart would do the work twice.
func TestStopLetsAClaimBeHandled(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, accepting)
	gate := &gated{begun: make(chan struct{}), goOn: make(chan struct{})}
	a := run(t, w, 1001, func(s *site) {
		s.through = func(store *backlog.Store) relay.Backlog { gate.Store = store; return gate }
	})
	a.request(ask("x", "app.1", 1002))
	receive(t, gate.begun, "the request to be admitted")
	a.halt()
	close(gate.goOn)
	a.stop()
	if n := a.length("msgbus.system.local"); n != 0 || len(a.waiting()) != 1 {
		t.Errorf("%d requests went back to the queue, %d are admitted", n, len(a.waiting()))
	}
}

// A gated storage lets nothing be admitted until it is told.
type gated struct {
	*backlog.Store
	begun, goOn chan struct{}
}

func (g *gated) AdmitAndFetch(ctx context.Context, c *msgbus.Claim, requests []msgbus.Admission, twin uint32) ([]string, *msgbus.Batch, error) {
	close(g.begun)
	<-g.goOn
	return g.Store.AdmitAndFetch(ctx, c, requests, twin)
}

// What a peer took before it was cut off is known, and not sent again.
func TestStopNotesWhatAPeerTookBeforeItWasCutOff(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, func(ctx context.Context, messages []msgbus.Outgoing) []error {
		<-ctx.Done()
		errs := all(messages, &msgbus.Failure{Reason: msgbus.Timeout})
		errs[0] = nil
		return errs
	})
	a := newSite(t, w, 1001, withRelay(func(o *relay.Options) { o.Drain = 50 * time.Millisecond }))
	a.request(ask("x", "app.1", 1002))
	a.request(ask("x", "app.1", 1002))
	a.start()
	w.awaitSendings(t, 1002, 1)
	a.stop()
	if left := a.rdb.ZRange(t.Context(), "msgbus.system.lane.1002.requests", 0, -1).Val(); len(left) == 0 || left[0] != "1002.2" {
		t.Errorf("%v would be sent after the restart, want 1002.2 and not 1002.1", left)
	}
}

// A peer that hangs must not keep the unit from stopping, nor pay with a try of
// the app's for our stop.
func TestStopCutsAHangingPeerAndCostsNoTry(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, hang(1002, nil))
	a := run(t, w, 1001, withRelay(func(o *relay.Options) { o.Drain = 50 * time.Millisecond }))
	a.request(with(ask("x", "app.1", 1002), map[string]any{"try": 0}))
	w.awaitSendings(t, 1002, 1)
	a.stop()
	if n, err := a.rdb.HGet(t.Context(), "msgbus.system.lane.1002", "failures").Result(); err == nil && n != "0" {
		t.Errorf("the stop is counted as %s failures", n)
	}
	if n := a.length("app.1"); n != 0 {
		t.Error("the stop ended the request")
	}
	w.to(1002, accepting)
	a.start()
	if sent := w.awaitSendings(t, 1002, 2); sent[1].uid != sent[0].uid {
		t.Errorf("it is sent again as %s, first %s: the peer cannot tell that it is a repeat", sent[1].uid, sent[0].uid)
	}
}

// What a relay had taken when it was killed belongs to whoever comes next.
func TestClaimsOfAKilledRelayAreServed(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, accepting)
	a := newSite(t, w, 1001, withStorage(func(o *backlog.Options) { o.Lease = time.Second }))
	a.instance = "killed"
	a.open()
	if err := a.store.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		a.request(ask("x", "app.1", 1002))
	}
	if c, err := a.store.Take(t.Context(), msgbus.LocalQueue); err != nil || len(c.Messages) != 10 {
		t.Fatalf("took %v, %v", c, err)
	}
	a.close()
	a.instance = "next"
	a.start()
	w.awaitSendings(t, 1002, 10)
}

// Two relays that stop and start all the time lose nothing, and handle nothing
// twice.
func TestRestartsUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	w := newWire()
	short := withRelay(func(o *relay.Options) { o.Drain = 2 * time.Second })
	a, b := run(t, w, 1001, short), run(t, w, 1002, short)
	l := startLoad(t, a, b)
	for range 10 {
		for _, s := range []*site{a, b} {
			l.awaitAnswers(20)
			s.stop()
			s.start()
		}
	}
	l.finish()
}

// Redis comes back after a crash with everything that it had accepted, and the
// relays go on by themselves.
func TestCrashOfRedisLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWire()
	a := run(t, w, 1001, onRedis(redistest.Start(t, redistest.AppendOnly("always"))))
	b := run(t, w, 1002, onRedis(redistest.Start(t, redistest.AppendOnly("always"))))
	l := startLoad(t, a, b)
	for range 3 {
		for _, s := range []*site{a, b} {
			l.awaitAnswers(20)
			l.pause(func() { s.redis.Restart() })
		}
	}
	l.finish()
}

// A relay that was silent for longer than its lease has lost its claims to
// others. It must notice, and go on under a new session.
func TestFencedRelayBeginsANewSession(t *testing.T) {
	t.Parallel()
	w := newWire()
	a, b := run(t, w, 1001), run(t, w, 1002)
	other := run(t, w, 1001, onRedisOf(a, "other"))
	// The lease of both ends now; whichever looks first fences the other.
	eventually(t, "one is fenced", func() bool {
		for _, s := range []*site{a, other} {
			for _, session := range a.rdb.ZRange(t.Context(), "msgbus.system.sessions", 0, -1).Val() {
				a.rdb.ZAddXX(t.Context(), "msgbus.system.sessions", redis.Z{Score: 1, Member: session})
			}
			if _, err := s.store.Recover(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return len(a.log.find(sessionGone)) > 0
	})
	for range 20 {
		a.request(ask("x", "app.1", 1002))
		b.reply(b.service("x"), nil)
		a.pop("app.1")
	}
}

const sessionGone = "began a new session: this relay was silent for longer than its lease, or Redis lost the old one"

// Two relays of one name would take each other's claims. The older one ends
// and says why.
func TestSecondRelayOfTheSameNameEndsTheFirst(t *testing.T) {
	t.Parallel()
	w := newWire()
	a := run(t, w, 1001, withStorage(func(o *backlog.Options) { o.Lease = time.Second }))
	second := run(t, w, 1001, onRedisOf(a, a.instance))
	err := receive(t, a.ended, "the first relay to end")
	if !errors.Is(err, msgbus.ErrSuperseded) || !has(err.Error(), "--instance") {
		t.Errorf("it ended with %v, want ErrSuperseded and a hint", err)
	}
	a.halt = nil
	w.to(1002, accepting)
	second.request(ask("x", "app.1", 1002))
	w.awaitSendings(t, 1002, 1)
}

// A site that comes back from a power cut starts its relay before its Redis.
func TestRelayWaitsForRedisAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, accepting)
	a := newSite(t, w, 1001)
	a.redis.Kill()
	a.open()
	a.serve()
	eventually(t, "it says that it waits", func() bool { return len(a.log.find("cannot begin a session; trying again")) == 1 })
	a.redis.Restart()
	receive(t, a.relay.Ready(), "the first session")
	a.request(ask("x", "app.1", 1002))
	w.awaitSendings(t, 1002, 1)
	if n := len(a.log.find("cannot begin a session; trying again")); n != 1 {
		t.Errorf("the outage is logged %d times, want once", n)
	}
	if n := len(a.log.find("Redis is back")); n != 1 {
		t.Errorf("its end is logged %d times, want once", n)
	}
}

// A relay that was stopped before Redis was there stops.
func TestRelayStopsWhileItWaitsForRedis(t *testing.T) {
	t.Parallel()
	a := newSite(t, newWire(), 1001)
	a.redis.Kill()
	a.open()
	a.serve()
	a.stop()
}

// Starting and stopping must leave nothing behind (the leak check at the end of
// all tests sees to goroutines), however little time there is in between.
func TestManyStartsAndStopsLeaveNothing(t *testing.T) {
	t.Parallel()
	w := newWire()
	server := redistest.Start(t)
	var group sync.WaitGroup
	for i := range 4 {
		s := newSite(t, w, uint32(1001+i), onRedis(server))
		group.Go(func() {
			for n := range 50 {
				s.open()
				s.serve()
				if n%2 == 0 {
					<-s.relay.Ready()
				}
				s.end()
			}
		})
	}
	group.Wait()
	c := server.Client()
	if n := c.HLen(t.Context(), "msgbus.system.instances").Val(); n > 4 {
		t.Errorf("%d instances are registered after the stop", n)
	}
	if keys := c.Keys(t.Context(), "msgbus.system.claim.*").Val(); len(keys) != 0 {
		t.Errorf("claims are left: %v", keys)
	}
}

// The same Relay may be run again after it was stopped.
func TestRelayRunsAgainAfterAStop(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1002, accepting)
	a := newSite(t, w, 1001)
	a.open()
	for i := range 2 {
		a.serve()
		a.request(ask("x", "app.1", 1002))
		w.awaitSendings(t, 1002, i+1)
		a.halt()
		if err := receive(t, a.ended, "Run to return"); err != nil {
			t.Fatal(err)
		}
		a.halt = nil
	}
}
