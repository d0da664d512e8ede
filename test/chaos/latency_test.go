package chaos

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// beginTimed begins a row whose full form compares latencies, and which has the
// machine for itself then.
func beginTimed(t *testing.T, number int, action string) *row {
	t.Helper()
	if *full {
		return beginAlone(t, number, action)
	}
	return begin(t, number, action)
}

// Calls are an app that calls a command of another twin at a steady pace. Each
// call has its own return queue and waits in it, so that a late answer holds up
// no other call.
type calls struct {
	row  *row
	from *fleettest.Site
	rdb  *redis.Client
	to   uint32
	cmd  string
	most int // calls in all; 0 for as many as there is time for
	name string

	mu   sync.Mutex
	took times // guarded by mu

	stop  context.CancelFunc
	ended sync.WaitGroup
}

var callers atomic.Int32

// beginCalls begins so many calls a second.
func beginCalls(r *row, from *fleettest.Site, to uint32, cmd string, aSecond, most int) *calls {
	r.Helper()
	c := &calls{row: r, from: from, rdb: manyCallers(r, from), to: to, cmd: cmd, most: most, name: fmt.Sprintf("caller-%d", callers.Add(1))}
	ctx, stop := context.WithCancel(r.Context())
	c.stop = stop
	c.ended.Go(func() { c.run(ctx, time.Second/time.Duration(aSecond)) })
	r.Cleanup(func() { c.end() })
	return c
}

// manyCallers is a client for as many calls as may wait at once.
func manyCallers(r *row, s *fleettest.Site) *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: s.Redis.Addr(), PoolSize: 1000, MaxRetries: -1, ReadTimeout: 2 * fleettest.Patience})
	r.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// sample makes n calls and returns what each took.
func sample(r *row, from *fleettest.Site, to uint32, cmd string, aSecond, n int) times {
	r.Helper()
	c := beginCalls(r, from, to, cmd, aSecond, n)
	c.ended.Wait()
	return c.end()
}

// end ends the calls and returns what each took.
func (c *calls) end() times {
	c.stop()
	c.ended.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.took
}

func (c *calls) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; c.most == 0 || n < c.most; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.ended.Go(func() { c.call(context.WithoutCancel(ctx), n) })
	}
}

func (c *calls) call(ctx context.Context, n int) {
	said := fmt.Sprintf("%s-%d", c.name, n)
	request := fleettest.Request(c.cmd, said, c.to).With("ret", said)
	began := time.Now()
	err := c.rdb.RPush(ctx, c.from.Prefix+".system.local", request.String()).Err()
	var got []string
	if err == nil {
		got, err = c.rdb.BLPop(ctx, fleettest.Patience, said).Result()
	}
	took := time.Since(began)
	if err != nil {
		c.row.Errorf("a call of %d is not answered: %v", c.to, err)
		return
	}
	if m, err := fleettest.ParseMessage(got[1]); err != nil || m.Text("err") != "" || m.Data() != said {
		c.row.Errorf("a call of %d that says %q is answered %s (%v)", c.to, said, got[1], err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = append(c.took, took)
}

// echoes starts workers of a site that answer calls. They keep no ledger, and
// so can do it for as long as a row takes.
func echoes(r *row, s *fleettest.Site, cmd string) {
	r.Helper()
	rdb := s.Redis.Client()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for ctx.Err() == nil {
				got, err := rdb.BLPop(ctx, time.Second, s.Prefix+"."+cmd).Result()
				if err != nil {
					continue
				}
				m, err := fleettest.ParseMessage(got[1])
				if err != nil {
					r.Errorf("a service got %q: %v", got[1], err)
					continue
				}
				reply := maps.Clone(m)
				dst, _ := m["dst"].([]any)
				reply["src"], reply["dst"], reply["now"] = dst[0], []any{m["src"]}, time.Now().Unix()
				if err := rdb.RPush(ctx, m.Text("ret"), reply.String()).Err(); err != nil && ctx.Err() == nil {
					r.Errorf("a service cannot answer: %v", err)
				}
			}
		})
	}
	r.Cleanup(func() {
		cancel()
		_ = rdb.Close()
		workers.Wait()
	})
}

// A baseline is how long calls take without a failure.
type baseline struct {
	before times
	again  func() times // makes as many calls once more
}

// newBaseline is sample before a failure.
func newBaseline(r *row, from *fleettest.Site, to uint32, cmd string, aSecond, n int) baseline {
	r.Helper()
	again := func() times { return sample(r, from, to, cmd, aSecond, n) }
	return baseline{again(), again}
}

// wantUnaffected holds the p99 of calls during a failure against the one before. What
// exceeds the limit is held against calls after the failure too: a machine that others
// use is not equally fast all the while.
func wantUnaffected(r *row, usually baseline, during times, limit float64) {
	r.Helper()
	before := usually.before
	if len(before) == 0 || len(during) == 0 {
		r.Errorf("%d calls before and %d during the failure: nothing to compare", len(before), len(during))
		return
	}
	r.figure("p99 of others %s before (%d calls), %s during (%d)",
		before.p99().Round(10*time.Microsecond), len(before), during.p99().Round(10*time.Microsecond), len(during))
	usual := before.p99()
	if *full && float64(during.p99()) > limit*float64(usual) {
		after := usually.again().p99()
		r.figure("%s after", after.Round(10*time.Microsecond))
		r.atMost("times the p99, after it", float64(after)/float64(usual), 2) // or the failure goes on
		usual = max(usual, after)
	}
	r.atMost("times the p99", float64(during.p99())/float64(usual), limit)
}
