// Package metrics counts what a relay does and shows it to Prometheus. No other package
// knows how: they declare interfaces of what they have to tell, whose methods [Metrics]
// has. docs/monitoring/README.md says what each metric means.
//
// No label is ever a twin, or a word that an app or a stranger chose: whoever could make
// up series would fill the memory of whoever keeps them.
package metrics

import (
	"encoding/hex"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Metrics are those of one relay. What is counted for each message was resolved when they
// were made, and costs an atomic addition.
type Metrics struct {
	registry  *prometheus.Registry
	exemplars bool

	accepted [msgbus.Kinds]prometheus.Counter
	well     [msgbus.Kinds]prometheus.Counter // of finished, those that end as they should
	finished *prometheus.CounterVec
	age      [msgbus.Kinds]prometheus.Observer // nil of a kind whose age nobody knows
	repeated prometheus.Counter
	expired  prometheus.Counter // claims
	returned prometheus.Counter // requests, from services that ended

	answered         prometheus.Counter // of attempts, those without a reason
	attempts         *prometheus.CounterVec
	transferSeconds  prometheus.Histogram
	transferMessages prometheus.Histogram

	taken    prometheus.Counter // of received, those without a reason
	received *prometheus.CounterVec
	resolver *prometheus.CounterVec
	spans    *prometheus.CounterVec
	browsers browsers

	redisSeconds *prometheus.HistogramVec
	redisErrors  *prometheus.CounterVec
	commands     sync.Map // of redisSeconds: command → prometheus.Observer
}

// A Build is the program that runs.
type Build struct{ Version, Revision string }

// New returns metrics at zero. With exemplars they name traces.
func New(b Build, exemplars bool) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), exemplars: exemplars}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	build := m.gauge("msgbusd_build_info", "The program that runs; always 1.", "version", "revision", "goversion")
	build.WithLabelValues(b.Version, b.Revision, runtime.Version()).Set(1)

	accepted := m.counters("msgbusd_messages_accepted_total", "Messages that the relay has taken on.", "kind")
	m.finished = m.counters("msgbusd_messages_finished_total", "Messages that have ended, and how.", "kind", "outcome", "reason")
	age := m.histograms("msgbusd_message_age_seconds", "Age of messages at their end, since they were accepted.",
		[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600}, "kind")
	for kind := range msgbus.Kinds {
		m.accepted[kind] = accepted.WithLabelValues(kind.String())
		m.well[kind] = m.finished.WithLabelValues(kind.String(), goodEnd(kind).String(), "")
		if kind != msgbus.ReplyKind { // where replies wait nothing says since when
			m.age[kind] = age.WithLabelValues(kind.String())
		}
	}
	m.repeated = m.counter("msgbusd_duplicates_total", "Requests that came once more and went no further.")
	m.expired = m.counter("msgbusd_claims_expired_total", "Messages that went back to their queues because the relay that claimed them had ended.")
	m.returned = m.counter("msgbusd_requests_returned_total", "Requests that went back to their queues because the service that had taken them ended.")

	m.attempts = m.counters("msgbusd_transfer_attempts_total", "Attempts to hand messages to the relay of another twin.", "result")
	m.answered = m.attempts.WithLabelValues("answered")
	m.transferSeconds = m.histogram("msgbusd_transfer_duration_seconds", "How long attempts took, failed ones too.",
		[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60})
	m.transferMessages = m.histogram("msgbusd_transfer_messages", "Messages in an attempt.", []float64{1, 2, 4, 8, 16, 32, 64, 128})

	m.received = m.counters("msgbusd_received_total", "Messages that came by HTTP, as their senders are told.", "result")
	m.taken = m.received.WithLabelValues("accepted")
	m.resolver = m.counters("msgbusd_resolver_requests_total", "Questions to the resolver of twins.", "result")
	m.spans = m.counters("msgbusd_spans_total", "Spans for the collector, and what became of them.", "result")
	m.browsers = m.newBrowsers()

	m.redisSeconds = m.histograms("msgbusd_redis_command_duration_seconds", "How long Redis took to answer, with the waiting for a connection.",
		[]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}, "command")
	m.redisErrors = m.counters("msgbusd_redis_errors_total", "Exchanges with Redis that failed.", "kind")
	return m
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	return m.counters(name, help).WithLabelValues()
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	return m.histograms(name, help, buckets).WithLabelValues().(prometheus.Histogram)
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(v)
	return v
}

