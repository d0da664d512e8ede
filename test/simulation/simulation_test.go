package simulation

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

const (
	longestLife = 5 * time.Minute

	// A dead twin is tried after rests of 1, 2, 4, 8 and 16 s, and then every 20 s, which
	// is 16 s when its rest is cut most.
	firstTries   = 6
	shortestRest = 16 * time.Second
)

// lives are how long requests may wait: some end before their twin is back.
var lives = [...]time.Duration{time.Minute, longestLife}

// Twins that come and go make the relay lose or repeat messages, or it has more and
// more work with the dead ones, or they fill its memory. It fails when backlog's
// longestRest is 2 s.
func TestTwinsThatComeAndGoCostABoundedAmount(t *testing.T) {
	n, lasting, askEvery := 50, 3*time.Minute, time.Minute
	if *full {
		n, lasting, askEvery = *twinCount, 15*time.Minute, 5*time.Minute
	}
	synctest.Test(t, func(t *testing.T) { simulate(t, n, lasting, askEvery) })
}

// simulate asks each of n twins again and again while they come and go, then has all
// of them live until every request has ended.
func simulate(t *testing.T, n int, lasting, askEvery time.Duration) {
	began, before := realTime(), heap()
	w := newWorld(t, n, n*int(lasting/askEvery+1))
	stop := w.run()
	for second := range int(lasting.Seconds()) {
		w.ask(n*(second+1)/int(askEvery.Seconds()) - w.requests)
		time.Sleep(time.Second)
		w.collect()
	}
	used, goroutines := heap()-before, runtime.NumGoroutine()
	calls, commands := w.calls.Load(), w.redis.CommandCount()
	attempts, inVain := w.checkAttempts(t, lasting)
	if limit := 16<<20 + 64<<10*float64(n); used > limit {
		t.Errorf("%d twins take %.1f MiB, with what waits for them in Redis, more than %.1f", n, used/(1<<20), limit/(1<<20))
	}

	w.twins.heal()
	for limit := time.Now().Add(longestLife + time.Minute); w.open() > 0 && time.Now().Before(limit); {
		time.Sleep(time.Second)
		w.collect()
	}
	w.checkEnded(t)
	own := heap()
	stop()
	w.twins.relay, w.store = nil, nil
	own -= heap()
	runtime.KeepAlive(w)

	twinHours := float64(n) * lasting.Hours()
	t.Logf("%d twins for %s, in %s of real time: %d requests, %d of them ended with an error\n"+
		"a twin and hour: %.1f attempts, %.1f of them at dead ones; %.1f calls to the storage, %.1f commands in it\n"+
		"a twin: %.2f KiB of memory of the relay, %.2f KiB with the embedded Redis and all in it; %d goroutines in all",
		n, lasting, (realTime() - began).Round(time.Second), w.requests, w.errors,
		float64(attempts)/twinHours, float64(inVain)/twinHours, float64(calls)/twinHours, float64(commands)/twinHours,
		own/float64(n)/1024, used/float64(n)/1024, goroutines)
}

// checkAttempts holds what was tried at each twin against the time that it was dead.
func (w *world) checkAttempts(t *testing.T, lasting time.Duration) (attempts, inVain int) {
	w.twins.mu.Lock()
	defer w.twins.mu.Unlock()
	for i, one := range w.twins.all {
		attempts += one.attempts
		inVain += one.failed
		spells := int(lasting/one.period) + 2
		most := spells*firstTries + int(lasting/shortestRest)
		if one.failed > most {
			t.Errorf("twin %d was tried %d times while it was dead, more than %d", firstTwin+i, one.failed, most)
		}
	}
	return attempts, inVain
}

// open is how many requests have not ended.
func (w *world) open() (n int) {
	for _, times := range w.ended[:w.requests] {
		if times == 0 {
			n++
		}
	}
	return n
}

// checkEnded wants each request to have ended once.
func (w *world) checkEnded(t *testing.T) {
	w.twins.busy.Wait()
	time.Sleep(time.Second)
	w.collect()
	w.twins.mu.Lock()
	for _, problem := range w.twins.problems {
		t.Error(problem)
	}
	w.twins.mu.Unlock()
	for number, times := range w.ended[:w.requests] {
		if times != 1 {
			t.Errorf("request %d has ended %d times", number, times)
		}
	}
	if n := w.app.HLen(context.Background(), "msgbus.system.backlog").Val(); n != 0 {
		t.Errorf("%d requests are still in the backlog", n)
	}
	if w.errors == 0 || w.errors == w.requests {
		t.Errorf("%d of %d requests have ended with an error: the twins do not come and go", w.errors, w.requests)
	}
}

// heap is what lives in memory, in bytes.
func heap() float64 {
	runtime.GC()
	runtime.GC() // a pool keeps things for one more
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
