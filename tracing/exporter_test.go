package tracing_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A collector answers as a test has it do, on the test's clock.
type collector struct {
	answer func(try int, req *http.Request) (*http.Response, error)

	mu     sync.Mutex
	began  time.Time
	tries  []time.Duration // when each POST came; guarded by mu
	bodies []string        // guarded by mu
	counts map[string]int  // what the exporter told; guarded by mu
	log    bytes.Buffer    // guarded by mu
}

func (c *collector) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.tries = append(c.tries, time.Since(c.began))
	c.bodies = append(c.bodies, string(body))
	try := len(c.tries)
	c.mu.Unlock()
	if c.answer == nil {
		return answer(200, `{}`, ""), nil
	}
	return c.answer(try, req)
}

func (c *collector) SpansEnded(result string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[result] += n
}

func (c *collector) Write(line []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.log.Write(line)
}

// spans counts those of a body.
func spans(body string) int { return strings.Count(body, `"spanId"`) }

func answer(code int, body, retryAfter string) *http.Response {
	h := http.Header{}
	if retryAfter != "" {
		h.Set("Retry-After", retryAfter)
	}
	return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

func codes(codes ...int) func(int, *http.Request) (*http.Response, error) {
	return func(try int, _ *http.Request) (*http.Response, error) {
		return answer(codes[min(try, len(codes))-1], "{}", ""), nil
	}
}

func hang(_ int, req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func request() *msgbus.Message {
	return &msgbus.Message{UID: "1002.7", Command: "calculator.add", Source: 1001, Destinations: []uint32{1002}, Data: "c2VjcmV0",
		Trace: &msgbus.Trace{ID: [16]byte{1, 15: 2}, Parent: [8]byte{3, 7: 4}}}
}

// export runs an exporter with a collector, while do does, on a fake clock.
func export(t *testing.T, c *collector, do func(e *tracing.Exporter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c.began, c.counts = time.Now(), make(map[string]int)
		e := tracing.New(tracing.Options{Endpoint: "http://collector/v1/traces", Transport: c, Observer: c, Log: zerolog.New(c)})
		var group sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		group.Go(func() { e.Run(ctx) })
		do(e)
		synctest.Wait()
		stop()
		stopped := time.Now()
		group.Wait()
		if took := time.Since(stopped); took > 3*time.Second {
			t.Errorf("the stop took %v", took)
		}
	})
}

func ended(e *tracing.Exporter, n int) {
	for range n {
		e.RequestEnded(request(), msgbus.EndAnswered, "", time.Unix(1, 0), time.Unix(2, 0))
	}
}

func (c *collector) want(t *testing.T, tries int, counts map[string]int) {
	t.Helper()
	if len(c.tries) != tries {
		t.Errorf("%d POSTs, want %d", len(c.tries), tries)
	}
	for _, result := range []string{tracing.Exported, tracing.QueueFull, tracing.Rejected, tracing.Failed} {
		if c.counts[result] != counts[result] {
			t.Errorf("%d spans are %s, want %d", c.counts[result], result, counts[result])
		}
	}
}

// wantLog wants lines with these texts, and no others.
func (c *collector) wantLog(t *testing.T, texts ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(c.log.String(), "\n"), "\n")
	if c.log.Len() == 0 {
		lines = nil
	}
	if len(lines) != len(texts) {
		t.Errorf("%d lines are logged, want %d:\n%s", len(lines), len(texts), c.log.String())
		return
	}
	for i, line := range lines {
		if !strings.Contains(line, texts[i]) {
			t.Errorf("%s does not say %q", line, texts[i])
		}
	}
}

// A POST for each span would cost the collector and this machine more than the messages.
func TestSpansGoInBatches(t *testing.T) {
	c := &collector{}
	export(t, c, func(e *tracing.Exporter) {
		ended(e, 3)
		time.Sleep(time.Minute)
		ended(e, 600) // more than a batch
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := len(c.bodies); n != 2 || spans(c.bodies[1]) != 512 {
			t.Errorf("%d POSTs, want the second as soon as it is full", n)
		}
	})
	c.want(t, 3, map[string]int{tracing.Exported: 603})
	if c.tries[0] != 5*time.Second || spans(c.bodies[0]) != 3 || spans(c.bodies[2]) != 88 {
		t.Errorf("POSTs at %v, of which the first has %d spans", c.tries, spans(c.bodies[0]))
	}
	c.wantLog(t)
}

