package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/console"
	"github.com/msgbusd/msgbusd/inspect"
)

// open opens the events of a page.
func (v *visitor) open(ctx context.Context) *http.Response {
	v.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url+console.Path+"/events", nil)
	v.must(err)
	resp, err := v.client.Do(req)
	v.must(err)
	v.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// run runs the console until the returned function is called, which waits for its end.
func (r *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.console.Run(ctx)
	}()
	stop = func() { cancel(); <-done }
	r.Cleanup(stop)
	return stop
}

// The numbers of an open page stand still, or a page that stays open keeps the relay
// from ending.
func TestOpenPageIsToldUntilTheRelayStops(t *testing.T) {
	r := start(t)
	stop := r.run()
	r.inTrouble()
	resp := r.visit().open(t.Context())
	wantEqual(t, "its kind", resp.Header.Get("Content-Type"), "text/event-stream")
	lines := bufio.NewScanner(resp.Body)
	next := func() (o inspect.Overview) {
		t.Helper()
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				r.must(json.Unmarshal([]byte(data), &o))
				return o
			}
		}
		t.Fatalf("the events end: %v", lines.Err())
		return o
	}
	for next().Stats.Waiting != 4 { // what is told may have been read before
	}
	r.admit(1002, "one more")
	for next().Stats.Waiting != 5 {
	}
	r.redis.Kill()
	for lines.Scan() && lines.Text() != "event: away" {
	}
	stop()
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the events end with %v", err)
	}
}

// Somebody opens pages until the relay does nothing but tell them.
func TestOpenPagesAreBounded(t *testing.T) {
	r := start(t)
	stop := r.run()
	v := r.visit()
	one, leave := context.WithCancel(t.Context())
	defer leave()
	wantEqual(t, "the first page", v.open(one).StatusCode, http.StatusOK)
	for range console.EventsMost - 1 {
		wantEqual(t, "one of many pages", v.open(t.Context()).StatusCode, http.StatusOK)
	}
	wantEqual(t, "one too many", v.open(t.Context()).StatusCode, http.StatusServiceUnavailable)
	leave()
	over := time.NewTimer(20 * time.Second)
	defer over.Stop()
	for v.open(t.Context()).StatusCode != http.StatusOK { // once the server has seen the first one leave
		select {
		case <-over.C:
			t.Fatal("a page that was closed is told for ever")
		default:
		}
	}
	stop()
}

// A chart of a relay that runs for months takes all memory, or a step of Redis's clock
// draws a spike that never was.
func TestChartsAreBoundedAndKnowNoNegativeRates(t *testing.T) {
	r := start(t)
	at := time.Now()
	look := func(at time.Time, answered int64) {
		r.console.Look(&inspect.Overview{At: at, Stats: backlog.Stats{Answered: answered}, Lanes: inspect.LaneCounts{}})
	}
	for n := range 2 * console.LookMost {
		look(at.Add(time.Duration(n)*5*time.Second), int64(n*50))
	}
	var page struct {
		Rates  struct{ Answered float64 }
		Charts []struct{ Values []float64 }
	}
	v := r.visit()
	v.json("/", &page)
	wantEqual(t, "answered a second", page.Rates.Answered, 10)
	wantEqual(t, "points of a chart", len(page.Charts[1].Values), console.LookMost)
	look(at, 0) // the clock was set back, and the counts are of another Redis
	v.json("/", &page)
	wantEqual(t, "answered a second", page.Rates.Answered, 0)
	look(at.Add(time.Second), 0)
	v.want(v.get("/"), http.StatusOK, "<polyline")
}

// An operator opens the page just after the start, and sees empty frames where there is
// something to see.
func TestChartOfOneReadingShowsIt(t *testing.T) {
	r := start(t)
	v := r.visit()
	v.want(v.get("/"), http.StatusOK, "waiting, requests: no reading yet")
	r.console.Look(&inspect.Overview{At: time.Now(), Stats: backlog.Stats{Waiting: 7}})
	a := v.get("/")
	v.want(a, http.StatusOK, "answered, a second: no reading yet", "waiting, requests: 7, one reading", `<polyline class="dot" points="120.0,2.0 120.0,2.0"/>`)
	wantEqual(t, "charts with a dot", strings.Count(a.body, `class="dot"`), 2)
	r.console.Look(&inspect.Overview{At: time.Now().Add(5 * time.Second), Stats: backlog.Stats{Waiting: 5}})
	a = v.get("/")
	v.want(a, http.StatusOK, "waiting, requests: 5 now, at most 7", `<polyline points="0.0,2.0 240.0,14.6"/>`)
	wantEqual(t, "charts with a dot", strings.Count(a.body, `class="dot"`), 1) // rates need two looks
}
