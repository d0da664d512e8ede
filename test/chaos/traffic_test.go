package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// lookEvery is how often apps look into their return queues.
const lookEvery = 20 * time.Millisecond

// noTries is for requests that end at the first send that fails.
const noTries = -1

// Traffic is apps of one site that push requests, and what they are answered.
type traffic struct {
	ledger *ledger
	from   *fleettest.Site
	rdb    *redis.Client

	to          []uint32 // of each request one, in turn
	cmd         string
	life        time.Duration
	tries       int // noTries for none
	size        int // bytes of data beyond the id
	rate        int // requests a second
	outstanding int // most that are not answered
	most        int // requests in all; 0 for as many as there is time for
	least       int // requests that are pushed before end ends the pushing

	name   string
	stop   context.CancelFunc
	ended  sync.WaitGroup
	free   chan struct{}
	enough chan struct{} // closed when the least have been pushed
}

// apps begins traffic. Zero settings stand for requests to the command "work"
// with a life of 60 s and tries enough for any number of kills, 1,000 a second,
// 256 outstanding.
func (l *ledger) apps(t *traffic, from *fleettest.Site, to ...uint32) *traffic {
	l.row.Helper()
	t.ledger, t.from, t.to = l, from, to
	t.rdb = from.Redis.Client()
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&t.rate, 1000)
	set(&t.outstanding, 256)
	set(&t.tries, 10_000)
	if t.cmd == "" {
		t.cmd = "work"
	}
	if t.life == 0 {
		t.life = 60 * time.Second
	}
	if t.name == "" {
		t.name = fmt.Sprintf("app-%d", from.ID)
	}
	t.enough = make(chan struct{})
	t.free = make(chan struct{}, t.outstanding)
	for range t.outstanding {
		t.free <- struct{}{}
	}
	pushing, stop := context.WithCancel(l.row.Context())
	t.stop = stop
	looking, stopLooking := context.WithCancel(context.WithoutCancel(l.row.Context()))
	t.ended.Go(func() { t.push(pushing) })
	var looks sync.WaitGroup
	looks.Go(func() { t.look(looking) })
	l.row.Cleanup(func() {
		t.end()
		stopLooking()
		looks.Wait()
	})
	return t
}

// end ends the pushing. Answers are still looked for.
func (t *traffic) end() {
	select {
	case <-t.enough:
	case <-t.ledger.row.Context().Done():
	}
	t.stop()
	t.ended.Wait()
}

// await waits until all requests of traffic with a bound have been pushed.
func (t *traffic) await() { t.ended.Wait() }

