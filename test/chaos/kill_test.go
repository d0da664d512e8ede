package chaos

import (
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// tellResumed notes how long after its start a relay's work went on.
func tellResumed(r *row, took times) {
	r.Helper()
	r.figure("answers again after a median of %s, at worst %s", took.median().Round(time.Millisecond), took.worst().Round(time.Millisecond))
}

// wantResumed is tellResumed, and holds the worst against a limit.
func wantResumed(r *row, took times, limit time.Duration) {
	r.Helper()
	tellResumed(r, took)
	r.atMost("worst, in s", took.worst().Seconds(), limit.Seconds())
}

// A machine's relay is killed again and again, by the kernel or by an impatient
// operator. An app that pushed a request would wait for ever, or its service
// would do the work twice.
//
// Seen to fail it: take.lua without `redis.call('RPUSH', KEYS[3], message)`, as
// with BLPOP.
func TestKillOfTheSendingRelay(t *testing.T) {
	r := begin(t, 1, "kill -9 the sending relay")
	p := newPair(r)
	p.start()
	p.ledger.service(p.b, "work")
	kills := r.of(8, 200)
	apps := p.ledger.apps(&traffic{least: r.of(1000, 100_000), rate: r.of(500, 1500), outstanding: 1000}, p.a, p.b.ID)
	var took times
	for i := range kills {
		r.pass(r.upTo(300 * time.Millisecond))
		took = append(took, p.restarted(p.a))
		if i%20 == 19 {
			r.progress("%d kills", i+1)
		}
	}
	apps.end()
	r.figure("%d kills", kills)
	p.ledger.wantAnswered()
	wantResumed(r, took, 2*time.Second)
}

// The relay of a service is killed: half of the times between its write to Redis
// and its answer to the other relay, which then sends again what is there.
//
// Seen to fail it: accept.lua without `note_seen(n)`: services take requests twice.
func TestKillOfTheReceivingRelay(t *testing.T) {
	r := begin(t, 3, "kill -9 the receiving relay")
	p := newPair(r)
	p.start()
	p.ledger.service(p.b, "work")
	kills := r.of(8, 200)
	apps := p.ledger.apps(&traffic{rate: r.of(200, 400)}, p.a, p.b.ID)
	var took times
	for i := range kills {
		if i%2 == 0 {
			r.pass(r.upTo(300 * time.Millisecond))
		} else {
			// Answers of the relay of b do not arrive, but requests do.
			p.toB.is(conditions{}, conditions{blocked: true})
			r.pass(100 * time.Millisecond) // the next ones are taken, and the relay of a waits
		}
		p.b.Daemon.Kill()
		p.toB.drop()
		p.toB.heal()
		at := time.Now()
		p.b.Launch()
		took = append(took, p.ledger.awaitAnswer(at))
		if i%20 == 19 {
			r.progress("%d kills", i+1)
		}
	}
	apps.end()
	r.figure("%d kills", kills)
	p.ledger.wantAnswered()
	tellResumed(r, took) // a lane's rest is in it
}

// An upgrade under load, on either side: nothing may be lost, and no try of a
// request used up by a stop of the relay that sends it.
//
// Seen to fail it: Run of relay.go with `return ctx.Err()` after leave: each stop ends
// with status 1. And serveNext of lane.go with `false` for `ctx.Err() != nil` in its
// last switch: requests without tries end with "all retries done".
func TestStopUnderLoad(t *testing.T) {
	r := begin(t, 5, "SIGTERM under load")
	p := newPair(r)
	p.a.Args = append(p.a.Args, "--drain", "1s")
	p.start()
	p.ledger.service(p.b, "work")
	stops := r.of(6, 100)
	var took times
	stop := func(victim *fleettest.Site, before, after func()) {
		r.pass(r.upTo(300 * time.Millisecond))
		before()
		began := time.Now()
		victim.Daemon.Stop() // wants status 0
		took = append(took, time.Since(began))
		after()
		at := time.Now()
		victim.Launch()
		p.ledger.awaitAnswer(at)
	}

	// A request without tries ends at the first send that fails. The link has one be
	// under way for longer than the stop waits for it.
	once := p.ledger.apps(&traffic{name: "once", tries: noTries, rate: r.of(300, 500)}, p.a, p.b.ID)
	for range stops / 2 {
		stop(p.a, p.cut, p.heal)
	}
	once.end()
	p.ledger.drain()

	// A send to a relay that is stopped does cost a try.
	apps := p.ledger.apps(&traffic{rate: r.of(300, 500)}, p.a, p.b.ID)
	for i := range stops - stops/2 {
		stop(p.side(i+1), func() {}, func() {})
	}
	apps.end()
	r.figure("%d stops", stops)
	p.ledger.wantAnswered()
	r.figure("each took a median of %s", took.median().Round(time.Millisecond))
	r.atMost("worst, in s", took.worst().Seconds(), 10)
}
