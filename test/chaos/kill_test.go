package chaos

import (
	"testing"
	"time"
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
// request used up by it.
//
// Seen to fail it: Run of relay.go with `return ctx.Err()` after leave: each stop ends
// with status 1.
func TestStopUnderLoad(t *testing.T) {
	r := begin(t, 5, "SIGTERM under load")
	p := newPair(r)
	p.start()
	p.ledger.service(p.b, "work")
	apps := p.ledger.apps(&traffic{rate: r.of(300, 500)}, p.a, p.b.ID)
	stops := r.of(6, 100)
	var took times
	for i := range stops {
		victim := p.a
		if i%2 == 1 {
			victim = p.b
		}
		r.pass(r.upTo(300 * time.Millisecond))
		began := time.Now()
		victim.Daemon.Stop() // wants status 0
		took = append(took, time.Since(began))
		at := time.Now()
		victim.Launch()
		p.ledger.awaitAnswer(at)
	}
	apps.end()
	r.figure("%d stops", stops)
	p.ledger.wantAnswered()
	r.figure("each took a median of %s", took.median().Round(time.Millisecond))
	r.atMost("worst, in s", took.worst().Seconds(), 10)
}
