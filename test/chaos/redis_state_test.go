package chaos

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// ask gives a Redis a command of its operator.
func ask(r *row, s *fleettest.Site, words ...any) {
	r.Helper()
	if err := s.RDB.Do(r.Context(), words...).Err(); err != nil {
		r.Fatalf("%v: %v", words, err)
	}
}

// awaitRefusal waits until a Redis refuses a write with an error that begins so.
func awaitRefusal(r *row, s *fleettest.Site, prefix string) {
	r.Helper()
	fleettest.Eventually(r, "Redis answers "+prefix, func() error {
		err := s.RDB.Set(r.Context(), "write", "", 0).Err()
		if err == nil || !strings.HasPrefix(err.Error(), prefix) {
			return fmt.Errorf("it answers %v", err)
		}
		return nil
	})
}

// status is a number that the kernel tells of a relay: what waits without an end
// for Redis would show in its threads, or in its memory.
func status(r *row, d *fleettest.Daemon, field string) float64 {
	r.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Proc.Pid()))
	if err != nil {
		r.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + field + `:\s+(\d+)`).FindSubmatch(text)
	if found == nil {
		r.Fatalf("no %s in %s", field, text)
	}
	n, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		r.Fatal(err)
	}
	return n
}

// Redis stands still: its disk hangs, its machine swaps, or a slow command holds
// it. /readyz says that the local Redis does not serve; apps wait, and are
// answered as soon as it goes on.
//
// Seen to fail it: Store.Ping that returns nil (/readyz stays 200). And callTimeout of a
// minute in connect.go: the request of a peer is not refused.
func TestRedisThatHangs(t *testing.T) {
	r := begin(t, 11, "Redis hangs: SIGSTOP, DEBUG SLEEP")
	p := newPair(r, redistest.Arg("--enable-debug-command", "yes"))
	p.start()
	p.ledger.service(p.b, "work")
	stranger := p.fleet.Stranger(1003, "127.0.0.1:1")
	p.ofB.Stranger(1003, "127.0.0.1:1")
	apps := p.ledger.apps(&traffic{rate: 200, life: 5 * time.Minute}, p.a, p.b.ID)
	p.ledger.awaitAnswer(time.Now())
	r.pass(r.lasting(time.Second, 5*time.Second)) // until the pools are as large as they get
	threads, memory := status(r, p.b.Daemon, "Threads"), status(r, p.b.Daemon, "VmRSS")
	var told, refused, took times
	hang := func(s *fleettest.Site, length time.Duration, begins, ends func()) {
		began := time.Now()
		begins()
		s.Daemon.AwaitNotReady("the local Redis does not serve")
		told = append(told, time.Since(began))
		r.pass(time.Until(began.Add(length)))
		ends()
		took = append(took, p.ledger.awaitAnswer(time.Now()))
		s.Daemon.AwaitReady()
	}
	for i := range 2 {
		s := p.side(i + 1)
		if i == 0 || *full {
			goOn := func() {
				refused = append(refused, wantRefused(r, s, stranger, "storage_failed"))
				s.Redis.Continue()
			}
			hang(s, r.lasting(8*time.Second, 60*time.Second), s.Redis.Stop, goOn)
		}
		if i == 1 || *full {
			length := r.of(6, 30)
			sleep := func() { _ = s.RDB.Do(t.Context(), "DEBUG", "SLEEP", length).Err() }
			hang(s, time.Duration(length)*time.Second, func() { go sleep() }, func() {})
		}
		p.ledger.awaitAnswer(time.Now())
	}
	r.atMost("more threads than before", status(r, p.b.Daemon, "Threads")-threads, 10)
	r.atMost("more memory than before, in MiB", (status(r, p.b.Daemon, "VmRSS")-memory)/1024, 32)
	apps.end()
	p.ledger.wantAnswered()
	r.atMost("/readyz says so after, at worst, in s", told.worst().Seconds(), 5)
	r.atMost("a peer's request refused after, at worst, in s", refused.worst().Seconds(), 16) // up to three calls, of 5 s each
	wantResumed(r, took, 2*time.Second)
	if *full {
		wantNoGrowth(r, p)
	}
}