// Handler shows the metrics in the text form of Prometheus, and with exemplars, which that
// has no place for, in the OpenMetrics form to those who ask for it.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 8, EnableOpenMetrics: m.exemplars,
	})
}

// goodEnd is how a message of a kind ends when all goes well.
func goodEnd(kind msgbus.Kind) msgbus.Ending {
	if kind == msgbus.ReplyKind {
		return msgbus.EndDelivered
	}
	return msgbus.EndAnswered
}

// word is a reason as a label. Peers may name reasons that nobody here knows.
func word(why msgbus.Reason) string {
	if why == "" || why.Known() {
		return string(why)
	}
	return "other"
}

// MessagesAccepted counts messages that the relay has taken on.
func (m *Metrics) MessagesAccepted(kind msgbus.Kind, n int) { m.accepted[kind].Add(float64(n)) }

// MessagesFinished counts messages that have ended.
func (m *Metrics) MessagesFinished(kind msgbus.Kind, how msgbus.Ending, why msgbus.Reason, n int) {
	if why == "" && how == goodEnd(kind) {
		m.well[kind].Add(float64(n))
		return
	}
	m.finished.WithLabelValues(kind.String(), how.String(), word(why)).Add(float64(n))
}

// MessageAged notes how old a message was at its end. One from before Redis's clock
// was set back is as good as new.
func (m *Metrics) MessageAged(kind msgbus.Kind, age time.Duration, of *msgbus.Trace) {
	o, seconds := m.age[kind], max(0, age.Seconds())
	switch {
	case o == nil:
	case of != nil && m.exemplars:
		o.(prometheus.ExemplarObserver).ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": hex.EncodeToString(of.ID[:])})
	default:
		o.Observe(seconds)
	}
}

// MessageRepeated counts a request that came once more.
func (m *Metrics) MessageRepeated() { m.repeated.Inc() }

// ClaimsExpired counts messages that went back to their queues.
func (m *Metrics) ClaimsExpired(messages int) { m.expired.Add(float64(messages)) }

// RequestsReturned counts requests that went back to their queues.
func (m *Metrics) RequestsReturned(n int) { m.returned.Add(float64(n)) }

// TransferAttempted counts an attempt.
func (m *Metrics) TransferAttempted(why msgbus.Reason, messages int, took time.Duration) {
	if why == "" {
		m.answered.Inc()
	} else {
		m.attempts.WithLabelValues(word(why)).Inc()
	}
	m.transferSeconds.Observe(took.Seconds())
	m.transferMessages.Observe(float64(messages))
}

// MessagesReceived counts messages that came by HTTP.
func (m *Metrics) MessagesReceived(why msgbus.Reason, n int) {
	if why == "" {
		m.taken.Add(float64(n))
		return
	}
	m.received.WithLabelValues(word(why)).Add(float64(n))
}

// ResolverAsked counts a question to the resolver.
func (m *Metrics) ResolverAsked(result string) { m.resolver.WithLabelValues(result).Inc() }

// SpansEnded counts spans that the collector has, or never will.
func (m *Metrics) SpansEnded(result string, n int) { m.spans.WithLabelValues(result).Add(float64(n)) }

// RedisAnswered notes how long Redis took.
func (m *Metrics) RedisAnswered(command string, took time.Duration) {
	o, known := m.commands.Load(command)
	if !known {
		o, _ = m.commands.LoadOrStore(command, m.redisSeconds.WithLabelValues(command))
	}
	o.(prometheus.Observer).Observe(took.Seconds())
}

// RedisFailed counts an exchange with Redis that failed.
func (m *Metrics) RedisFailed(kind string) { m.redisErrors.WithLabelValues(kind).Inc() }
