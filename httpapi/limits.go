package httpapi

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Limits bound what one twin may have of a Server. They may be changed while it
// serves.
type Limits struct {
	MaxTwinAtOnce    int // requests of one twin handled at once; default 64
	MaxTwinRate      int // messages a second of one twin; default no limit
	MaxTwinBytes     int // bytes a second of one twin; default no limit
	MaxBadSignatures int // failed checks a second of who claims, at one address, to be one twin; default 10
}

func (l *Limits) setDefaults() {
	if l.MaxTwinAtOnce == 0 {
		l.MaxTwinAtOnce = 64
	}
	if l.MaxBadSignatures == 0 {
		l.MaxBadSignatures = 10
	}
}

// SetLimits changes the limits. What a twin has sent by another rate, and how
// often a claim has failed by another bound, is forgotten.
func (s *Server) SetLimits(l Limits) {
	l.setDefaults()
	s.limits.set(l)
	s.forgeries.set(l.MaxBadSignatures)
}

// limits bound what one twin may have of this relay, once it is known to be that
// twin: how many requests are handled at once, so that one with a thousand
// connections leaves places for the others, and how much it sends in a second.
// Over them a message is told to come again, which is no failure of it.
type limits struct {
	largest int                   // bytes of one message, which may come at any rate
	atOnce  atomic.Int64          // requests of one twin
	rates   atomic.Pointer[rates] // those of now

	mu   sync.Mutex
	open map[uint32]int // by twin; guarded by mu
}

// rates are what one twin may send in a second, and what has been sent by them.
type rates struct {
	messages rate.Limit                  // 0 is no limit
	bytes    rate.Limit                  // 0 is no limit
	largest  int                         // bytes of one message
	sent     *otter.Cache[uint32, *sent] // empty without a rate
}

// limitsMost bounds the twins whose rates are remembered; one that is forgotten
// may send a second's worth too early.
const limitsMost = 100_000

// sent is what a twin has sent lately.
type sent struct {
	mu              sync.Mutex    // held while both are looked at and changed
	messages, bytes *rate.Limiter // nil without a limit
}

func newLimits(now Limits, largest int) *limits {
	l := &limits{largest: largest, open: make(map[uint32]int)}
	l.set(now)
	return l
}

// set keeps count of the requests that are being handled, and of what was sent
// unless the rates are others.
func (l *limits) set(now Limits) {
	l.atOnce.Store(int64(now.MaxTwinAtOnce))
	messages, bytes := rate.Limit(now.MaxTwinRate), rate.Limit(now.MaxTwinBytes)
	if old := l.rates.Load(); old != nil && old.messages == messages && old.bytes == bytes {
		return
	}
	l.rates.Store(&rates{messages: messages, bytes: bytes, largest: l.largest, sent: otter.Must(&otter.Options[uint32, *sent]{MaximumSize: limitsMost})})
}

// begin takes what a request of a twin needs: a place until done is called, and
// its messages and bytes out of what the twin may send. An error is a
// *msgbus.Refusal that says when to come again.
func (l *limits) begin(twin uint32, messages, bytes int) (done func(), err error) {
	if !l.enter(twin) {
		return nil, msgbus.Refuse(msgbus.RateLimited, "%d requests of twin %d are being handled; send it again in a second", l.atOnce.Load(), twin)
	}
	if err := l.spend(twin, messages, bytes); err != nil {
		l.leave(twin)
		return nil, err
	}
	return func() { l.leave(twin) }, nil
}

// spend takes messages and bytes out of what the twin may send.
func (l *limits) spend(twin uint32, messages, bytes int) error {
	after := l.rates.Load().take(twin, messages, bytes)
	if after == 0 {
		return nil
	}
	r := msgbus.Refuse(msgbus.RateLimited, "twin %d sends more than it may; send it again in %d seconds", twin, wholeSeconds(after))
	r.Rest = after
	return r
}

func (l *limits) enter(twin uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if int64(l.open[twin]) >= l.atOnce.Load() {
		return false
	}
	l.open[twin]++
	return true
}

func (l *limits) leave(twin uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[twin]--; l.open[twin] == 0 {
		delete(l.open, twin)
	}
}

// take returns 0 when the twin may send as much now, and else takes nothing and
// returns how long to wait. What is more than a second's worth may come when
// nothing else did, and is then waited for: a large batch must be able to pass,
// and be no way round the limit.
func (r *rates) take(twin uint32, messages, bytes int) (after time.Duration) {
	if r.messages == 0 && r.bytes == 0 {
		return 0
	}
	now := time.Now()
	s, _ := r.sent.ComputeIfAbsent(twin, func() (*sent, bool) { return r.fresh(), false })
	s.mu.Lock()
	defer s.mu.Unlock()
	after = max(untilAllowed(s.messages, now, messages), untilAllowed(s.bytes, now, bytes))
	if after == 0 {
		charge(s.messages, now, messages)
		charge(s.bytes, now, bytes)
	}
	return after
}

func (r *rates) fresh() *sent {
	limiter := func(limit rate.Limit, least int) *rate.Limiter {
		if limit == 0 {
			return nil
		}
		return rate.NewLimiter(limit, max(int(limit), least))
	}
	return &sent{messages: limiter(r.messages, 1), bytes: limiter(r.bytes, r.largest)}
}

// untilAllowed is how long it takes until n tokens are there, or all there can be.
func untilAllowed(l *rate.Limiter, now time.Time, n int) time.Duration {
	if l == nil {
		return 0
	}
	missing := float64(min(n, l.Burst())) - l.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return max(1, time.Duration(missing/float64(l.Limit())*float64(time.Second)))
}

// charge takes n tokens, also ones that are not there yet.
func charge(l *rate.Limiter, now time.Time, n int) {
	if l == nil {
		return
	}
	for most := l.Burst(); n > 0; n -= most {
		l.ReserveN(now, min(n, most))
	}
}
