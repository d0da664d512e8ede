package chaos

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A gap is what a Redis has forgotten: all that it wrote between two times.
type gap struct {
	since, until time.Time
	all          bool // and all that was before: it was emptied
}

// forgot excuses what a gap in a Redis may do to the requests of the ledger, and
// no other. The Redis of apps may lose those that it accepted in the gap. Either
// side may do anew what it did in it. source tells whose Redis it was.
func (l *ledger) forgot(source bool, g gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := func(t time.Time) bool { return !t.Before(g.since) && !t.After(g.until) }
	for _, e := range l.order {
		if e.pushed.After(g.until) {
			continue
		}
		touched, open := in(e.pushed), true
		for _, at := range e.served {
			touched = touched || in(at)
		}
		for _, a := range e.answers {
			touched = touched || in(a.at)
			open = open && a.at.After(g.until)
		}
		if source && (in(e.pushed) || g.all && open) {
			e.excused = true
		}
		if touched || open {
			e.again = true
		}
	}
}

// wantNoErrorBut wants no error for a request that no gap is the reason of.
func (l *ledger) wantNoErrorBut() {
	l.row.Helper()
	l.mu.Lock()
	var broken []*entry
	for _, e := range l.order {
		if len(e.answers) == 1 && e.answers[0].err != "" && !e.again && !e.excused {
			broken = append(broken, e)
		}
	}
	l.mu.Unlock()
	for i, e := range broken {
		if i == 5 {
			l.row.Errorf("… and %d more", len(broken)-i)
			break
		}
		l.row.Errorf("an error without a reason:\n%s", l.trace(e))
	}
}

// losses returns how many requests are gone with their Redis, and how long before
// the end of its gap the oldest of them was accepted. gaps are in their order.
func (l *ledger) losses(gaps []gap) (n int, worst time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.order {
		if !e.accepted || !e.excused || len(e.answers) > 0 {
			continue
		}
		n++
		for _, g := range gaps {
			if !e.pushed.After(g.until) {
				worst = max(worst, g.until.Sub(e.pushed))
				break
			}
		}
	}
	return n, worst
}

// pushNew begins to push requests after a failure. The function that it returns
// wants each to be answered: none may be dropped as a repeat of one that was
// forgotten.
func (p *pair) pushNew(name string) (wantAnswered func()) {
	p.row.Helper()
	p.ledger.mu.Lock()
	old := len(p.ledger.order)
	p.ledger.mu.Unlock()
	apps := p.ledger.apps(&traffic{name: name, most: 200, rate: 400, life: 30 * time.Second, outstanding: 1000}, p.a, p.b.ID)
	return func() {
		p.row.Helper()
		apps.await()
		p.wantOf(name, old)
	}
}

// wantOf wants all requests of an app, which has pushed none of the first so many,
// to be answered.
func (p *pair) wantOf(name string, old int) {
	p.row.Helper()
	var new []*entry
	p.ledger.await(30*time.Second+grace, func() bool {
		new = new[:0]
		for _, e := range p.ledger.order[old:] {
			if strings.HasPrefix(e.id, name+"-") {
				new = append(new, e)
			}
		}
		return !slices.ContainsFunc(new, func(e *entry) bool { return len(e.answers) == 0 })
	})
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	for _, e := range new {
		if len(e.answers) != 1 || e.answers[0].err != "" || len(e.served) != 1 {
			p.row.Errorf("request %s, pushed when Redis was back: served %d times, answers %v", e.id, len(e.served), e.answers)
			return
		}
	}
}

// epoch is what a site's relay calls the history of its Redis.
func epoch(s *fleettest.Site) (string, error) {
	text, err := s.RDB.HGet(s.T.Context(), s.Prefix+".system.epoch", "epoch").Result()
	if err == nil && text == "" {
		err = errors.New("there is none")
	}
	return text, err
}
