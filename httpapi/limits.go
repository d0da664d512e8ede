package httpapi

import (
	"sync"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"github.com/msgbusd/msgbusd/msgbus"
)

// limits bound what one twin may have of this relay, once it is known to be that
// twin: how many requests are handled at once, so that one with a thousand
// connections leaves places for the others, and how much it sends in a second.
// Over them a message is told to come again, which is no failure of it.
type limits struct {
	atOnce   int        // of one twin
	messages rate.Limit // a second; 0 is no limit
	bytes    rate.Limit // a second; 0 is no limit
	largest  int        // bytes of one message, which may come at any rate

	mu   sync.Mutex
	open map[uint32]int // by twin; guarded by mu

	sent *otter.Cache[uint32, *sent] // empty without a rate
}

// limitsMost bounds the twins whose rates are remembered; one that is forgotten
// may send a second's worth too early.
const limitsMost = 100_000

// sent is what a twin has sent lately.
type sent struct {
	mu              sync.Mutex    // held while both are looked at and changed
	messages, bytes *rate.Limiter // nil without a limit
}

func newLimits(o ServerOptions) *limits {
	return &limits{
		atOnce: o.MaxTwinAtOnce, messages: rate.Limit(o.MaxTwinRate), bytes: rate.Limit(o.MaxTwinBytes), largest: int(o.MaxBody),
		open: make(map[uint32]int),
		sent: otter.Must(&otter.Options[uint32, *sent]{MaximumSize: limitsMost}),
	}
}

// begin takes what a request of a twin needs: a place until done is called, and
// its messages and bytes out of what the twin may send. An error is a
// *msgbus.Refusal that says when to come again.
func (l *limits) begin(twin uint32, messages, bytes int) (done func(), err error) {
	if !l.enter(twin) {
		return nil, msgbus.Refuse(msgbus.RateLimited, "%d requests of twin %d are being handled; send it again in a second", l.atOnce, twin)
	}
	if err := l.spend(twin, messages, bytes); err != nil {
		l.leave(twin)
		return nil, err
	}
	return func() { l.leave(twin) }, nil
}

// spend takes messages and bytes out of what the twin may send.
func (l *limits) spend(twin uint32, messages, bytes int) error {
	after := l.take(twin, messages, bytes)
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
	if l.open[twin] >= l.atOnce {
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
func (l *limits) take(twin uint32, messages, bytes int) (after time.Duration) {
	if l.messages == 0 && l.bytes == 0 {
		return 0
	}
	now := time.Now()
	s, _ := l.sent.ComputeIfAbsent(twin, func() (*sent, bool) { return l.fresh(), false })
	s.mu.Lock()
	defer s.mu.Unlock()
	after = max(untilAllowed(s.messages, now, messages), untilAllowed(s.bytes, now, bytes))
	if after == 0 {
		charge(s.messages, now, messages)
		charge(s.bytes, now, bytes)
	}
	return after
}

func (l *limits) fresh() *sent {
	limiter := func(limit rate.Limit, least int) *rate.Limiter {
		if limit == 0 {
			return nil
		}
		return rate.NewLimiter(limit, max(int(limit), least))
	}
	return &sent{messages: limiter(l.messages, 1), bytes: limiter(l.bytes, l.largest)}
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
