package metrics_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/gateway"
	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/metrics"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
	"github.com/msgbusd/msgbusd/tracing"
	"github.com/msgbusd/msgbusd/twin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ relay.Observer   = (*metrics.Metrics)(nil)
	_ backlog.Observer = (*metrics.Metrics)(nil)
	_ httpapi.Observer = (*metrics.Metrics)(nil)
	_ twin.Observer    = (*metrics.Metrics)(nil)
	_ tracing.Observer = (*metrics.Metrics)(nil)
	_ gateway.Observer = (*metrics.Metrics)(nil)
)

// A storage says what a test has it say.
type storage struct {
	measures msgbus.Measures
	err      error
	asked    int
}

func (s *storage) Measure(context.Context) (msgbus.Measures, error) {
	s.asked++
	return s.measures, s.err
}

func (s *storage) ClockOffset() (time.Duration, bool) { return 250 * time.Millisecond, true }

type twins int

func (t twins) Remembered() int { return int(t) }

var errAway = errors.New("it is away")

// scrape returns what Prometheus sees: the value of each series, and the type of each
// metric.
func scrape(t *testing.T, m *metrics.Metrics) (series map[string]float64, types map[string]string) {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if answer.Code != 200 {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	series, types = make(map[string]float64), make(map[string]string)
	for line := range strings.Lines(answer.Body.String()) {
		line = strings.TrimSpace(line)
		if words := strings.Fields(line); strings.HasPrefix(line, "# TYPE ") {
			types[words[2]] = words[3]
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, _ := cutLast(line)
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		series[name] = n
	}
	return series, types
}

func cutLast(line string) (name, value string, found bool) {
	i := strings.LastIndexByte(line, ' ')
	return line[:i], line[i+1:], i >= 0
}

// everything has each metric show at least one series, with each word that a label has.
func everything() *metrics.Metrics {
	m := metrics.New(metrics.Build{Version: "v1", Revision: "abc"}, true)
	m.Watch(&storage{measures: msgbus.Measures{BacklogSince: time.Unix(1, 0), OpenSince: time.Unix(2, 0), DeadSince: time.Unix(3, 0)}}, twins(1))
	for kind := range msgbus.Kinds {
		m.MessagesAccepted(kind, 1)
		m.MessageAged(kind, time.Second, &msgbus.Trace{ID: [16]byte{1}})
		for how := range msgbus.Endings {
			m.MessagesFinished(kind, how, msgbus.Expired, 1)
		}
	}
	m.MessageRepeated()
	m.ClaimsExpired(1)
	m.RequestsReturned(1)
	m.TransferAttempted(msgbus.Timeout, 1, time.Second)
	m.MessagesReceived(msgbus.BadSignature, 1)
	for _, result := range []string{twin.ResultFound, twin.ResultNotFound, twin.ResultUnavailable, twin.ResultWrongAnswer, twin.ResultUnsupported} {
		m.ResolverAsked(result)
	}
	for _, kind := range []string{backlog.FailedConnection, backlog.FailedTimeout, backlog.FailedFull, backlog.FailedUnready, backlog.FailedRefused} {
		m.RedisFailed(kind)
	}
	for _, result := range []string{tracing.Exported, tracing.QueueFull, tracing.Rejected, tracing.Failed} {
		m.SpansEnded(result, 1)
	}
	for _, kind := range []string{gateway.SSE, gateway.WebSocket} {
		m.BrowserConnected(kind)
	}
	for _, reason := range gateway.Refusals {
		m.BrowserRefused(string(reason))
	}
	m.RedisAnswered("settle+fetch", time.Millisecond)
	return m
}
