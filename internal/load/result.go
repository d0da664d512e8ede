package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is in milliseconds, from when a request was due to its answer.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	ms := func(µs int64) float64 { return float64(µs) / 1000 }
	return Latency{
		Mean: h.Mean() / 1000, P50: ms(h.ValueAtQuantile(50)), P90: ms(h.ValueAtQuantile(90)), P99: ms(h.ValueAtQuantile(99)),
		P999: ms(h.ValueAtQuantile(99.9)), Max: ms(h.Max()),
	}
}

// An Interval is what happened since the last report.
type Interval struct {
	Since      time.Duration // the beginning
	RoundTrips float64       // a second
	Latency    Latency
	Waiting    int
}

// A Result is what apps saw of a run.
type Result struct {
	RoundTrips float64          `json:"round_trips_per_second"` // answered while there was asking
	Asked      int64            `json:"asked"`
	NotAsked   int64            `json:"not_asked"` // though due: apps were too late for them
	Answered   int64            `json:"answered"`
	Failed     int64            `json:"failed"`     // answered with an error
	Unanswered int64            `json:"unanswered"` // neither, though it was waited for
	Twice      int64            `json:"twice"`      // answers to what had been answered
	Errors     map[string]int64 `json:"errors,omitempty"`
	Latency    Latency          `json:"latency_ms"`
}

// OK tells whether each request was answered, once and without an error.
func (r *Result) OK() bool {
	return r.Asked > 0 && r.NotAsked == 0 && r.Answered == r.Asked && r.Twice == 0
}

func (l *ledger) result() *Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Result{
		RoundTrips: float64(l.inTime) / min(time.Since(l.began), l.plan.Duration).Seconds(),
		Asked:      l.asked, NotAsked: max(0, l.allDue()-l.asked), Answered: l.answered, Failed: l.failed, Unanswered: int64(len(l.waiting)), Twice: l.twice,
		Errors: l.errors, Latency: latencyOf(l.all),
	}
}

func (l *ledger) reportEachSecond(ended <-chan struct{}, report func(Interval)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := l.began
	for {
		select {
		case <-ended:
			return
		case now := <-tick.C:
			report(l.interval(now, now.Sub(last)))
			last = now
		}
	}
}

func (l *ledger) interval(now time.Time, took time.Duration) Interval {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := Interval{
		Since: now.Sub(l.began), RoundTrips: float64(l.recent.TotalCount()) / took.Seconds(),
		Latency: latencyOf(l.recent), Waiting: len(l.waiting),
	}
	l.recent.Reset()
	return i
}
