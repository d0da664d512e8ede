package console

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/inspect"
)

const (
	lookEvery = 5 * time.Second
	lookMost  = 120 // ten minutes of looks
	// eventsEvery is how often a page that is open is told of, and eventsMost how many
	// are told.
	eventsEvery = 2 * time.Second
	eventsMost  = 20
)

// rates are of the time between the last two looks, a second.
type rates struct {
	Accepted float64 `json:"accepted"`
	Answered float64 `json:"answered"`
	Failed   float64 `json:"failed"`
}

// A chart is one thing over the last minutes.
type chart struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"` // the latest last
}

// live remembers how the relay fared lately.
type live struct {
	stopped chan struct{} // closed when pages are not to be told any more

	mu    sync.Mutex
	looks []look // guarded by mu
	open  int    // pages that are being told; guarded by mu
}

// A look is what is remembered of one moment.
type look struct {
	at                         time.Time
	accepted, answered, failed int64
	waiting, failing           float64
}

func newLive() *live { return &live{stopped: make(chan struct{})} }

// Run looks again and again, for the charts, until ctx ends; then open pages are told
// nothing more. It is called once.
func (c *Console) Run(ctx context.Context) {
	defer close(c.live.stopped)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if o, err := c.overall.Get(ctx); err == nil { // else there is a hole in the charts
			c.live.add(o)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (l *live) add(o *inspect.Overview) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks = append(l.looks, look{o.At, o.Stats.Accepted, o.Stats.Answered, o.Stats.Failed, float64(o.Stats.Waiting), float64(o.Lanes.States["failing"])})
	if len(l.looks) > lookMost {
		l.looks = l.looks[len(l.looks)-lookMost:]
	}
}

func (l *live) rates() rates {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.looks) < 2 {
		return rates{}
	}
	return between(l.looks[len(l.looks)-2], l.looks[len(l.looks)-1])
}

func between(a, b look) rates {
	s := b.at.Sub(a.at).Seconds()
	if s <= 0 {
		return rates{} // Redis's clock was set
	}
	rate := func(then, now int64) float64 { return max(0, float64(now-then)/s) }
	return rates{rate(a.accepted, b.accepted), rate(a.answered, b.answered), rate(a.failed, b.failed)}
}

func (l *live) charts() []chart {
	l.mu.Lock()
	defer l.mu.Unlock()
	answered, waiting, failing := chart{Name: "answered", Unit: "a second"}, chart{Name: "waiting", Unit: "requests"}, chart{Name: "failing", Unit: "lanes"}
	for i, k := range l.looks {
		if i > 0 {
			answered.Values = append(answered.Values, between(l.looks[i-1], k).Answered)
		}
		waiting.Values = append(waiting.Values, k.waiting)
		failing.Values = append(failing.Values, k.failing)
	}
	return []chart{answered, waiting, failing}
}

// spark draws a chart as a line of the page; one reading is a dot, which is a line from a
// point to itself.
func spark(c chart) template.HTML {
	const width, height = 240, 48
	most := 1.0
	for _, v := range c.Values {
		most = max(most, v)
	}
	class, first, values := "", 0.0, c.Values
	step := width / max(1, float64(len(values)-1))
	if len(values) == 1 {
		class, first, step, values = ` class="dot"`, width/2, 0, append(values, values[0])
	}
	var points strings.Builder
	for i, v := range values {
		fmt.Fprintf(&points, "%.1f,%.1f ", first+step*float64(i), height-2-(height-4)*v/most)
	}
	return template.HTML(fmt.Sprintf(
		`<svg viewBox="0 0 %d %d" role="img" aria-label="%s over the last minutes, at most %.0f" preserveAspectRatio="none"><polyline%s points="%s"/></svg>`,
		width, height, template.HTMLEscapeString(c.Name), most, class, strings.TrimSpace(points.String())))
}

// events tells an open page how the relay fares, as server-sent events.
func (c *Console) events(w http.ResponseWriter, req *http.Request) {
	if !c.live.enter() {
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	defer c.live.leave()
	out := http.NewResponseController(w)
	send := func(format string, args ...any) error {
		_ = out.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return err
		}
		return out.Flush()
	}
	w.Header().Set("Content-Type", "text/event-stream")
	ticker := time.NewTicker(eventsEvery)
	defer ticker.Stop()
	for {
		o, err := c.overall.Get(req.Context())
		if err == nil {
			text, _ := json.Marshal(struct {
				*inspect.Overview
				Rates rates `json:"rates"`
			}{o, c.live.rates()})
			err = send("data: %s\n\n", text)
		} else {
			err = send("event: away\ndata: Redis does not tell\n\n")
		}
		if err != nil {
			return
		}
		select {
		case <-req.Context().Done():
			return
		case <-c.live.stopped:
			return
		case <-ticker.C:
		}
	}
}

func (l *live) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= eventsMost {
		return false
	}
	l.open++
	return true
}

func (l *live) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
}
