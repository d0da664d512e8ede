package backlog_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A promise is what msgbusd owes to apps and services, with all the memory it
// wants. Its methods are told what was done and what Redis says of it, and fail
// the test when that is not as promised.
type promise struct {
	*rapid.T
	requests []*appRequest // by the number that is its body; its return queue is ret.<number>

	here  sourceHistory // as Redis of twin 1001 knows it: set back when that is
	there peerHistory   // as Redis of twin 1002 knows it

	given map[string]bool // "<epoch> <uid>" of all requests ever admitted
	used  map[uint64]bool // numbers that were given; empty where nobody is left who can know
	alone bool            // one relay serves twin 1001, so that requests keep their order
}

// An appRequest is one message that an app pushed.
type appRequest struct {
	life     time.Duration
	kind     string    // what comes of it: see kinds
	deadline time.Time // of the latest admission
	excused  bool      // Redis of its twin was set back or emptied after the push
	unlucky  bool      // … Redis of the other twin was, or its tries were used up
}

// The kinds of requests.
const (
	served     = "served"     // a service answers it
	unserved   = "unserved"   // the other relay answers it with an error
	unreadable = "unreadable" // its own relay does
	ignored    = "ignored"    // its service never answers
)

// A sourceHistory is what goes when Redis of the source is set back.
type sourceHistory struct {
	answers  map[int]string // request → how it ended
	latest   int            // the request admitted last
	hasEpoch bool
}

// A peerHistory is what goes when Redis of the peer is set back.
type peerHistory struct {
	seen  map[string]bool // "<epoch> <uid>" of what was accepted
	queue []string        // bodies that wait for the service
	open  map[string]bool // "<epoch> <uid>" of what the service has not answered
}

func newPromise(t *rapid.T, alone bool) *promise {
	return &promise{T: t, alone: alone, here: sourceHistory{answers: map[int]string{}, latest: -1}, there: newPeerHistory(),
		given: map[string]bool{}, used: map[uint64]bool{}}
}

func newPeerHistory() peerHistory {
	return peerHistory{seen: map[string]bool{}, open: map[string]bool{}}
}

func (h sourceHistory) clone() sourceHistory {
	h.answers = maps.Clone(h.answers)
	return h
}

func (h peerHistory) clone() peerHistory {
	return peerHistory{maps.Clone(h.seen), slices.Clone(h.queue), maps.Clone(h.open)}
}

// sourceLost excuses what was pushed before Redis of the source lost something.
func (p *promise) sourceLost(to sourceHistory) {
	p.here = to.clone()
	for _, r := range p.requests {
		r.excused = true
	}
}

// peerLost excuses what the service does not answer because the request or its
// reply was lost there.
func (p *promise) peerLost(to peerHistory) {
	p.there = to.clone()
	for n, r := range p.requests {
		r.unlucky = r.unlucky || p.here.answers[n] == ""
	}
}

// admitted: no uid is given twice under one epoch, and no number under two
// while anybody remembers the first. Requests are numbered in the order of their
// pushes.
func (p *promise) admitted(n int, epoch, uid string, deadline time.Time) {
	p.Helper()
	if p.given[epoch+" "+uid] {
		p.Fatalf("uid %s is given twice under epoch %s, now to request %d", uid, epoch, n)
	}
	p.given[epoch+" "+uid] = true
	_, number, _ := msgbus.ParseUID(uid)
	if p.used[number] {
		p.Fatalf("number %d is given twice, now to request %d: to a peer without epochs that is a repeat", number, n)
	}
	p.used[number] = true
	if r := p.requests[n]; p.alone && !r.excused && n <= p.here.latest {
		p.Fatalf("request %d is admitted behind request %d", n, p.here.latest)
	}
	p.here.latest, p.requests[n].deadline = n, deadline
}

// accepted: a request is given to its service once, and only what was given is
// called a repeat.
func (p *promise) accepted(key, body string, refused bool, got msgbus.Outcome) {
	p.Helper()
	want := msgbus.Accepted
	if p.there.seen[key] {
		want = msgbus.Repeated
	}
	if got != want {
		p.Fatalf("twin 1002 says %q of request %s (%s), want %q", got, key, body, want)
	}
	if want == msgbus.Repeated {
		return
	}
	p.there.seen[key] = true
	if !refused {
		p.there.queue = append(p.there.queue, body)
		p.there.open[key] = true
	}
}

// waiting: in the service's queue is what was given to it and not taken.
func (p *promise) waiting(queue []string) {
	p.Helper()
	if !slices.Equal(queue, p.there.queue) {
		p.Fatalf("the service's queue holds %q, want %q", queue, p.there.queue)
	}
}

// departed: a record of an open request takes one reply.
func (p *promise) departed(key string, got msgbus.Outcome) {
	p.Helper()
	want := msgbus.TooLate
	if p.there.open[key] {
		want = msgbus.Sent
	}
	if got != want {
		p.Fatalf("a reply to %s that answers a record is %q, want %q", key, got, want)
	}
	delete(p.there.open, key)
}

// answered: an app finds one reply, its own.
func (p *promise) answered(n int, body string) {
	p.Helper()
	what, whose, _ := strings.Cut(body, " ")
	if whose != strconv.Itoa(n) {
		p.Fatalf("request %d gets the answer of another: %q", n, body)
	}
	if before := p.here.answers[n]; before != "" {
		p.Fatalf("request %d ends twice: with %q, then with %q", n, before, what)
	}
	p.here.answers[n] = what
}

// counted: each request that entered the backlog is there or has ended.
func (p *promise) counted(s backlog.Stats, waiting int64) {
	p.Helper()
	if s.Accepted != s.Answered+s.Failed+waiting {
		p.Fatalf("of %d requests %d were answered, %d have failed and %d wait", s.Accepted, s.Answered, s.Failed, waiting)
	}
}

// kept: every request has ended, and as well as it could.
func (p *promise) kept(healed time.Time) {
	p.Helper()
	for n, r := range p.requests {
		got := p.here.answers[n]
		best := map[string]string{served: "reply", unserved: "refusal", unreadable: "error", ignored: "error"}[r.kind]
		switch {
		case r.excused:
		case got == "":
			p.Fatalf("request %d (%s) never ends", n, r.kind)
		case got != best && !r.unlucky && r.deadline.After(healed):
			p.Fatalf("request %d (%s) ends with %q, want %q", n, r.kind, got, best)
		}
	}
}
