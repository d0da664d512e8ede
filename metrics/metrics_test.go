package metrics_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/metrics"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/tracing"
)

// want holds series against what they must be.
func want(t *testing.T, series map[string]float64, wants map[string]float64) {
	t.Helper()
	for name, value := range wants {
		if got, there := series[name]; !there || got != value {
			t.Errorf("%s is %v (there: %v), want %v", name, got, there, value)
		}
	}
}

// A counter that counts under another name than the table's: alerts stay silent.
func TestWhatIsToldIsCountedUnderItsNames(t *testing.T) {
	m := metrics.New(metrics.Build{Version: "v1", Revision: "abc"}, false)
	m.MessagesAccepted(msgbus.RequestKind, 3)
	m.MessagesFinished(msgbus.RequestKind, msgbus.EndAnswered, "", 2)
	m.MessagesFinished(msgbus.RequestKind, msgbus.EndFailed, msgbus.Expired, 1)
	m.MessagesFinished(msgbus.ReplyKind, msgbus.EndDelivered, "", 4)
	m.MessagesFinished(msgbus.ReplyKind, msgbus.EndAnswered, "", 5) // of no kind that there is: told as it was said
	m.MessageAged(msgbus.RequestKind, 30*time.Millisecond, nil)
	m.MessageAged(msgbus.RequestKind, -time.Hour, nil) // Redis's clock was set back
	m.MessageAged(msgbus.ReplyKind, time.Second, nil)  // nobody knows that
	m.MessageRepeated()
	m.ClaimsExpired(7)
	m.RequestsReturned(8)
	m.TransferAttempted("", 5, 20*time.Millisecond)
	m.TransferAttempted(msgbus.Unreachable, 1, time.Second)
	m.MessagesReceived("", 6)
	m.MessagesReceived(msgbus.QueueFull, 2)
	m.ResolverAsked("found")
	m.SpansEnded(tracing.QueueFull, 3)
	m.RedisAnswered("admit+fetch", time.Millisecond)
	m.RedisAnswered("admit+fetch", time.Millisecond)
	m.RedisFailed("timeout")
	series, _ := scrape(t, m)
	want(t, series, map[string]float64{
		`msgbusd_messages_accepted_total{kind="request"}`:                                   3,
		`msgbusd_messages_accepted_total{kind="arrival"}`:                                   0,
		`msgbusd_messages_finished_total{kind="request",outcome="answered",reason=""}`:      2,
		`msgbusd_messages_finished_total{kind="request",outcome="failed",reason="expired"}`: 1,
		`msgbusd_messages_finished_total{kind="reply",outcome="delivered",reason=""}`:       4,
		`msgbusd_messages_finished_total{kind="reply",outcome="answered",reason=""}`:        5,
		`msgbusd_message_age_seconds_count{kind="request"}`:                                 2,
		`msgbusd_message_age_seconds_sum{kind="request"}`:                                   0.03,
		`msgbusd_message_age_seconds_bucket{kind="request",le="0.05"}`:                      2,
		`msgbusd_duplicates_total`:                                                          1,
		`msgbusd_claims_expired_total`:                                                      7,
		`msgbusd_requests_returned_total`:                                                   8,
		`msgbusd_transfer_attempts_total{result="answered"}`:                                1,
		`msgbusd_transfer_attempts_total{result="unreachable"}`:                             1,
		`msgbusd_transfer_duration_seconds_count`:                                           2,
		`msgbusd_transfer_messages_sum`:                                                     6,
		`msgbusd_received_total{result="accepted"}`:                                         6,
		`msgbusd_received_total{result="queue_full"}`:                                       2,
		`msgbusd_resolver_requests_total{result="found"}`:                                   1,
		`msgbusd_spans_total{result="queue_full"}`:                                          3,
		`msgbusd_redis_command_duration_seconds_count{command="admit+fetch"}`:               2,
		`msgbusd_redis_errors_total{kind="timeout"}`:                                        1,
	})
	for name := range series {
		if strings.HasPrefix(name, "msgbusd_message_age_seconds") && strings.Contains(name, `"reply"`) {
			t.Errorf("the age of a reply is told: %s", name)
		}
	}
}

// A peer that answers with a new reason each time would fill the memory of the relay, and
// of whoever keeps its metrics.
func TestReasonsThatPeersMakeUpAreOneSeries(t *testing.T) {
	m := everything()
	before, _ := scrape(t, m)
	for i := range 1000 {
		made := msgbus.Reason(fmt.Sprintf("made_up_%d", i))
		m.MessagesFinished(msgbus.RequestKind, msgbus.EndFailed, made, 1)
		m.TransferAttempted(made, 1, time.Second)
		m.MessagesReceived(made, 1)
	}
	after, _ := scrape(t, m)
	want(t, after, map[string]float64{
		`msgbusd_messages_finished_total{kind="request",outcome="failed",reason="other"}`: 1000,
		`msgbusd_transfer_attempts_total{result="other"}`:                                 1000,
		`msgbusd_received_total{result="other"}`:                                          1000,
	})
	mine := func(series map[string]float64) (n int) {
		for name := range series {
			if strings.HasPrefix(name, "msgbusd_") {
				n++
			}
		}
		return n
	}
	if got := mine(after) - mine(before); got != 3 {
		t.Errorf("there are %d more series, want the 3 of other", got)
	}
}

