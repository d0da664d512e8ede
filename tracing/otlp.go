package tracing

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// The JSON of OTLP, as far as a relay has something to say. Ids are in hex and 64-bit
// numbers are text there, unlike in other JSON of protobuf.

type spanKind int

// Of opentelemetry.proto.trace.v1.Span.SpanKind.
const (
	clientSpan   spanKind = 3
	consumerSpan spanKind = 5
)

const (
	statusError = 2
	// spanFlags: sampled, and the parent is known to be another process's.
	spanFlags = 0x301
)

type otlpSpan struct {
	TraceID    string      `json:"traceId"`
	SpanID     string      `json:"spanId"`
	ParentID   string      `json:"parentSpanId"`
	Flags      int         `json:"flags"`
	Name       string      `json:"name"`
	Kind       spanKind    `json:"kind"`
	Start      string      `json:"startTimeUnixNano"`
	End        string      `json:"endTimeUnixNano"`
	Attributes []attribute `json:"attributes"`
	Status     *status     `json:"status,omitempty"`
}

type status struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

type attribute struct {
	Key   string `json:"key"`
	Value struct {
		Text   string `json:"stringValue,omitempty"`
		Number string `json:"intValue,omitempty"`
	} `json:"value"`
}

func text(key, v string) (a attribute) {
	a.Key, a.Value.Text = key, v
	return a
}

func twinID(key string, id uint32) (a attribute) {
	a.Key, a.Value.Number = key, strconv.FormatUint(uint64(id), 10)
	return a
}

type object map[string]any

// encode returns the body of a POST.
func (e *Exporter) encode(batch []span) []byte {
	spans := make([]otlpSpan, len(batch))
	for i, s := range batch {
		spans[i] = s.encode()
	}
	resource := []attribute{text("service.name", "msgbusd"), text("service.version", e.opts.Version), text("service.instance.id", e.opts.Instance)}
	body, _ := json.Marshal(object{"resourceSpans": []object{{
		"resource":   object{"attributes": resource},
		"scopeSpans": []object{{"scope": object{"name": "github.com/msgbusd/msgbusd/tracing"}, "spans": spans}},
	}}}) // text and numbers alone: there is no error
	return body
}

func (s *span) encode() otlpSpan {
	verb := "send"
	if s.kind == consumerSpan {
		verb = "receive"
	}
	if s.ended.Before(s.began) {
		s.ended = s.began // Redis's clock was set back
	}
	o := otlpSpan{
		TraceID: hex.EncodeToString(s.trace.ID[:]), SpanID: fmt.Sprintf("%016x", s.id), ParentID: hex.EncodeToString(s.trace.Parent[:]),
		Flags: spanFlags, Name: verb + " " + s.command, Kind: s.kind, Start: nanoseconds(s.began), End: nanoseconds(s.ended),
		Attributes: []attribute{
			text("messaging.system", "msgbus"), text("messaging.operation.type", verb), text("messaging.operation.name", verb),
			text("messaging.destination.name", s.command), text("messaging.message.id", s.uid),
			twinID("msgbus.twin.source", s.source), twinID("msgbus.twin.destination", s.destination), text("msgbus.outcome", s.outcome),
		},
	}
	if s.reason != "" {
		kind := s.reason
		if !kind.Known() { // a peer has made it up; collectors count by this one
			kind = msgbus.Reason("_OTHER")
		}
		o.Attributes = append(o.Attributes, text("msgbus.reason", string(s.reason)), text("error.type", string(kind)))
		o.Status = &status{statusError, string(s.reason)}
	}
	return o
}

func nanoseconds(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }
