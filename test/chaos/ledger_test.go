package chaos

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A ledger is what apps and services saw of the requests of one run. An id, which
// is a request's data, is all that they have in common.
type ledger struct {
	row *row

	mu      sync.Mutex
	entries map[string]*entry // guarded by mu
	order   []*entry          // guarded by mu
	open    int               // accepted and not ended; guarded by mu
	changed chan struct{}     // closed and made anew at each event; guarded by mu
	since   time.Time         // the latest answer of a service came after this; guarded by mu
	latest  time.Time         // when since was last moved; guarded by mu
	sites   []*fleettest.Site // looked at when a promise was broken
}

// An entry is one request.
type entry struct {
	id       string
	accepted bool // Redis said so to the app
	pushed   time.Time
	deadline time.Time
	uid      string      // as the service saw it
	served   []time.Time // when services took it
	answers  []answer
	excused  bool // its Redis lost what it had accepted
	again    bool // a Redis forgot some of what was done with it: that is done anew
}

type answer struct {
	at  time.Time
	err string // "" of a service's answer
}

func newLedger(r *row, sites ...*fleettest.Site) *ledger {
	return &ledger{row: r, entries: make(map[string]*entry), changed: make(chan struct{}), sites: sites}
}

// tell wakes whoever waits for an event. The caller holds mu.
func (l *ledger) tell() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// pushing notes a request before the app pushes it: its answer may come before
// Redis's.
func (l *ledger) pushing(id string, life time.Duration) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &entry{id: id, pushed: time.Now(), deadline: time.Now().Add(life)}
	l.entries[id] = e
	l.order = append(l.order, e)
	return e
}

// wasAccepted notes that Redis has a request.
func (l *ledger) wasAccepted(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.accepted = true
	if len(e.answers) == 0 {
		l.open++
	}
}

// wasServed notes that a service took a request.
func (l *ledger) wasServed(id, uid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[id]
	if e == nil {
		l.row.Errorf("a service was asked for %q, which nobody pushed", id)
		return
	}
	e.uid = uid
	e.served = append(e.served, time.Now())
	l.tell()
}

// wasAnswered notes that an app found an answer that had come after a time.
func (l *ledger) wasAnswered(id, err string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[id]
	if e == nil {
		l.row.Errorf("an app was told of %q, which nobody pushed", id)
		return
	}
	e.answers = append(e.answers, answer{time.Now(), err})
	if len(e.answers) == 1 && e.accepted {
		l.open--
	}
	if err == "" && since.After(l.since) {
		l.since, l.latest = since, time.Now()
	}
	l.tell()
}

// await waits until ok says of the ledger that it is so, and tells whether it
// came before the limit.
func (l *ledger) await(limit time.Duration, ok func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		l.mu.Lock()
		done, changed := ok(), l.changed
		l.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}

// awaitAnswer waits for a service's answer to come to an app after a time, and
// returns how long after it that was noticed. What had come before it and is only
// seen later does not count.
func (l *ledger) awaitAnswer(after time.Time) time.Duration {
	l.row.Helper()
	var took time.Duration
	if !l.await(fleettest.Patience, func() bool {
		took = l.latest.Sub(after)
		return l.since.After(after)
	}) {
		l.row.Fatalf("no app is answered for %s", fleettest.Patience)
	}
	return took
}

// grace is how long after its deadline a request may end.
const grace = 5 * time.Second

// drain waits until every request that Redis accepted has ended, at the longest
// until the last deadline and the grace have passed.
func (l *ledger) drain() {
	l.row.Helper()
	l.mu.Lock()
	last := time.Now()
	for _, e := range l.order {
		if e.accepted && len(e.answers) == 0 && e.deadline.After(last) {
			last = e.deadline
		}
	}
	l.mu.Unlock()
	l.await(time.Until(last)+grace+lookEvery, func() bool { return l.open == 0 })
}

// A tally is the ledger in classes.
type tally struct {
	pushed   int
	answered int // by a service
	failed   int // by an error of the bus
	lost     int // accepted, and not ended by deadline + 5 s
	twice    int // taken by services, or told to the app, more than once
	unknown  int // Redis did not say that it has it
	excused  int // lost with a Redis that lost it
	again    int // done anew with a Redis that forgot it
}

