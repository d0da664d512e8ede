// Package tracing tells an OpenTelemetry collector what the relay had of a request that
// its app traces: who follows a request through programs of his own sees the bus among
// them. An app says so with the key `traceparent` of its request (msgbus.Trace). The
// relay reads that and changes nothing: its spans are children of the app's, beside
// each other.
//
// Messages never wait for a collector. Spans wait in a queue, what does not fit is
// dropped and counted, and a collector that is away or slow costs that queue and nothing
// else.
package tracing

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Bounds, those of the SDKs of OpenTelemetry where these have them.
const (
	queueMost = 2048
	batchMost = 512
	batchWait = 5 * time.Second // of the first span of a batch for others
	postLimit = 10 * time.Second
	triesMost = 5
	restFirst = time.Second // after a failed try, doubling
	restMost  = 30 * time.Second
	stopLimit = 2 * time.Second // for what is left at the stop
)

// What becomes of spans, in the words of the metric.
const (
	Exported  = "exported"
	QueueFull = "queue_full"
	Rejected  = "rejected" // by the collector, for good
	Failed    = "failed"   // the collector could not be asked, or was busy for too long
)

// An Observer is told what has become of spans, on the way of messages.
type Observer interface{ SpansEnded(result string, n int) }

// Options are what an Exporter needs.
type Options struct {
	Endpoint string // base URL of the collector, to which v1/traces is added
	Version  string // of the program
	Instance string // this relay's name

	Transport http.RoundTripper // to the collector; nil: one of its own
	Observer  Observer
	Log       zerolog.Logger
}

// An Exporter makes spans and hands them to a collector while Run does.
type Exporter struct {
	opts   Options
	client *http.Client
	queue  chan span
	full   atomic.Int64 // spans that found no room since somebody looked

	trouble string // what is the matter, "" for nothing; for Run alone
	lost    int64  // spans since that began; for Run alone
}

// A span is what the relay had of a request. It shares no memory with the message, which
// may be large.
type span struct {
	id                  uint64
	trace               msgbus.Trace
	kind                spanKind
	command, uid        string
	source, destination uint32
	outcome             string
	reason              msgbus.Reason
	began, ended        time.Time
}

// New returns an Exporter that hands nothing out until Run.
func New(o Options) *Exporter {
	if o.Transport == nil {
		o.Transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	return &Exporter{
		opts: o, queue: make(chan span, queueMost),
		client: &http.Client{
			Transport: o.Transport, Timeout: postLimit,
			// The operator has named who gets the spans.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// RequestEnded takes the span of an app's request, from its admission to its end.
func (e *Exporter) RequestEnded(m *msgbus.Message, how msgbus.Ending, why msgbus.Reason, admitted, ended time.Time) {
	e.offer(m, clientSpan, how.String(), why, admitted, ended)
}

// RequestArrived takes the span of the arrival of another twin's request.
func (e *Exporter) RequestArrived(m *msgbus.Message, why msgbus.Reason, came, taken time.Time) {
	outcome := string(msgbus.Accepted)
	if why != "" {
		outcome = msgbus.EndFailed.String()
	}
	e.offer(m, consumerSpan, outcome, why, came, taken)
}

func (e *Exporter) offer(m *msgbus.Message, kind spanKind, outcome string, why msgbus.Reason, began, ended time.Time) {
	s := span{
		id: rand.Uint64N(1<<64-1) + 1, trace: *m.Trace, kind: kind, command: short(m.Command), uid: short(m.UID), source: m.Source,
		outcome: outcome, reason: why, began: began, ended: ended,
	}
	if len(m.Destinations) > 0 {
		s.destination = m.Destinations[0]
	}
	select {
	case e.queue <- s:
	default:
		e.full.Add(1)
		e.opts.Observer.SpansEnded(QueueFull, 1)
	}
}

// short copies a text that a span may have. What programs of this machine push to the
// relay's queues may be longer than any name.
func short(text string) string { return strings.Clone(text[:min(len(text), msgbus.MaxCommandLength)]) }

// Run hands out spans until ctx ends, and then for a short time what is left of them.
func (e *Exporter) Run(ctx context.Context) {
	own, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer e.client.CloseIdleConnections()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopLimit, end) })()
	for own.Err() == nil {
		batch := e.gather(ctx)
		if len(batch) == 0 {
			return
		}
		rejected, err := e.export(ctx, own, batch)
		e.tell(len(batch), rejected, err)
	}
}

// gather returns a batch that is full, or whose first span has waited long enough for
// others. Once ctx has ended it is what there is, if anything.
func (e *Exporter) gather(ctx context.Context) (batch []span) {
	var enough <-chan time.Time
	for len(batch) < batchMost {
		select {
		case s := <-e.queue:
			batch = append(batch, s)
			if enough == nil {
				enough = time.After(batchWait)
			}
		case <-enough:
			return batch
		case <-ctx.Done():
			select {
			case s := <-e.queue:
				batch = append(batch, s)
			default:
				return batch
			}
		}
	}
	return batch
}

// tell counts what has become of a batch, and logs a trouble when it begins, when it
// becomes another one, and when it ends.
func (e *Exporter) tell(spans, rejected int, err error) {
	result, full := Exported, e.full.Swap(0)
	e.opts.Observer.SpansEnded(Exported, spans-rejected)
	switch {
	case rejected > 0 && isRefusal(err):
		result = Rejected
		e.opts.Observer.SpansEnded(Rejected, rejected)
	case rejected > 0:
		result = Failed
		e.opts.Observer.SpansEnded(Failed, rejected)
	case full > 0 || e.trouble == QueueFull && len(e.queue) > queueMost/2:
		result = QueueFull
	}
	e.lost += full + int64(rejected)
	switch {
	case result == e.trouble || result == Exported && e.trouble == "":
	case result == Exported:
		e.opts.Log.Info().Int64("lost", e.lost).Msg("all spans are exported again")
		e.trouble, e.lost = "", 0
	default:
		e.opts.Log.Warn().Str("reason", result).AnErr("error", err).Msg("spans are lost on their way to the collector; messages do not wait for it")
		e.trouble = result
	}
}