// A Redis that is away must not cost Prometheus the metrics that say so, and its last
// values must not look like ones of now.
func TestWhatRedisDoesNotTellIsLeftOut(t *testing.T) {
	m := metrics.New(metrics.Build{}, false)
	m.Watch(&storage{err: errAway}, twins(3))
	m.RedisFailed("connection")
	series, types := scrape(t, m)
	want(t, series, map[string]float64{
		`msgbusd_redis_errors_total{kind="connection"}`: 1,
		`msgbusd_twin_cache_entries`:                    3,
		`msgbusd_clock_offset_seconds{source="redis"}`:  0.25,
	})
	for _, name := range []string{"msgbusd_queue_messages", "msgbusd_queue_oldest_timestamp_seconds", "msgbusd_lanes", "msgbusd_services"} {
		if types[name] != "" {
			t.Errorf("%s is told", name)
		}
	}
}

// A count of -1 messages, or of a message of 1970, would be taken for what it says.
func TestWhatCannotBeCountedIsLeftOut(t *testing.T) {
	m := metrics.New(metrics.Build{}, false)
	m.Watch(&storage{measures: msgbus.Measures{Local: -1, Reply: 2, LanesFailing: -1, LanesReady: 4, Services: 5, DeadSince: time.UnixMilli(1500)}}, twins(0))
	series, _ := scrape(t, m)
	want(t, series, map[string]float64{
		`msgbusd_queue_messages{queue="reply"}`:                2,
		`msgbusd_lanes{state="ready"}`:                         4,
		`msgbusd_services`:                                     5,
		`msgbusd_queue_oldest_timestamp_seconds{queue="dead"}`: 1.5,
	})
	for _, name := range []string{`msgbusd_queue_messages{queue="local"}`, `msgbusd_lanes{state="failing"}`, `msgbusd_queue_oldest_timestamp_seconds{queue="backlog"}`} {
		if v, there := series[name]; there {
			t.Errorf("%s is told as %v", name, v)
		}
	}
}

// Somebody who asks for the metrics all the time would have Redis do nothing else.
func TestRedisIsAskedAtMostOnceASecond(t *testing.T) {
	m := metrics.New(metrics.Build{}, false)
	s := &storage{err: errAway} // also while it is away
	m.Watch(s, twins(0))
	began := time.Now()
	for range 20 {
		scrape(t, m)
	}
	if most := 1 + int(time.Since(began)/time.Second); s.asked > most {
		t.Errorf("20 scrapes asked Redis %d times within %v", s.asked, time.Since(began))
	}
}

// Whoever sees a slow message in a graph wants its trace, and whoever has not asked for
// exemplars wants the metrics as they were.
func TestExemplarsNameTracesWhereTheyAreWanted(t *testing.T) {
	trace := &msgbus.Trace{ID: [16]byte{0xab, 15: 0x01}}
	const exemplar = `# {trace_id="ab000000000000000000000000000001"} 0.03`
	for _, c := range []struct {
		exemplars bool
		accept    string
		want      bool
	}{{true, "application/openmetrics-text;version=1.0.0", true}, {true, "text/plain", false}, {false, "application/openmetrics-text;version=1.0.0", false}} {
		m := metrics.New(metrics.Build{}, c.exemplars)
		m.MessageAged(msgbus.RequestKind, 30*time.Millisecond, trace)
		m.MessageAged(msgbus.ArrivalKind, time.Hour, nil)
		m.MessageAged(msgbus.ReplyKind, time.Hour, trace) // nobody knows that
		ask := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		ask.Header.Set("Accept", c.accept)
		answer := httptest.NewRecorder()
		m.Handler().ServeHTTP(answer, ask)
		text := answer.Body.String()
		if !strings.Contains(text, `msgbusd_message_age_seconds_count{kind="request"} 1`) {
			t.Errorf("%+v: the message is not counted", c)
		}
		if got := strings.Contains(text, exemplar); got != c.want || strings.Count(text, "trace_id") > 1 {
			t.Errorf("%+v: the exemplar is told: %v", c, got)
		}
		if isOpen := strings.HasPrefix(answer.Header().Get("Content-Type"), "application/openmetrics-text"); isOpen != c.want {
			t.Errorf("%+v: answered as %s", c, answer.Header().Get("Content-Type"))
		}
	}
}

// BenchmarkMessage is what counting costs a request and its answer.
func BenchmarkMessage(b *testing.B) {
	m := metrics.New(metrics.Build{}, false)
	b.ReportAllocs()
	for b.Loop() {
		m.MessagesAccepted(msgbus.RequestKind, 1)
		m.MessagesFinished(msgbus.RequestKind, msgbus.EndAnswered, "", 1)
		m.MessageAged(msgbus.RequestKind, 3*time.Millisecond, nil)
	}
}

// BenchmarkScrape is what one look at the metrics costs.
func BenchmarkScrape(b *testing.B) {
	h := everything().Handler()
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
}
