// Package chaos holds the relay against the failures that it must survive. Each
// row of the table is a test: it starts real daemons and real Redis servers,
// breaks something on purpose while apps and services keep ledgers, heals,
// drains and compares the ledgers.
//
// go test runs the rows reduced: only what is true or not is asserted. With
// -full (make chaos) each runs in full and its figures are held against their
// limits too; that takes two hours and ends with one table.
//
//	go test ./test/chaos -run TestKillOfTheSendingRelay -full -seed 7
//
// Nothing leaves loopback and the network namespaces that the suite makes.
package chaos

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

var (
	full = flag.Bool("full", false, "run every row in full and hold its figures against their limits")
	seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what is random")
)

// parallel is how many rows run at once that do not measure speed.
const parallel = "4"

func TestMain(m *testing.M) { fleettest.Main(m, parallel, table.print) }

// A row is one run of one failure.
type row struct {
	*testing.T
	number int
	action string
	began  time.Time

	mu      sync.Mutex
	random  *rand.Rand // guarded by mu
	figures []string   // guarded by mu
}

// begin begins a row that runs beside others.
func begin(t *testing.T, number int, action string) *row {
	t.Helper()
	t.Parallel()
	return beginAlone(t, number, action)
}

// beginAlone begins a row that measures speed, and so has the machine for
// itself.
func beginAlone(t *testing.T, number int, action string) *row {
	t.Helper()
	r := &row{
		T: t, number: number, action: action, began: time.Now(),
		random: rand.New(rand.NewPCG(*seed, uint64(number))),
	}
	r.progress("begins: %s", action)
	t.Cleanup(func() {
		verdict := "pass"
		if t.Skipped() {
			verdict = "skip"
		}
		if t.Failed() {
			verdict = "FAIL"
			t.Logf("to repeat it: go test ./test/chaos -run '^%s$' -full=%t -seed %d", t.Name(), *full, *seed)
		}
		table.add(r, verdict)
		r.progress("%s after %s: %s", verdict, time.Since(r.began).Round(time.Second), r.said())
	})
	return r
}

// of returns a number for a reduced run or a full one.
func (r *row) of(reduced, inFull int) int {
	if *full {
		return inFull
	}
	return reduced
}

// lasting is of for times.
func (r *row) lasting(reduced, inFull time.Duration) time.Duration {
	if *full {
		return inFull
	}
	return reduced
}

// figure notes what the table says of this row.
func (r *row) figure(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures = append(r.figures, fmt.Sprintf(format, args...))
}

func (r *row) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.figures, "; ")
}

// atMost holds a measured figure against its limit, in full runs only: a test
// asserts what is true, not how fast a machine is today.
func (r *row) atMost(what string, got, limit float64) {
	r.Helper()
	r.figure("%s %.3g (limit %.3g)", what, got, limit)
	if *full && got > limit {
		r.Errorf("%s: %.3g, more than %.3g", what, got, limit)
	}
}

// progress tells whoever watches a full run.
func (r *row) progress(format string, args ...any) {
	if *full {
		fmt.Printf("%s row %2d: %s\n", time.Now().Format(time.TimeOnly), r.number, fmt.Sprintf(format, args...))
	}
}

// below draws from 0 to n-1.
func (r *row) below(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.IntN(n)
}

// upTo draws a time.
func (r *row) upTo(d time.Duration) time.Duration { return time.Duration(r.below(int(d))) }

// pass lets time pass: that is what some failures consist of.
func (r *row) pass(d time.Duration) {
	r.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
		r.Fatal("the row was ended")
	}
}

// results is the table that a full run ends with.
type results struct {
	mu    sync.Mutex
	lines []line // guarded by mu
}

type line struct {
	number                   int
	action, figures, verdict string
	took                     time.Duration
}

var table results

func (t *results) add(r *row, verdict string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line{r.number, r.action, r.said(), verdict, time.Since(r.began)})
}

func (t *results) print() {
	if !*full {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(t.lines, func(a, b line) int { return a.number - b.number })
	fmt.Fprintf(os.Stdout, "\nseed %d\n\n| row | action | figures | took | verdict |\n| --- | --- | --- | --- | --- |\n", *seed)
	for _, l := range t.lines {
		fmt.Fprintf(os.Stdout, "| %d | %s | %s | %s | %s |\n", l.number, l.action, l.figures, l.took.Round(time.Second), l.verdict)
	}
}
