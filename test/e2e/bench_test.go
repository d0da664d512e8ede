package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// pairOfBuses is two twins with relays that log little.
func pairOfBuses(b *testing.B) (one, two *client.Client) {
	b.Helper()
	f := fleettest.New(b)
	var buses []*client.Client
	for _, id := range []uint32{1001, 1002} {
		s := f.Site(id)
		s.Start("--log-level", "warn")
		c, err := client.Open(client.Options{Redis: s.Redis.URL()})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		buses = append(buses, c)
	}
	return buses[0], buses[1]
}

// BenchmarkEvents tells how many events a second an app can publish that all subscribers at
// another twin hear, and how many were heard.
func BenchmarkEvents(b *testing.B) {
	for _, subscribers := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			from, to := pairOfBuses(b)
			var hearing sync.WaitGroup
			for range subscribers {
				s, err := to.Subscribe(b.Context(), "bench.*", client.From(1001), client.Buffer(1_000_000))
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				hearing.Go(func() {
					for n := 0; n < b.N; n++ {
						if _, err := s.Next(b.Context()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			b.ResetTimer()
			var publishing sync.WaitGroup
			each := make(chan struct{})
			for range 64 {
				publishing.Go(func() {
					for range each {
						if err := from.Publish(b.Context(), "bench.x", "some sixty-four bytes of data that nobody ever looks at again"); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for range b.N {
				each <- struct{}{}
			}
			close(each)
			publishing.Wait()
			hearing.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(b.N*subscribers)/b.Elapsed().Seconds(), "heard/s")
		})
	}
}

// BenchmarkInterimReply tells how long after a service has said it an app knows how far its
// request is, and how long a whole call takes beside that.
func BenchmarkInterimReply(b *testing.B) {
	from, to := pairOfBuses(b)
	said := make(chan time.Time, 1)
	s := client.NewServer(to, client.ServerOptions{})
	client.Handle(s, "work", func(ctx context.Context, _ any) (any, error) {
		said <- time.Now()
		return nil, client.RequestFrom(ctx).Progress(ctx, 2, 1, nil)
	})
	ctx, stop := context.WithCancel(context.WithoutCancel(b.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		<-ended
	})
	var interim time.Duration
	for b.Loop() {
		err := from.Call(b.Context(), 1002, "work", nil, nil, client.OnProgress(func(p client.Progress) {
			if p.Status == "progress" {
				interim += time.Since(<-said)
			}
		}))
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(interim.Seconds()*1e3/float64(b.N), "ms/interim")
}