// wantNoGrowth counts the goroutines of a relay at work, and of one at the end of a hang
// of its Redis. A relay that tells them ends.
func wantNoGrowth(r *row, p *pair) {
	r.Helper()
	apps := p.ledger.apps(&traffic{name: "counted", rate: 200, life: 5 * time.Minute}, p.a, p.b.ID)
	r.pass(5 * time.Second)
	p.ledger.awaitAnswer(time.Now())
	before := goroutines(r, p.b.Daemon)
	p.b.Launch()
	p.ledger.awaitAnswer(time.Now())
	r.pass(5 * time.Second)
	p.b.Redis.Stop()
	r.pass(20 * time.Second)
	during := goroutines(r, p.b.Daemon)
	p.b.Redis.Continue()
	p.b.Launch()
	apps.end()
	p.ledger.wantAnswered()
	// A hang is waited for by what else would be at rest: the sixteen messages that the other
	// relay may send at once, on two connections each, and the loops of this one.
	r.figure("%d goroutines at work", before)
	r.atMost("more at the end of a hang", float64(during-before), 20)
}

// Operators flush scripts, change Redis's role, load it anew. Each makes Redis
// answer with errors of its own, none of which is an app's business.
//
// Seen to fail it: take.go with `return err` for its default case.
func TestRedisInAnotherState(t *testing.T) {
	r := begin(t, 12, "SCRIPT FLUSH; READONLY and LOADING answers")
	p := newPair(r, redistest.Arg("--enable-debug-command", "yes"))
	p.start()
	p.ledger.service(p.b, "work")
	apps := p.ledger.apps(&traffic{rate: r.of(200, 400)}, p.a, p.b.ID)
	rounds := r.of(4, 40)
	for i := range rounds {
		s := p.side(i)
		p.ledger.awaitAnswer(time.Now())
		for range 5 {
			ask(r, s, "SCRIPT", "FLUSH")
			p.ledger.awaitAnswer(time.Now())
		}
		ask(r, s, "REPLICAOF", "127.0.0.1", "1") // where nobody is
		awaitRefusal(r, s, "READONLY")
		r.pass(r.upTo(time.Second))
		ask(r, s, "REPLICAOF", "NO", "ONE")
		p.ledger.awaitAnswer(time.Now())

		// Slow enough, and with looks at its clients, to be seen loading.
		ask(r, s, "CONFIG", "SET", "key-load-delay", 10_000, "loading-process-events-interval-bytes", 1024)
		ask(r, s, "DEBUG", "POPULATE", 50, "ballast", 512)
		go func() { _ = s.RDB.Do(t.Context(), "DEBUG", "RELOAD").Err() }()
		awaitRefusal(r, s, "LOADING")
		p.ledger.awaitAnswer(time.Now())
	}
	apps.end()
	r.figure("%d times each", rounds)
	p.ledger.wantAnswered()
}

// wantRefused posts signed requests of a stranger to a site until it refuses one
// with a reason, and returns how long that took.
func wantRefused(r *row, s *fleettest.Site, from *fleettest.Person, reason string) time.Duration {
	r.Helper()
	began := time.Now()
	n := 0
	fleettest.Eventually(r, "requests are refused with "+reason, func() error {
		n++
		m := from.Sign(from.Wire("unread", "data", s.ID, int(began.UnixMicro())+n))
		code, answer := fleettest.Post(r, s.URL("/zbus-remote"), m.String())
		if code != http.StatusServiceUnavailable || answer.Text("Reason") != reason {
			return fmt.Errorf("the answer is %d %s", code, answer)
		}
		return nil
	})
	return time.Since(began)
}

