package backlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A stopwatch sums up how long each step takes, for all messages.
type stopwatch struct {
	b     *testing.B
	steps []string
	took  map[string]time.Duration
}

func (w *stopwatch) time(step string, do func() error) {
	w.b.Helper()
	began := time.Now()
	if err := do(); err != nil {
		w.b.Fatal(step, err)
	}
	if _, known := w.took[step]; !known {
		w.steps = append(w.steps, step)
	}
	w.took[step] += time.Since(began)
}

// report tells the µs of each step for one message.
func (w *stopwatch) report(messages int) {
	for _, step := range w.steps {
		w.b.ReportMetric(float64(w.took[step].Microseconds())/float64(messages), "µs-"+step)
	}
}

// benchBatches runs a benchmark on a real Redis, with batches of several sizes.
func benchBatches(b *testing.B, run func(b *testing.B, rdb *redis.Client, s *backlog.Store, w *stopwatch, batch int)) {
	for _, batch := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			server := redistest.Start(b)
			opts, err := backlog.ParseURL(server.URL())
			if err != nil {
				b.Fatal(err)
			}
			s, err := backlog.Open(backlog.Options{Redis: opts, Twin: self, Instance: "a", MaxBatch: batch})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = s.Close() })
			if err := s.Join(b.Context()); err != nil {
				b.Fatal(err)
			}
			run(b, server.Client(), s, &stopwatch{b: b, took: make(map[string]time.Duration)}, batch)
		})
	}
}

// The steps of a request at its source, from an app's push to the reply in its
// return queue, each with the round trip to Redis:
//
//	go test -run '^$' -bench Source ./backlog
func BenchmarkSource(b *testing.B) {
	benchBatches(b, func(b *testing.B, rdb *redis.Client, s *backlog.Store, w *stopwatch, batch int) {
		pushed := make([]any, batch)
		m := request(1002)
		m.Data, m.ReturnQueue = strings.Repeat("x", 88), "app"
		for i := range pushed {
			pushed[i] = m.AppendWire(nil)
		}
		reply := []byte(strings.Repeat("x", 300))
		n := 0
		for b.Loop() {
			if err := rdb.RPush(b.Context(), localQueue, pushed...).Err(); err != nil {
				b.Fatal(err)
			}
			var c *msgbus.Claim
			var load *msgbus.Batch
			w.time("take", func() (err error) { c, err = s.Take(b.Context(), msgbus.LocalQueue); return err })
			admissions := make([]msgbus.Admission, len(c.Messages))
			for i := range admissions {
				admissions[i] = msgbus.Admission{Message: m, Start: m.Now}
			}
			w.time("admit", func() error { _, err := s.Admit(b.Context(), c, admissions); return err })
			w.time("fetch", func() (err error) { load, err = s.Fetch(b.Context(), 1002); return err })
			w.time("settle", func() error {
				return s.Settle(b.Context(), 1002, msgbus.Settlement{Answered: true, Settled: load.Parcels})
			})
			answers := make([]msgbus.Answer, len(load.Parcels))
			for i, p := range load.Parcels {
				e, err := backlog.ParseEntry(p.Body)
				if err != nil {
					b.Fatal(err)
				}
				answers[i] = msgbus.Answer{Entry: e, Position: -1, Body: reply}
			}
			w.time("answer", func() error { _, err := s.Answer(b.Context(), nil, answers); return err })
			if n += len(answers); n%(256*batch) == 0 { // the app takes them
				rdb.Del(b.Context(), "app")
			}
		}
		w.report(n)
	})
}

// The steps of a request at its destination, from its transfer to that of the reply.
func BenchmarkDestination(b *testing.B) {
	benchBatches(b, func(b *testing.B, rdb *redis.Client, s *backlog.Store, w *stopwatch, batch int) {
		body := []byte(strings.Repeat("x", 300))
		number := uint64(0)
		for b.Loop() {
			arrivals := make([]msgbus.Acceptance, batch)
			uids := make([]string, batch)
			replies := make([]any, batch)
			for i := range arrivals {
				number++
				arrivals[i] = arrival(number)
				arrivals[i].Body = body
				uids[i], replies[i] = arrivals[i].UID, body
			}
			w.time("accept", func() error { _, err := s.Accept(b.Context(), nil, 1002, sample, arrivals); return err })
			if err := rdb.Del(b.Context(), "msgbus.calc.add").Err(); err != nil { // the service takes them, and answers
				b.Fatal(err)
			}
			if err := rdb.RPush(b.Context(), replyQueue, replies...).Err(); err != nil {
				b.Fatal(err)
			}
			var c *msgbus.Claim
			var opens [][]msgbus.Open
			var load *msgbus.Batch
			w.time("take", func() (err error) { c, err = s.Take(b.Context(), msgbus.ReplyQueue); return err })
			w.time("opens", func() (err error) { opens, err = s.Opens(b.Context(), uids); return err })
			departures := make([]msgbus.Departure, batch)
			for i := range departures {
				if len(opens[i]) != 1 || len(c.Messages) != batch {
					b.Fatalf("%d open requests, %d replies taken", len(opens[i]), len(c.Messages))
				}
				departures[i] = msgbus.Departure{Open: &opens[i][0], Body: body}
			}
			w.time("depart", func() error { _, err := s.Depart(b.Context(), c, departures); return err })
			w.time("fetch", func() (err error) { load, err = s.Fetch(b.Context(), 1002); return err })
			w.time("settle", func() error {
				return s.Settle(b.Context(), 1002, msgbus.Settlement{Answered: true, Settled: load.Parcels})
			})
		}
		w.report(int(number))
	})
}
