package otlp

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A collector is the real receiver, behind somebody who reads along and holds what is
// posted against OTLP's own types, strictly: the receiver passes over what it does not
// know.
type collector struct {
	url  string
	sink consumertest.TracesSink

	mu    sync.Mutex
	wrong []string // guarded by mu
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	address := fleettest.FreeAddress(t)
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	settings := map[string]any{"protocols": map[string]any{"http": map[string]any{"endpoint": address}}}
	if err := confmap.NewFromStringMap(settings).Unmarshal(config); err != nil {
		t.Fatal(err)
	}
	receiver, err := factory.CreateTraces(t.Context(), receivertest.NewNopSettings(factory.Type()), config, &c.sink)
	if err != nil {
		t.Fatal(err)
	}
	if err := receiver.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: address})
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err == nil {
			err = check(req, body)
		}
		if err != nil {
			c.mu.Lock()
			c.wrong = append(c.wrong, err.Error())
			c.mu.Unlock()
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, req)
	}))
	c.url = server.URL
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
		if err := receiver.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, w := range c.wrong {
			t.Error(w)
		}
	})
	return c
}

// check wants what is posted to be an export of traces and nothing else.
func check(req *http.Request, body []byte) error {
	if req.Method != http.MethodPost || req.URL.Path != "/v1/traces" || req.Header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("%s %s of %s", req.Method, req.URL.Path, req.Header.Get("Content-Type"))
	}
	var m collectorpb.ExportTraceServiceRequest
	if err := protojson.Unmarshal(body, &m); err != nil { // unknown fields are errors
		return fmt.Errorf("%w: %s", err, body)
	}
	for _, of := range m.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				// Plain protobuf takes bytes to be base64, which 32 and 16 digits of hex are too.
				trace, span := base64.StdEncoding.EncodeToString(s.TraceId), base64.StdEncoding.EncodeToString(s.SpanId)
				if len(trace) != 32 || len(span) != 16 || strings.Trim(span, "0123456789abcdef") != "" {
					return fmt.Errorf("a span %s of trace %s", span, trace)
				}
			}
		}
	}
	return nil
}

