package load

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/msgbus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// measure runs a plan against a stand-in for two relays and a service: answer returns
// what an app gets for its request.
func measure(t *testing.T, p Plan, answer func(m *msgbus.Message) []string) (*Result, error) {
	t.Helper()
	rdb := redistest.Start(t).Client()
	ctx, stop := context.WithCancel(t.Context())
	var relay sync.WaitGroup
	relay.Go(func() {
		for ctx.Err() == nil {
			raws, err := pop(ctx, rdb, "msgbus.system.local", batchMost)
			for _, raw := range raws {
				m, failed := msgbus.Decode([]byte(raw))
				if failed != nil {
					t.Error(failed)
					continue
				}
				for _, text := range answer(m) {
					if err := rdb.RPush(context.WithoutCancel(ctx), m.ReturnQueue, text).Err(); err != nil {
						t.Error(err)
					}
				}
			}
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	defer relay.Wait()
	defer stop()
	p.Prefix, p.Command, p.Destinations = "msgbus", "bench", []uint32{1002}
	p.Size, p.Life = 64, time.Minute
	return Run(ctx, rdb, p, func(Interval) {})
}

func text(m *msgbus.Message) string { return string(m.AppendWire(nil)) }

// A relay that answers twice, or with an error, looks like one that works.
func TestWhatBecomesOfEachRequestIsCounted(t *testing.T) {
	for _, apps := range []Apps{Ordinary, Batching} {
		t.Run(string(apps), func(t *testing.T) {
			n := 0
			r, err := measure(t, Plan{Apps: apps, Outstanding: 1, Rate: 100, Duration: 95 * time.Millisecond}, func(m *msgbus.Message) []string {
				n++
				if n == 2 {
					m.Error = "no"
				}
				if n == 3 {
					return []string{text(m), text(m)}
				}
				return []string{text(m)}
			})
			if err != nil {
				t.Fatal(err)
			}
			if r.Asked != 10 || r.Answered != 9 || r.Failed != 1 || r.Twice != 1 || r.Errors["no"] != 1 || r.OK() {
				t.Errorf("the result is %+v, want 10 asked, 9 answered, 1 error, 1 answered twice", r)
			}
			if r.Latency.P50 <= 0 || r.Latency.Max < r.Latency.P99 {
				t.Errorf("latency %+v", r.Latency)
			}
		})
	}
}

// Data that was mixed up on the way counts as an answer.
func TestOtherDataIsNoAnswer(t *testing.T) {
	for _, apps := range []Apps{Ordinary, Batching} {
		_, err := measure(t, Plan{Apps: apps, Outstanding: 1, Duration: time.Second}, func(m *msgbus.Message) []string {
			m.Data = strings.Replace(m.Data, "A", "B", 1)
			return []string{text(m)}
		})
		if err == nil || !strings.Contains(err.Error(), "other data than it was sent") {
			t.Errorf("%s: error %v", apps, err)
		}
	}
}

// Latency that counts from the push hides that a relay which stands still keeps apps
// from asking.
func TestLatencyCountsFromWhenARequestWasDue(t *testing.T) {
	const lasts = 100 * time.Millisecond
	standing, stop := context.WithTimeout(t.Context(), 2*lasts)
	defer stop()
	r, err := measure(t, Plan{Apps: Batching, Outstanding: 1, Rate: 1000, Duration: lasts}, func(m *msgbus.Message) []string {
		<-standing.Done()
		return []string{text(m)}
	})
	if err != nil {
		t.Fatal(err)
	}
	// All 100 were due within 100 ms, and the first answer came after 200.
	if r.Asked != 100 || r.NotAsked != 0 || r.Latency.P50 < 100 {
		t.Errorf("%d asked, %d not, latency %+v ms", r.Asked, r.NotAsked, r.Latency)
	}
}

// A request that waits for its turn counts as one that waits for its answer.
func TestLatencyWithoutARateCountsFromThePush(t *testing.T) {
	for _, apps := range []Apps{Ordinary, Batching} {
		began := time.Now()
		r, err := measure(t, Plan{Apps: apps, Outstanding: 1, Duration: 100 * time.Millisecond}, func(m *msgbus.Message) []string {
			return []string{text(m)}
		})
		if err != nil {
			t.Fatal(err)
		}
		// One after the other, they cannot have waited for longer than all took.
		waited := time.Duration(r.Latency.Mean * float64(r.Answered) * float64(time.Millisecond))
		if took := time.Since(began); waited > took+took/50 {
			t.Errorf("%s: %d waited for %s in all, in %s", apps, r.Answered, waited, took)
		}
	}
}
