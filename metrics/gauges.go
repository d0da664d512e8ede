package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/msgbusd/msgbusd/internal/recent"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A Storage tells what waits.
type Storage interface {
	Measure(ctx context.Context) (msgbus.Measures, error)
	// ClockOffset is how far the storage's clock is ahead of this machine's, and false
	// as long as nobody knows.
	ClockOffset() (time.Duration, bool)
}

// A Directory remembers twins.
type Directory interface{ Remembered() int }

const (
	// measureLimit is how long a scrape waits for Redis. One that is away must not cost
	// Prometheus all the rest.
	measureLimit = 2 * time.Second
	// measureKept is how long measures are good for: whoever asks often, or from several
	// places, asks Redis no more than once a second.
	measureKept = time.Second
)

// Watch shows what waits too, which is looked at when somebody asks.
func (m *Metrics) Watch(storage Storage, twins Directory) {
	measures := recent.NewLook(measureKept, func(ctx context.Context) (msgbus.Measures, error) {
		ctx, cancel := context.WithTimeout(ctx, measureLimit)
		defer cancel()
		return storage.Measure(ctx)
	})
	m.registry.MustRegister(&gauges{storage: storage, twins: twins, measures: measures})
}

// gauges are the metrics that are read when somebody asks for them.
type gauges struct {
	storage  Storage
	twins    Directory
	measures *recent.Look[msgbus.Measures]
}

var (
	queueMessages = prometheus.NewDesc("msgbusd_queue_messages", "Messages that wait, by where.", []string{"queue"}, nil)
	queueOldest   = prometheus.NewDesc("msgbusd_queue_oldest_timestamp_seconds", "When the message came that ends first there.", []string{"queue"}, nil)
	lanes         = prometheus.NewDesc("msgbusd_lanes", "Twins for which something waits.", []string{"state"}, nil)
	announced     = prometheus.NewDesc("msgbusd_services", "Services that have announced themselves, one for each command that they serve.", nil, nil)
	cacheEntries  = prometheus.NewDesc("msgbusd_twin_cache_entries", "Twins of which something is remembered.", nil, nil)
	clockOffset   = prometheus.NewDesc("msgbusd_clock_offset_seconds", "How far another clock is ahead of this machine's.", []string{"source"}, nil)
)

// Describe names the gauges.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{queueMessages, queueOldest, lanes, announced, cacheEntries, clockOffset} {
		to <- d
	}
}

// Collect reads the gauges. Those of a Redis that does not answer are left out: nobody
// knows them, and an old value would look like one of now.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	show := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	show(cacheEntries, float64(g.twins.Remembered()))
	if ahead, known := g.storage.ClockOffset(); known {
		show(clockOffset, ahead.Seconds(), "redis")
	}
	m, err := g.measures.Get(context.Background())
	if err != nil {
		return
	}
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		if n >= 0 { // else its key holds something else
			show(d, float64(n), labels...)
		}
	}
	count(queueMessages, m.Local, "local")
	count(queueMessages, m.Remote, "remote")
	count(queueMessages, m.Reply, "reply")
	count(queueMessages, m.Backlog, "backlog")
	count(queueMessages, m.Replies, "replies")
	count(queueMessages, m.Open, "open")
	count(queueMessages, m.Dead, "dead")
	count(lanes, m.LanesReady, "ready")
	count(lanes, m.LanesFailing, "failing")
	count(lanes, m.LanesPutOff, "put_off")
	count(announced, m.Services)
	since := func(t time.Time, queue string) {
		if !t.IsZero() {
			show(queueOldest, float64(t.UnixMilli())/1000, queue)
		}
	}
	since(m.BacklogSince, "backlog")
	since(m.OpenSince, "open")
	since(m.DeadSince, "dead")
}
