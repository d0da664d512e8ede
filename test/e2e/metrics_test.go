package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// counted are the counters of messages that are not zero.
func counted(s *fleettest.Site) map[string]float64 {
	s.T.Helper()
	found := make(map[string]float64)
	for name, value := range s.Daemon.Metrics() {
		for _, of := range []string{"messages_accepted", "messages_finished", "received", "duplicates", "transfer_attempts", "claims_expired"} {
			if strings.HasPrefix(name, "msgbusd_"+of+"_total") && value != 0 {
				found[name] = value
			}
		}
	}
	return found
}

// wantCounted wants exactly these counters of messages; the last of them may come a
// little after what an app sees.
func wantCounted(s *fleettest.Site, want map[string]float64) {
	s.T.Helper()
	fleettest.Eventually(s.T, fmt.Sprintf("the counters of %d", s.ID), func() error {
		got := counted(s)
		if maps.Equal(got, want) {
			return nil
		}
		var wrong []string
		for name := range want {
			if got[name] != want[name] {
				wrong = append(wrong, fmt.Sprintf("%s is %v, want %v", name, got[name], want[name]))
			}
		}
		for name := range got {
			if _, wanted := want[name]; !wanted {
				wrong = append(wrong, fmt.Sprintf("%s is %v, want none", name, got[name]))
			}
		}
		slices.Sort(wrong)
		return fmt.Errorf("%s", strings.Join(wrong, "\n"))
	})
}

const (
	finished = `msgbusd_messages_finished_total{kind=%q,outcome=%q,reason=%q}`
	accepted = `msgbusd_messages_accepted_total{kind=%q}`
	received = `msgbusd_received_total{result=%q}`
	attempts = `msgbusd_transfer_attempts_total{result=%q}`
)