// What is known of a message must not leave the machine with its spans.
func TestASpanSaysWhatBecameOfARequestAndNothingOfItsData(t *testing.T) {
	c := &collector{}
	export(t, c, func(e *tracing.Exporter) {
		long := request()
		long.UID = strings.Repeat("x", 1<<20)
		e.RequestArrived(long, "", time.Unix(1, 0), time.Unix(1, 0))
		e.RequestEnded(request(), msgbus.EndFailed, "made_up", time.Unix(2, 0), time.Unix(1, 0)) // the clock was set back
	})
	c.want(t, 1, map[string]int{tracing.Exported: 2})
	body := c.bodies[0]
	if !json.Valid([]byte(body)) || strings.Contains(body, "c2VjcmV0") || len(body) > 10_000 {
		t.Errorf("%d bytes: %.3000s", len(body), body)
	}
	for _, part := range []string{
		`"traceId":"01000000000000000000000000000002"`, `"parentSpanId":"0300000000000004"`,
		`"name":"receive calculator.add","kind":5`, `"name":"send calculator.add","kind":3`,
		`"startTimeUnixNano":"2000000000","endTimeUnixNano":"2000000000"`,
		`"status":{"code":2,"message":"made_up"}`, `{"key":"error.type","value":{"stringValue":"_OTHER"}}`,
	} {
		if !strings.Contains(body, part) {
			t.Errorf("there is no %s in %s", part, body)
		}
	}
}

// A collector that restarts, or asks for a rest, must not lose spans; one that will never
// take them must not be asked again.
func TestSpansAreSentAgainAsOTLPAllows(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(int, *http.Request) (*http.Response, error)
		tries  int
		counts map[string]int
		log    []string
	}{
		"busy for a while":  {codes(429, 502, 503, 504, 200), 5, map[string]int{tracing.Exported: 7}, nil},
		"busy for too long": {codes(503), 5, map[string]int{tracing.Failed: 7}, []string{"the collector answers 503"}},
		"of another mind":   {codes(400), 1, map[string]int{tracing.Rejected: 7}, []string{"the collector answers 400"}},
		"broken":            {codes(500), 1, map[string]int{tracing.Rejected: 7}, []string{"the collector answers 500"}},
		"moved":             {codes(307), 1, map[string]int{tracing.Rejected: 7}, []string{"the collector answers 307"}},
		"away for a moment": {func(try int, _ *http.Request) (*http.Response, error) {
			if try == 1 {
				return nil, errors.New("connection refused")
			}
			return answer(200, "", ""), nil
		}, 2, map[string]int{tracing.Exported: 7}, nil},
		"choosy": {func(int, *http.Request) (*http.Response, error) {
			return answer(200, `{"partialSuccess":{"rejectedSpans":"2","errorMessage":"too old"}}`, ""), nil
		}, 1, map[string]int{tracing.Exported: 5, tracing.Rejected: 2}, []string{"too old"}},
		"wrong about numbers": {func(int, *http.Request) (*http.Response, error) {
			return answer(200, `{"partialSuccess":{"rejectedSpans":9223372036854775807}}`, ""), nil
		}, 1, map[string]int{tracing.Rejected: 7}, []string{"rejects"}},
		"full of warnings": {func(int, *http.Request) (*http.Response, error) {
			return answer(200, `{"partialSuccess":{"errorMessage":"use another key"}}`, ""), nil
		}, 1, map[string]int{tracing.Exported: 7}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			of := &collector{answer: c.answer}
			export(t, of, func(e *tracing.Exporter) {
				ended(e, 7)
				time.Sleep(5 * time.Minute)
			})
			of.want(t, c.tries, c.counts)
			of.wantLog(t, c.log...)
		})
	}
}

// A collector that asks for ten seconds gets them, and one that asks for a day, or for
// something that nobody understands, does not stop the spans for that long.
func TestTheCollectorSaysWhenToComeAgain(t *testing.T) {
	for after, want := range map[string][2]time.Duration{
		"10":                            {10 * time.Second, 10 * time.Second},
		"86400":                         {30 * time.Second, 30 * time.Second},
		"":                              {500 * time.Millisecond, 1500 * time.Millisecond},
		"soon":                          {500 * time.Millisecond, 1500 * time.Millisecond},
		"-1":                            {500 * time.Millisecond, 1500 * time.Millisecond},
		"Sat, 01 Jan 2000 00:00:20 GMT": {15 * time.Second, 15 * time.Second}, // the fake clock begins with that year
	} {
		c := &collector{answer: func(try int, _ *http.Request) (*http.Response, error) {
			if try == 1 {
				return answer(503, "", after), nil
			}
			return answer(200, "", ""), nil
		}}
		export(t, c, func(e *tracing.Exporter) {
			ended(e, 1)
			time.Sleep(time.Minute)
		})
		c.want(t, 2, map[string]int{tracing.Exported: 1})
		if rest := c.tries[1] - c.tries[0]; rest < want[0] || rest > want[1] {
			t.Errorf("%q: asked again after %v, want %v", after, rest, want)
		}
	}
}