// Redis is full. Other relays are told to come back, apps of this machine are
// told by Redis itself, and what is queued drains: so it gets empty again.
//
// Seen to fail it: translate of store.go without ErrStorageFull.
func TestRedisThatIsFull(t *testing.T) {
	r := begin(t, 13, "Redis full: maxmemory, noeviction")
	p := newPair(r, redistest.Arg("--maxmemory-policy", "noeviction"))
	p.start()
	p.ledger.service(p.b, "work")
	stranger := p.fleet.Stranger(1003, "127.0.0.1:1")
	p.ofB.Stranger(1003, "127.0.0.1:1")
	apps := p.ledger.apps(&traffic{rate: r.of(200, 400)}, p.a, p.b.ID)
	rounds := r.of(2, 20)
	var told, took times
	for i := range rounds {
		s := p.side(i)
		p.ledger.awaitAnswer(time.Now())
		if s == p.b {
			p.toA.cut() // replies queue up here
			r.pass(500 * time.Millisecond)
		} else {
			s.Daemon.Kill() // requests queue up here
			r.pass(500 * time.Millisecond)
		}
		if err := s.RDB.Set(t.Context(), "ballast", strings.Repeat("x", 16<<20), 0).Err(); err != nil {
			r.Fatal(err)
		}
		ask(r, s, "CONFIG", "SET", "maxmemory", "8mb")
		awaitRefusal(r, s, "OOM")
		if s == p.b {
			p.toA.heal()
		} else {
			s.Launch()
			s.Daemon.AwaitReady()
		}
		told = append(told, wantRefused(r, s, stranger, "storage_full"))
		fleettest.Eventually(t, "what is queued drains", func() error {
			pipe := s.RDB.Pipeline()
			local, replies := pipe.LLen(t.Context(), s.Prefix+".system.local"), pipe.HLen(t.Context(), s.Prefix+".system.replies")
			if _, err := pipe.Exec(t.Context()); err != nil {
				return err
			}
			if n := local.Val() + replies.Val(); n > 0 {
				return fmt.Errorf("%d wait", n)
			}
			return nil
		})
		ask(r, s, "DEL", "ballast")
		ask(r, s, "CONFIG", "SET", "maxmemory", 0)
		took = append(took, p.ledger.awaitAnswer(time.Now()))
	}
	apps.end()
	r.figure("%d times", rounds)
	p.ledger.wantAnswered()
	r.atMost("refused with storage_full after, at worst, in s", told.worst().Seconds(), 1)
	wantResumed(r, took, 5*time.Second)
}

// The disk under Redis takes no snapshot any more, so Redis takes no write. Other
// relays are told to come back until a snapshot succeeds.
//
// Seen to fail it: translate of store.go without ErrStorageFull.
func TestRedisThatCannotSave(t *testing.T) {
	r := begin(t, 14, "disk full under Redis: MISCONF")
	p := newPair(r, redistest.Arg("--save", "3600", "1"), redistest.Arg("--stop-writes-on-bgsave-error", "yes"))
	p.start()
	p.ledger.service(p.b, "work")
	stranger := p.fleet.Stranger(1003, "127.0.0.1:1")
	p.ofB.Stranger(1003, "127.0.0.1:1")
	apps := p.ledger.apps(&traffic{rate: r.of(200, 400)}, p.a, p.b.ID)
	rounds := r.of(2, 20)
	var told, took times
	for i := range rounds {
		s := p.side(i)
		p.ledger.awaitAnswer(time.Now())
		// A snapshot cannot take the place of a folder.
		dump := filepath.Join(s.Redis.Dir(), "dump.rdb")
		if err := os.RemoveAll(dump); err != nil {
			r.Fatal(err)
		}
		if err := os.Mkdir(dump, 0o700); err != nil {
			r.Fatal(err)
		}
		ask(r, s, "BGSAVE")
		awaitRefusal(r, s, "MISCONF")
		told = append(told, wantRefused(r, s, stranger, "storage_full"))
		r.pass(r.upTo(time.Second))
		if err := os.Remove(dump); err != nil {
			r.Fatal(err)
		}
		ask(r, s, "BGSAVE")
		fleettest.Eventually(t, "Redis takes writes", func() error { return s.RDB.Set(t.Context(), "write", "", 0).Err() })
		took = append(took, p.ledger.awaitAnswer(time.Now()))
	}
	apps.end()
	r.figure("%d times", rounds)
	p.ledger.wantAnswered()
	r.atMost("refused with storage_full after, at worst, in s", told.worst().Seconds(), 1)
	wantResumed(r, took, 5*time.Second)
}