// Messages end, and the counters say something else: the alert on failures sleeps, or
// rings for what is in order.
func TestCountersSayHowMessagesEnded(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	x := newForeign(t, f, 1003)
	a.Start("--deny-twin", "2001")
	b.Start("--expose", "echo", "--expose", "silent", "--expose", "old")
	b.Echo()
	series := func(format string, words ...any) string { return fmt.Sprintf(format, words...) }
	atA, atB := make(map[string]float64), make(map[string]float64)

	a.WantAnswer(b.ID)
	atA[series(accepted, "request")]++
	atA[series(finished, "request", "answered", "")]++
	atA[series(attempts, "answered")]++
	atA[series(received, "accepted")]++ // the reply
	atB[series(received, "accepted")]++
	atB[series(accepted, "arrival")]++
	atB[series(finished, "arrival", "answered", "")]++
	atB[series(accepted, "reply")]++
	atB[series(finished, "reply", "delivered", "")]++
	atB[series(attempts, "answered")]++
	wantCounted(a, atA)
	wantCounted(b, atB)

	// Nobody serves it.
	a.WantError(fleettest.Request("silent", "x", b.ID).With("exp", 2), "request timeout")
	atA[series(accepted, "request")]++
	atA[series(finished, "request", "failed", "expired")]++
	atA[series(attempts, "answered")]++
	atB[series(received, "accepted")]++
	atB[series(accepted, "arrival")]++
	atB[series(finished, "arrival", "failed", "expired")]++

	// The other relay refuses it, by an error reply.
	a.WantError(fleettest.Request("secret", "x", b.ID), "cannot be called from remote")
	atA[series(accepted, "request")]++
	atA[series(finished, "request", "answered", "")]++
	atA[series(attempts, "answered")]++
	atA[series(received, "accepted")]++
	atB[series(received, "accepted")]++
	atB[series(accepted, "arrival")]++
	atB[series(finished, "arrival", "failed", "not_exposed")]++
	atB[series(accepted, "reply")]++
	atB[series(finished, "reply", "delivered", "")]++
	atB[series(attempts, "answered")]++

	// This relay ends it.
	a.WantError(fleettest.Request("echo", "x", 4711), "destination not found")
	atA[series(accepted, "request")]++
	atA[series(finished, "request", "failed", "twin_not_found")]++
	atA[series(attempts, "twin_not_found")]++
	a.WantError(fleettest.Request("echo", "x", 2001), "twin 2001 is not one that this relay deals with")
	atA[series(accepted, "request")]++
	atA[series(finished, "request", "failed", "twin_not_allowed")]++
	f.Stranger(2002, fleettest.FreeAddress(t))
	a.WantError(fleettest.Request("echo", "x", 2002).With("try", 0), "all retries done")
	atA[series(accepted, "request")]++
	atA[series(finished, "request", "failed", "retries_exhausted")]++
	atA[series(attempts, "unreachable")]++

	// It takes none of these.
	a.WantError(fleettest.Request("", "x", b.ID), "missing command")
	atA[series(finished, "request", "refused", "missing_command")]++
	a.PushRaw("local", "no message")
	if dead := a.NextDead(); dead.Reason != "malformed" {
		t.Errorf("a dead letter for %s", dead.Reason)
	}
	atA[series(finished, "request", "refused", "malformed")]++
	a.PushRaw("reply", fleettest.Request("echo", "x", a.ID).With("uid", "1001.4711").With("src", a.ID).String())
	atA[series(finished, "reply", "dropped", "late")]++

	// A request that comes twice, and one that somebody forged; of a relay of version 1.
	m := x.Sign(x.Wire("echo", "once", b.ID, 1))
	deliver(b, "/zbus-remote", m)
	x.reply(b)
	deliver(b, "/zbus-remote", m)
	wantRefused(b, "/zbus-remote", m.With("dat", fleettest.Encode("another")), "bad_signature")
	atB[series(received, "accepted")] += 2
	atB[series(received, "bad_signature")]++
	atB[`msgbusd_duplicates_total`]++
	atB[series(accepted, "arrival")]++
	atB[series(finished, "arrival", "answered", "")]++
	atB[series(accepted, "reply")]++
	atB[series(finished, "reply", "delivered", "")]++
	atB[series(attempts, "answered")]++

	// And one from /zbus-cmd, which its service answers by itself: noticed at its deadline.
	wantResult(b, x.Person, send(b, x.Command("echo", "by hand", b.ID).With("exp", 2)), "by hand", "")
	atB[series(received, "accepted")]++
	atB[series(accepted, "command")]++
	atB[series(finished, "command", "answered", "")]++

	wantCounted(a, atA)
	wantCounted(b, atB)

	now := a.Daemon.Metrics()
	for name, want := range map[string]float64{
		`msgbusd_message_age_seconds_count{kind="request"}`: 6,
		`msgbusd_transfer_messages_count`:                   5, // the attempts
		`msgbusd_queue_messages{queue="backlog"}`:           0,
		`msgbusd_queue_messages{queue="dead"}`:              1,
	} {
		if got, there := now[name]; !there || got != want {
			t.Errorf("%s is %v (there: %v), want %v", name, got, there, want)
		}
	}
	for _, name := range []string{
		`msgbusd_clock_offset_seconds{source="redis"}`, `msgbusd_twin_cache_entries`, `msgbusd_lanes{state="failing"}`,
		`msgbusd_queue_oldest_timestamp_seconds{queue="dead"}`, `msgbusd_redis_command_duration_seconds_count{command="admit+fetch"}`,
		`msgbusd_resolver_requests_total{result="found"}`, `msgbusd_resolver_requests_total{result="not_found"}`, `process_resident_memory_bytes`, `go_goroutines`,
	} {
		if _, there := now[name]; !there {
			t.Errorf("%s is not told", name)
		}
	}
}

// A relay that was killed, and the one after it takes up its work: somebody must see that.
func TestClaimsOfAKilledRelayAreCounted(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	a.Start()
	a.Daemon.Kill()
	sessions := a.RDB.ZRange(t.Context(), "msgbus.system.sessions", 0, -1).Val()
	if len(sessions) != 1 {
		t.Fatalf("the sessions are %q", sessions)
	}
	// As when Redis serves the BLMOVE of a relay that has just gone.
	if err := a.RDB.RPush(t.Context(), "msgbus.system.claim."+sessions[0]+".local", fleettest.Request("echo", "x", a.ID).String()).Err(); err != nil {
		t.Fatal(err)
	}
	a.Start()
	wantCounted(a, map[string]float64{
		`msgbusd_claims_expired_total`:   1,
		fmt.Sprintf(accepted, "request"): 1,
		fmt.Sprintf(accepted, "arrival"): 1,
	})
}

