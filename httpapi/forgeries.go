package httpapi

import (
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"github.com/msgbusd/msgbusd/msgbus"
)

// forgeries bound the signature checks that fail. Each takes a core for 20 to
// 60 µs, and anybody can cause one in the name of any twin, so they are counted by
// whose name is used and from where: the twin itself, at another address, is not
// held up by who pretends to be it. Whoever has signed rightly from the same
// address may fail more often than a stranger: behind a proxy everybody has the
// same one.
type forgeries struct {
	proven *otter.Cache[claim, struct{}] // claims that were true once
	counts atomic.Pointer[counts]        // by the bound of now
}

// counts are of checks that failed, by one bound.
type counts struct {
	most   int                                // a second of one claim; an address may have a few claims' worth
	claims *otter.Cache[claim, *rate.Limiter] // of claims that failed
	froms  *otter.Cache[string, *rate.Limiter]
}

// A claim is to be a twin, made from an address.
type claim struct {
	twin uint32
	from string // as caller tells it
}

const (
	// forgeriesMost bounds each of the three memories; what is forgotten may fail
	// a second's worth too early.
	forgeriesMost = 100_000
	// addressFactor is how many claims' worth of failed checks an address has for
	// all that it claims to be.
	addressFactor = 10
	// provenFactor is how much more often a claim may fail that was true once.
	provenFactor = 100
)

func newForgeries(most int) *forgeries {
	f := &forgeries{proven: otter.Must(&otter.Options[claim, struct{}]{MaximumSize: forgeriesMost})}
	f.set(most)
	return f
}

// set changes the bound. Who has signed rightly is remembered.
func (f *forgeries) set(most int) {
	if old := f.counts.Load(); old != nil && old.most == most {
		return
	}
	f.counts.Store(&counts{
		most:   most,
		claims: otter.Must(&otter.Options[claim, *rate.Limiter]{MaximumSize: forgeriesMost}),
		froms:  otter.Must(&otter.Options[string, *rate.Limiter]{MaximumSize: forgeriesMost}),
	})
}

// wait returns 0 when a claim may be checked, and else how long it may not.
func (f *forgeries) wait(c claim, now time.Time) time.Duration {
	counts := f.counts.Load()
	var after time.Duration
	if l, failed := counts.claims.GetIfPresent(c); failed {
		after = untilAllowed(l, now, 1)
	}
	if l, failed := counts.froms.GetIfPresent(c.from); failed && !f.isProven(c) {
		after = max(after, untilAllowed(l, now, 1))
	}
	return after
}

// failed counts a check. Checks that ran side by side are counted beyond the
// bound, and waited for.
func (f *forgeries) failed(c claim, now time.Time) {
	counts := f.counts.Load()
	factor := 1
	if f.isProven(c) {
		factor = provenFactor
	} else {
		l, _ := counts.froms.ComputeIfAbsent(c.from, func() (*rate.Limiter, bool) { return counts.limiter(addressFactor), false })
		charge(l, now, 1)
	}
	l, _ := counts.claims.ComputeIfAbsent(c, func() (*rate.Limiter, bool) { return counts.limiter(factor), false })
	charge(l, now, 1)
}

// passed notes that a claim was true.
func (f *forgeries) passed(c claim) {
	if !f.isProven(c) {
		f.proven.Set(c, struct{}{})
		f.counts.Load().claims.Invalidate(c) // its limiter is a stranger's
	}
}

func (f *forgeries) isProven(c claim) bool {
	_, is := f.proven.GetIfPresent(c)
	return is
}

func (c *counts) limiter(factor int) *rate.Limiter {
	n := c.most * factor
	return rate.NewLimiter(rate.Limit(n), n)
}

// verify lets check tell whether a request is of the twin that it claims to be
// from, which costs a look-up and a signature check, unless the lists or too many
// forgeries forbid that much. Nothing else may be done for a twin before.
func (s *Server) verify(req *http.Request, twin uint32, check func() error) error {
	if !s.opts.Policy.AdmitsTwin(twin) {
		return msgbus.Refuse(msgbus.TwinNotAllowed, "twin %d is not one that this relay deals with", twin)
	}
	c := claim{twin, caller(req.RemoteAddr)}
	if after := s.forgeries.wait(c, time.Now()); after > 0 {
		r := msgbus.Refuse(msgbus.TooManyForgeries, "too many signatures from this address were not of the twins that they named; send it again in %d seconds", wholeSeconds(after))
		r.Rest = after
		return r
	}
	err := check()
	switch refusal := (*msgbus.Refusal)(nil); {
	case err == nil:
		s.forgeries.passed(c)
	case !errors.As(err, &refusal):
	case refusal.Reason == msgbus.BadSignature, refusal.Reason == msgbus.KeyUncertain:
		s.forgeries.failed(c, time.Now())
	}
	return err
}
