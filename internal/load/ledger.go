package load

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are told apart from 1 µs to an hour, to three digits.
const latencyMost, latencyDigits = int64(time.Hour / time.Microsecond), 3

// errorsMost is how many different texts of errors are counted.
const errorsMost = 10

// A ledger knows which requests wait, and what became of the others.
type ledger struct {
	plan  Plan
	began time.Time

	mu       sync.Mutex           // guards all that follows
	waiting  map[uint64]time.Time // since when
	asked    int64
	answered int64
	inTime   int64 // answered within the plan's duration
	failed   int64
	twice    int64
	errors   map[string]int64
	all      *hdrhistogram.Histogram
	recent   *hdrhistogram.Histogram // since the last report
}

func newLedger(p Plan) *ledger {
	return &ledger{
		plan: p, began: time.Now(), waiting: make(map[uint64]time.Time), errors: make(map[string]int64),
		all:    hdrhistogram.New(1, latencyMost, latencyDigits),
		recent: hdrhistogram.New(1, latencyMost, latencyDigits),
	}
}

// due returns when a request is to be asked, of those numbered from 0.
func (l *ledger) due(number uint64) time.Time {
	if l.plan.Rate == 0 {
		return time.Now()
	}
	return l.began.Add(time.Duration(float64(number) / l.plan.Rate * float64(time.Second)))
}

// isPlanned tells whether what is due then is to be asked at all.
func (l *ledger) isPlanned(due time.Time) bool { return due.Sub(l.began) < l.plan.Duration }

// allDue returns how many requests are due within the plan's duration, 0 without a rate.
func (l *ledger) allDue() int64 {
	n := int64(math.Ceil(l.plan.Rate * l.plan.Duration.Seconds()))
	if n > 0 && !l.isPlanned(l.due(uint64(n-1))) {
		n-- // of a product that was rounded up
	}
	return n
}

// asking ends when no more is asked: at a rate, apps may be late for what was due.
func (l *ledger) asking(ctx context.Context) (context.Context, context.CancelFunc) {
	lasts := l.plan.Duration
	if l.plan.Rate > 0 {
		lasts += l.plan.Life
	}
	return context.WithDeadline(ctx, l.began.Add(lasts))
}

// await waits until a request is due, and tells whether it is to be asked.
func (l *ledger) await(asking context.Context, due time.Time) bool {
	if !l.isPlanned(due) {
		return false
	}
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return asking.Err() == nil
	case <-asking.Done():
		return false
	}
}

// ask notes that a request is on its way. It counts as waiting from when it was
// due: what an app is late for, because answers are, is part of the latency.
func (l *ledger) ask(number uint64, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	l.waiting[number] = due
}

// hear notes answers, and returns how many of them were waited for.
func (l *ledger) hear(raws []string) (heard int, err error) {
	for _, raw := range raws {
		waited, err := l.hearOne(raw)
		if err != nil {
			return heard, err
		}
		if waited {
			heard++
		}
	}
	return heard, nil
}

func (l *ledger) hearOne(raw string) (waited bool, err error) {
	a, err := readAnswer(raw, l.plan.Size)
	if err != nil {
		return false, err
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	since, ok := l.waiting[a.number]
	if !ok {
		l.twice++
		return false, nil
	}
	delete(l.waiting, a.number)
	if a.failure != "" {
		l.failed++
		if _, known := l.errors[a.failure]; known || len(l.errors) < errorsMost {
			l.errors[a.failure]++
		}
		return true, nil
	}
	l.answered++
	if now.Sub(l.began) <= l.plan.Duration {
		l.inTime++
	}
	latency := min(max(now.Sub(since).Microseconds(), 1), latencyMost)
	if err := l.all.RecordValue(latency); err != nil {
		return false, fmt.Errorf("note a latency of %d µs: %w", latency, err)
	}
	return true, l.recent.RecordValue(latency)
}

func (l *ledger) isWaiting(number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, waits := l.waiting[number]
	return waits
}

// outstanding returns how many requests wait.
func (l *ledger) outstanding() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}