// Whoever calls commands that nobody has, or asks for twins that do not exist, would make
// a series of each, until the relay or Prometheus has no memory left.
func TestMadeUpNamesMakeNoSeries(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	x := newForeign(t, f, 1003)
	a.Start()
	b.Start("--expose", "echo")
	b.Echo()
	n := 0
	flood := func() {
		for i := range 10 {
			n++
			made := fmt.Sprintf("madeup%d", n)
			a.WantError(fleettest.Request(made, "x", b.ID), "cannot be called")
			a.WantError(fleettest.Request("echo", "x", uint32(7_000_000+n)), "destination not found")
			deliver(b, "/zbus-remote", x.Sign(x.Wire(made, "x", b.ID, n)))
			x.reply(b)
			if i < 3 { // more would be told to come again: too_many_lookups
				wantRefused(b, "/zbus-remote", x.Sign(x.Wire("echo", "x", b.ID, 1000+n)).With("src", 7_000_000+n), "twin_not_found")
			}
			if status, answer := fleettest.Post(t, b.URL("/zbus-cmd"), x.Command(made, "x", b.ID).String()); status != http.StatusForbidden {
				t.Errorf("/zbus-cmd of %s: %d %s", made, status, answer)
			}
			a.PushRaw("local", `{"`+made+`":1}`)
			a.NextDead()
		}
		a.WantAnswer(b.ID)
	}
	flood()
	before := []map[string]float64{a.Daemon.Metrics(), b.Daemon.Metrics()}
	flood()
	for i, after := range []map[string]float64{a.Daemon.Metrics(), b.Daemon.Metrics()} {
		for name := range after {
			if !strings.HasPrefix(name, "msgbusd_") || strings.HasPrefix(name, "msgbusd_build_info") {
				continue
			}
			for _, word := range []string{"madeup", "70000", "1003", "1002", "1001"} {
				if strings.Contains(name, word) {
					t.Errorf("%q is in the series %s", word, name)
				}
			}
			// Which of Redis's scripts ran, and what happens to wait, may differ.
			if _, there := before[i][name]; !there && !strings.Contains(name, "_redis_") && !strings.Contains(name, "_oldest_") {
				t.Errorf("the second flood makes the series %s", name)
			}
		}
	}
}

// Redis is away or hangs, and Prometheus gets nothing at all: the one time that somebody
// looks.
func TestMetricsAreThereWhileRedisIsNot(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	a.Start()
	waits := `msgbusd_queue_messages{queue="backlog"}`
	errors := `msgbusd_redis_errors_total{kind="connection"}`
	if _, there := a.Daemon.Metrics()[waits]; !there {
		t.Errorf("%s is not told", waits)
	}
	a.Redis.Stop()
	fleettest.Eventually(t, "gauges go", func() error {
		began := time.Now()
		now := a.Daemon.Metrics()
		if took := time.Since(began); took > 8*time.Second { // 2 s of which are Redis's
			t.Errorf("a scrape took %v", took)
		}
		if _, there := now[waits]; there {
			return fmt.Errorf("%s is still told", waits)
		}
		return nil
	})
	a.Redis.Continue()
	a.Redis.Kill()
	fleettest.Eventually(t, "errors are counted", func() error {
		if a.Daemon.Metrics()[errors] == 0 {
			return fmt.Errorf("%s is 0", errors)
		}
		return nil
	})
	a.Redis.Restart()
	fleettest.Eventually(t, "gauges come back", func() error {
		if _, there := a.Daemon.Metrics()[waits]; !there {
			return fmt.Errorf("%s is not told", waits)
		}
		return nil
	})
}
