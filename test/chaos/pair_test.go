package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// A pair is twins 1001, whose apps ask, and 1002, whose services answer. All
// that crosses between their relays crosses a link, or a wire. Other twins of the
// fleet reach both directly.
type pair struct {
	row    *row
	fleet  *fleettest.Fleet // what the relay of a and those of others know
	ofB    *fleettest.Fleet // what the relay of b knows: another address of a
	a, b   *fleettest.Site
	toA    *link // what relays post to the one of a
	toB    *link // what relays post to the one of b
	wire   *wire // instead of the links, of a wired pair
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

// newWiredPair makes a pair whose relays are joined by a wire, where the machine
// has one.
func newWiredPair(r *row) (*pair, error) {
	r.Helper()
	w, err := newWire(r)
	if err != nil {
		return nil, err
	}
	f := fleettest.New(r)
	a, b := f.Site(1001), f.Site(1002)
	w.a.house(a)
	w.b.house(b)
	move := func(s *fleettest.Site, address string) {
		_, port, _ := strings.Cut(s.Listen, ":")
		s.Listen = address + ":" + port
		s.Without("--listen")
		s.Args = append(s.Args, "--listen", s.Listen)
		f.Register(s.ID, s.Identity.Account(), s.Listen)
	}
	move(a, wireAddressA)
	move(b, wireAddressB)
	return &pair{row: r, fleet: f, ofB: f, a: a, b: b, wire: w, ledger: newLedger(r, a, b)}, nil
}

// onBoth runs a row twice: on a pair that is joined by links, and on one that is
// joined by a wire. A timed row has the machine for itself in full.
func onBoth(t *testing.T, timed bool, number int, action string, run func(*row, *pair)) {
	begin := begin
	if timed {
		begin = beginTimed
	}
	if !timed || !*full {
		t.Parallel() // or all others would wait for both
	}
	t.Run("links", func(t *testing.T) {
		r := begin(t, number, action)
		run(r, newPair(r))
	})
	t.Run("wire", func(t *testing.T) {
		r := begin(t, number, action+", on the wire")
		p, err := newWiredPair(r)
		if err != nil {
			r.figure("%v", err)
			r.Skip(err)
		}
		run(r, p)
	})
}

// is sets what the network between the two relays is like from now on.
func (p *pair) is(toB, toA conditions) {
	p.row.Helper()
	if p.wire != nil {
		p.wire.is(toB, toA)
		return
	}
	p.toB.is(toB, toA)
	p.toA.is(toA, toB)
}

// cut is a partition, and heal its end.
func (p *pair) cut()  { p.is(conditions{blocked: true}, conditions{blocked: true}) }
func (p *pair) heal() { p.is(conditions{}, conditions{}) }

// beside makes another twin, which no link and no wire parts from a.
func (p *pair) beside(id uint32) *fleettest.Site {
	p.row.Helper()
	s := p.fleet.Site(id)
	if p.wire != nil {
		p.wire.a.house(s)
	}
	return s
}

// redisBehindLink has a site's relay reach its Redis through a link.
func redisBehindLink(r *row, s *fleettest.Site) *link {
	r.Helper()
	k := newLink(r, s.Redis.Addr())
	s.Without("--redis")
	s.Args = append(s.Args, "--redis", "redis://"+k.address())
	return k
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