func (c tally) String() string {
	text := fmt.Sprintf("%d pushed: %d answered, %d errors, %d lost, %d twice, %d unknown", c.pushed, c.answered, c.failed, c.lost, c.twice, c.unknown)
	if c.excused > 0 {
		text += fmt.Sprintf(", %d gone with Redis", c.excused)
	}
	if c.again > 0 {
		text += fmt.Sprintf(", %d done anew", c.again)
	}
	return text
}

// isLate tells of an answer that came after the grace. Only in full: a machine that
// tests of other packages keep busy shows nothing of a relay by being slow.
func (e *entry) isLate() bool {
	return *full && e.answers[0].at.After(e.deadline.Add(grace+lookEvery))
}

// count sorts the entries into classes and returns those that broke the promise.
func (l *ledger) count() (c tally, broken []*entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.order {
		c.pushed++
		switch twice := len(e.served) > 1 || len(e.answers) > 1; {
		case twice && e.again:
			c.again++
		case twice:
			c.twice++
			broken = append(broken, e)
		case len(e.answers) == 1 && e.isLate():
			c.lost++
			broken = append(broken, e)
		case len(e.answers) == 1 && e.answers[0].err == "":
			c.answered++
		case len(e.answers) == 1:
			c.failed++
		case e.excused && e.accepted:
			c.excused++
		case e.accepted:
			c.lost++
			broken = append(broken, e)
		default:
			c.unknown++
		}
	}
	return c, broken
}

// errors counts the answers of the bus by their text.
func (l *ledger) errors() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	texts := make(map[string]int)
	for _, e := range l.order {
		for _, a := range e.answers {
			if a.err != "" {
				texts[a.err]++
			}
		}
	}
	return texts
}

// wantKept drains, and wants nothing lost and nothing twice, and what is kept in
// Redis to be sound. It returns the classes for what else the row wants.
func (l *ledger) wantKept() tally {
	l.row.Helper()
	l.drain()
	c, broken := l.count()
	l.row.figure("%s", c)
	for i, e := range broken {
		if i == 5 {
			l.row.Errorf("… and %d more", len(broken)-i)
			break
		}
		l.row.Errorf("the promise was broken:\n%s", l.trace(e))
	}
	for _, s := range l.sites {
		wantSound(l.row, s)
	}
	return c
}

// wantAnswered is wantKept, and wants every request that Redis accepted to have
// been answered by the service: no error is an excuse.
func (l *ledger) wantAnswered() tally {
	l.row.Helper()
	c := l.wantKept()
	if c.failed > 0 {
		l.row.Errorf("%d requests ended with errors: %v\nthe first of them:\n%s", c.failed, l.errors(), l.trace(l.firstFailed()))
	}
	return c
}

func (l *ledger) firstFailed() *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.order[slices.IndexFunc(l.order, func(e *entry) bool { return len(e.answers) > 0 && e.answers[0].err != "" })]
}

// trace tells all that is known of a request: the ledger, the log lines of the
// relays, and where it lies in Redis.
func (l *ledger) trace(e *entry) string {
	var b strings.Builder
	clock := func(t time.Time) string { return t.Format("15:04:05.000") }
	fmt.Fprintf(&b, "request %s, uid %q: pushed %s (accepted: %t), deadline %s\n", e.id, e.uid, clock(e.pushed), e.accepted, clock(e.deadline))
	for _, at := range e.served {
		fmt.Fprintf(&b, "  %s a service took it\n", clock(at))
	}
	for _, a := range e.answers {
		fmt.Fprintf(&b, "  %s the app was told; error %q\n", clock(a.at), a.err)
	}
	for _, s := range l.sites {
		for _, d := range s.Daemons() {
			for _, text := range strings.Split(d.Said(), "\n") {
				if e.uid != "" && mentions(text, e.uid) {
					fmt.Fprintf(&b, "  relay of %d: %s\n", s.ID, text)
				}
			}
		}
		for _, where := range s.Find(fleettest.Encode(e.id)) {
			fmt.Fprintf(&b, "  Redis of %d: it is in %s\n", s.ID, where)
		}
	}
	return b.String()
}

// mentions tells whether a text has a uid in it, and not one that begins like it.
func mentions(text, uid string) bool {
	for rest := text; ; {
		i := strings.Index(rest, uid)
		if i < 0 {
			return false
		}
		rest = rest[i+len(uid):]
		if rest == "" || rest[0] < '0' || rest[0] > '9' {
			return true
		}
	}
}
