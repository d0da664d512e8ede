package chaos

import (
	"slices"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// A pair is twins 1001, whose apps ask, and 1002, whose services answer. All
// that crosses between their relays crosses a link. Other twins of the fleet
// reach both directly.
type pair struct {
	row    *row
	fleet  *fleettest.Fleet // what the relay of a and those of others know
	ofB    *fleettest.Fleet // what the relay of b knows: another address of a
	a, b   *fleettest.Site
	toA    *link // what relays post to the one of a
	toB    *link // what relays post to the one of b
	ledger *ledger
}

// newPair makes a pair whose relays do not run yet. options are those of both
// Redis servers.
func newPair(r *row, options ...redistest.Option) *pair {
	r.Helper()
	f := fleettest.New(r)
	return pairOf(r, f, f.Site(1001, options...), f.Site(1002, options...))
}

// pairOf makes a pair of two sites of a fleet.
func pairOf(r *row, f *fleettest.Fleet, a, b *fleettest.Site) *pair {
	r.Helper()
	p := &pair{row: r, fleet: f, ofB: fleettest.New(r), a: a, b: b, toA: newLink(r, a.Listen), toB: newLink(r, b.Listen)}
	f.Register(b.ID, b.Identity.Account(), p.toB.address())
	p.ofB.Register(a.ID, a.Identity.Account(), p.toA.address())
	p.ofB.Register(b.ID, b.Identity.Account(), b.Listen)
	b.Without("--substrate")
	b.Args = append(b.Args, "--substrate", p.ofB.Substrate)
	p.ledger = newLedger(r, a, b)
	return p
}

// start starts both relays.
func (p *pair) start(args ...string) {
	p.row.Helper()
	p.a.Launch(args...)
	p.b.Launch(args...)
	p.a.Daemon.AwaitReady()
	p.b.Daemon.AwaitReady()
}

// restarted kills the relay of a site and starts it at once. It returns how long
// after that start an app was answered again.
func (p *pair) restarted(s *fleettest.Site) time.Duration {
	p.row.Helper()
	s.Daemon.Kill()
	at := time.Now()
	s.Launch()
	return p.ledger.awaitAnswer(at)
}

// times are measured durations.
type times []time.Duration

func (t times) at(share float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

func (t times) median() time.Duration { return t.at(0.5) }
func (t times) p99() time.Duration    { return t.at(0.99) }
func (t times) worst() time.Duration  { return t.at(1) }