// spans returns what the collector has, a line each.
func (c *collector) spans() (lines []string) {
	for _, traces := range c.sink.AllTraces() {
		for _, of := range traces.ResourceSpans().All() {
			service, _ := of.Resource().Attributes().Get("service.name")
			for _, scope := range of.ScopeSpans().All() {
				for _, s := range scope.Spans().All() {
					lines = append(lines, service.Str()+" "+line(s))
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func line(s ptrace.Span) string {
	attribute := func(name string) string {
		v, _ := s.Attributes().Get(name)
		return v.AsString()
	}
	age := s.EndTimestamp().AsTime().Sub(s.StartTimestamp().AsTime())
	if age < 0 || age > time.Minute || time.Since(s.EndTimestamp().AsTime()).Abs() > time.Minute || s.SpanID().IsEmpty() ||
		attribute("messaging.system") != "msgbus" || attribute("messaging.destination.name") != strings.Fields(s.Name())[1] ||
		attribute("messaging.operation.type") != strings.Fields(s.Name())[0] || !strings.HasPrefix(attribute("messaging.message.id"), attribute("msgbus.twin.destination")+".") {
		return fmt.Sprintf("span of %v: %v", age, s.Attributes().AsRaw())
	}
	return strings.TrimSpace(fmt.Sprintf("%s of %s: %s by %s, %s>%s %s %s %s", s.Kind(), s.TraceID(), s.Name(), s.ParentSpanID(),
		attribute("msgbus.twin.source"), attribute("msgbus.twin.destination"), attribute("msgbus.outcome"), s.Status().Code(), s.Status().Message()))
}

// traceparent is of the trace with that number.
func traceparent(n int) string { return fmt.Sprintf("00-%032x-00f067aa0ba902b7-01", n) }

// Somebody opens a trace and sees nothing of the bus, or what did not happen.
func TestACollectorGetsASpanOfEachEndOfATracedRequest(t *testing.T) {
	t.Parallel()
	c := startCollector(t)
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	a.Launch("--otlp-endpoint", c.url, "--exemplars")
	b.Launch("--otlp-endpoint", c.url+"/", "--expose", "echo")
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()
	b.Echo()

	a.Call(fleettest.Request("echo", "secret words", b.ID).With("traceparent", traceparent(1)))
	a.WantError(fleettest.Request("hidden", "x", b.ID).With("traceparent", traceparent(2)), "cannot be called from remote")
	a.WantError(fleettest.Request("echo", "x", 4711).With("traceparent", traceparent(3)), "destination not found")
	f.Stranger(2002, fleettest.FreeAddress(t))
	a.WantError(fleettest.Request("echo", "x", 2002).With("try", 0).With("traceparent", traceparent(4)), "all retries done")

	// Of these nobody wants spans, and they are answered like others.
	for _, given := range []any{nil, traceparent(5)[:53] + "00", "00-broken", strings.ToUpper(traceparent(0xabc)), 7} {
		if reply := a.Call(fleettest.Request("echo", "x", b.ID).With("traceparent", given)); reply.Text("err") != "" {
			t.Errorf("with %v: %s", given, reply)
		}
	}
	a.WantAnswer(b.ID)

	_, metrics, err := a.Daemon.Look("/metrics")
	if err != nil || strings.Contains(metrics, "trace_id") {
		t.Errorf("the text form has exemplars: %v", err)
	}
	a.Daemon.Stop() // at which what is left goes out
	b.Daemon.Stop()
	of := func(n int, format string) string { return fmt.Sprintf("msgbusd "+format, fmt.Sprintf("%032x", n)) }
	want := []string{
		of(1, "Client of %s: send echo by 00f067aa0ba902b7, 1001>1002 answered Unset"),
		of(1, "Consumer of %s: receive echo by 00f067aa0ba902b7, 1001>1002 accepted Unset"),
		of(2, "Client of %s: send hidden by 00f067aa0ba902b7, 1001>1002 answered Unset"),
		of(2, "Consumer of %s: receive hidden by 00f067aa0ba902b7, 1001>1002 failed Error not_exposed"),
		of(3, "Client of %s: send echo by 00f067aa0ba902b7, 1001>4711 failed Error twin_not_found"),
		of(4, "Client of %s: send echo by 00f067aa0ba902b7, 1001>2002 failed Error retries_exhausted"),
	}
	slices.Sort(want)
	if got := c.spans(); !slices.Equal(got, want) {
		t.Errorf("the collector has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The collector is gone, or takes connections and never answers, under load: no message
// may wait for it, and the relay stops when it is told to.
func TestADeadCollectorCostsNoMessage(t *testing.T) {
	t.Parallel()
	letGo := make(chan struct{})
	var posts atomic.Int64
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		posts.Add(1)
		_, _ = io.Copy(io.Discard, req.Body)
		select {
		case <-letGo:
		case <-req.Context().Done():
		}
	}))
	t.Cleanup(hangs.Close)
	t.Cleanup(func() { close(letGo) })
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	a.Launch("--otlp-endpoint", hangs.URL)
	b.Launch("--otlp-endpoint", "http://"+fleettest.FreeAddress(t))
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()
	asked := b.Echo()
	const n = 10_000 // several times what waits for a collector
	for i := range n {
		a.Push(fleettest.Request("echo", fmt.Sprint(i), b.ID).With("ret", fmt.Sprintf("ret-%d", i)).With("traceparent", traceparent(i+1)))
	}
	for i := range n {
		if reply := a.Pop(fmt.Sprintf("ret-%d", i)); reply.Text("err") != "" {
			t.Fatalf("request %d is answered %s", i, reply)
		}
	}
	asked.WantOnce(t, n)
	const full = `msgbusd_spans_total{result="queue_full"}`
	for _, s := range []*fleettest.Site{a, b} {
		s.AwaitQuiet()
		if got := s.Daemon.Metrics()[full]; got < n/2 {
			t.Errorf("%d: %s is %v, of %d spans", s.ID, full, got, n)
		}
	}
	if posts.Load() == 0 {
		t.Error("nothing was posted")
	}
	for _, s := range []*fleettest.Site{a, b} {
		began := time.Now()
		s.Daemon.Stop()
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the relay of %d took %v to stop", s.ID, took)
		}
	}
}