func (t *traffic) push(ctx context.Context) {
	tick := time.NewTicker(max(time.Second/time.Duration(t.rate), time.Millisecond))
	defer tick.Stop()
	began := time.Now()
	for n := 0; t.most == 0 || n < t.most; {
		// As many as are due: a ticker skips what a busy machine is late for.
		due := int(time.Since(began).Seconds()*float64(t.rate)) + 1
		for ; n < due && (t.most == 0 || n < t.most); n++ {
			if n == t.least {
				close(t.enough)
			}
			select {
			case <-ctx.Done():
				return
			case <-t.free:
			}
			t.pushOne(ctx, n)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (t *traffic) pushOne(ctx context.Context, n int) {
	id := fmt.Sprintf("%s-%d", t.name, n)
	data := id
	if t.size > 0 {
		data += " " + strings.Repeat("x", t.size)
	}
	m := fleettest.Request(t.cmd, data, t.to[n%len(t.to)]).
		With("ret", t.name).With("try", max(0, t.tries)).With("exp", int(t.life.Seconds()))
	e := t.ledger.pushing(id, t.life)
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := t.rdb.RPush(call, t.from.Prefix+".system.local", m.String()).Err(); err != nil {
		t.give() // nobody knows whether an answer will come
		wait(ctx, lookEvery)
		return
	}
	t.ledger.wasAccepted(e)
}

// look reads the return queue without taking anything from it, so that nothing
// is lost between Redis and the app. A Redis may come back with less than it had,
// and add to that: what is at the end of what was seen tells.
func (t *traffic) look(ctx context.Context) {
	seed := maphash.MakeSeed()
	var seen []uint64
	doubt := false
	var since, began time.Time // of the last look that was one, and of this one
	for wait(ctx, lookEvery) {
		began = time.Now()
		from := max(0, len(seen)-1)
		if doubt {
			from = 0
		}
		doubt = true
		for at := from; ; {
			got, err := t.rdb.LRange(ctx, t.name, int64(at), int64(at+999)).Result()
			if err != nil {
				break
			}
			if len(got) == 0 {
				since = began
				doubt = at < len(seen) && from > 0
				if !doubt {
					seen = seen[:at]
				}
				break
			}
			sums := make([]uint64, len(got))
			for i, raw := range got {
				sums[i] = maphash.String(seed, raw)
			}
			if from > 0 && at == from && sums[0] != seen[at] {
				break
			}
			for i, raw := range got {
				if at < len(seen) && seen[at] != sums[i] {
					seen = seen[:at]
				}
				if at == len(seen) {
					seen = append(seen, sums[i])
					t.note(raw, since)
				}
				at++
			}
		}
	}
}

func (t *traffic) note(raw string, since time.Time) {
	m, err := fleettest.ParseMessage(raw)
	if err != nil {
		t.ledger.row.Errorf("an app got %q: %v", raw, err)
		return
	}
	t.ledger.wasAnswered(idOf(m), m.Text("err"), since)
	t.give()
}

// give lets one more request be pushed.
func (t *traffic) give() {
	select {
	case t.free <- struct{}{}:
	default: // a second answer, or one to a push that seemed to fail
	}
}

// idOf finds a request's id in its data.
func idOf(m fleettest.Message) string {
	id, _, _ := strings.Cut(m.Data(), " ")
	return id
}

// wait waits for d and tells whether ctx has not ended meanwhile.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// service starts workers of a site that answer a command with the request's own
// data. A worker loses nothing when its Redis dies: it moves a request to a list
// of its own, and takes it off there in the step that pushes the answer.
func (l *ledger) service(s *fleettest.Site, cmd string) {
	l.row.Helper()
	rdb := s.Redis.Client()
	ctx, cancel := context.WithCancel(context.WithoutCancel(l.row.Context()))
	var workers sync.WaitGroup
	for i := range 4 {
		w := &worker{ledger: l, rdb: rdb, queue: s.Prefix + "." + cmd, own: fmt.Sprintf("worker-%s-%d", cmd, i)}
		workers.Go(func() { w.run(ctx) })
	}
	l.row.Cleanup(func() {
		cancel()
		_ = rdb.Close()
		workers.Wait()
	})
}

type worker struct {
	ledger     *ledger
	rdb        *redis.Client
	queue, own string
	inHand     string // what was noted and is not answered
}

func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		raw, err := w.next(ctx)
		if err == nil {
			err = w.handle(ctx, raw)
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			wait(ctx, lookEvery)
		}
	}
}

// next returns what the worker has, and otherwise waits for more.
func (w *worker) next(ctx context.Context) (string, error) {
	raw, err := w.rdb.LIndex(ctx, w.own, 0).Result()
	if !errors.Is(err, redis.Nil) {
		return raw, err
	}
	w.inHand = ""
	return w.rdb.BLMove(ctx, w.queue, w.own, "LEFT", "RIGHT", time.Second).Result()
}

func (w *worker) handle(ctx context.Context, raw string) error {
	m, err := fleettest.ParseMessage(raw)
	if err != nil {
		w.ledger.row.Errorf("a service got %q: %v", raw, err)
		return w.rdb.LPop(ctx, w.own).Err()
	}
	if raw != w.inHand {
		w.ledger.wasServed(idOf(m), m.Text("uid"))
		w.inHand = raw
	}
	reply := maps.Clone(m)
	dst, _ := m["dst"].([]any)
	reply["src"], reply["dst"], reply["now"] = dst[0], []any{m["src"]}, time.Now().Unix()
	pipe := w.rdb.TxPipeline()
	pipe.RPush(ctx, m.Text("ret"), reply.String())
	pipe.LRem(ctx, w.own, 1, raw) // not what a call that timed out may have moved
	_, err = pipe.Exec(ctx)
	return err
}