// The collector hangs for an hour under load. Whoever offers a span is a lane or a taker
// of the relay: it must not wait, nor may memory grow or the log fill.
func TestACollectorThatHangsCostsItsQueueAndNothingElse(t *testing.T) {
	c := &collector{answer: hang}
	const n = 20_000
	export(t, c, func(e *tracing.Exporter) {
		began := time.Now()
		ended(e, n)
		if took := time.Since(began); took != 0 {
			t.Errorf("offering took %v", took)
		}
		synctest.Wait()
		c.mu.Lock()
		if c.counts[tracing.QueueFull] < n-3000 {
			t.Errorf("only %d spans were dropped", c.counts[tracing.QueueFull])
		}
		c.mu.Unlock()
		time.Sleep(time.Hour)
		c.mu.Lock()
		c.answer = nil
		c.mu.Unlock()
		ended(e, 1)
		time.Sleep(time.Minute)
		ended(e, 1)
		time.Sleep(time.Minute)
	})
	if got := c.counts[tracing.QueueFull] + c.counts[tracing.Failed] + c.counts[tracing.Exported]; got != n+2 || c.counts[tracing.Exported] != 2 {
		t.Errorf("of %d spans these ended: %v", n+2, c.counts)
	}
	c.wantLog(t, `"reason":"failed"`, `"lost":20000`)
}

// A collector that is too slow is told of once, and once that it keeps up.
func TestLossIsToldWhenItBeginsAndWhenItEnds(t *testing.T) {
	c := &collector{answer: func(int, *http.Request) (*http.Response, error) {
		time.Sleep(time.Second)
		return answer(200, "", ""), nil
	}}
	export(t, c, func(e *tracing.Exporter) {
		for range 20 { // more than 512 a second
			ended(e, 1000)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		ended(e, 1)
		time.Sleep(time.Minute)
	})
	if c.counts[tracing.QueueFull] == 0 || c.counts[tracing.QueueFull]+c.counts[tracing.Exported] != 20_001 {
		t.Errorf("spans ended as %v", c.counts)
	}
	c.wantLog(t, `"reason":"queue_full"`, "all spans are exported again")
}

// The last spans before a stop are those that somebody wants most.
func TestWhatIsLeftGoesOutAtTheStop(t *testing.T) {
	c := &collector{}
	export(t, c, func(e *tracing.Exporter) { ended(e, 1000) })
	c.want(t, 2, map[string]int{tracing.Exported: 1000})

	// And one that hangs does not keep the relay from ending: export wants that in time.
	for name, how := range map[string]func(int, *http.Request) (*http.Response, error){"hangs": hang, "is busy": codes(503)} {
		t.Run(name, func(t *testing.T) {
			c := &collector{answer: how}
			export(t, c, func(e *tracing.Exporter) {
				ended(e, 1000)
				time.Sleep(6 * time.Second) // it is being tried
			})
			if c.counts[tracing.Exported] != 0 || c.counts[tracing.Failed] == 0 {
				t.Errorf("spans ended as %v", c.counts)
			}
		})
	}
}

// A password in the address is for the collector alone.
func TestEndpointsAreBaseURLs(t *testing.T) {
	for base, want := range map[string]string{
		"http://127.0.0.1:4318":           "http://127.0.0.1:4318/v1/traces",
		"https://collector.example/otlp/": "https://collector.example/otlp/v1/traces",
		"http://a:b@[::1]:4318/":          "http://a:b@[::1]:4318/v1/traces",
	} {
		if got, err := tracing.ParseEndpoint(base); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %s", base, got, err, want)
		}
	}
	for _, base := range []string{"", "collector:4318", "grpc://hunter2@collector", "http://", "http://h/?hunter2", "http://h/#hunter2", "http://hunter2@ho st", "\x7f"} {
		if got, err := tracing.ParseEndpoint(base); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %q, %v", base, got, err)
		}
	}
}

// BenchmarkOffer is what a traced request costs on its way.
func BenchmarkOffer(b *testing.B) {
	e := tracing.New(tracing.Options{Endpoint: "http://127.0.0.1:1", Observer: uncounted{}})
	b.ReportAllocs()
	for b.Loop() {
		ended(e, 1)
	}
}

type uncounted struct{}

func (uncounted) SpansEnded(string, int) {}
