package client

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// A Reply is what one twin answered, or the error that stands in its place.
type Reply struct {
	Twin   uint32
	Err    error           // of the service or the bus an [*Error]
	Data   []byte          // as the service sent it
	Schema string          // type of the data, if the service says
	Tag    json.RawMessage // of the request
	Time   time.Time       // when the service says it answered, in whole seconds; zero if nothing came
}

// Decode returns Err if there is one, and otherwise decodes the data, which is JSON, into
// v. A *[]byte or *[encoding/json.RawMessage] gets it as it is, and a nil v nothing. A service
// that answers without any data leaves v as it was.
func (r *Reply) Decode(v any) error {
	if r.Err != nil {
		return r.Err
	}
	if err := decodeData(r.Data, v); err != nil {
		return fmt.Errorf("decode the answer of twin %d: %w", r.Twin, err)
	}
	return nil
}

// A Progress is what a service says before its answer.
type Progress struct {
	Twin uint32
	// Status is `accepted` when a service has taken the request, `started` when it begins
	// to work on it, `progress`, or a word of the service's own.
	Status string
	Seq    int64 // counts from 1, and again from 1 when another service has taken over
	// Of a `progress`, as far as the service says it:
	Total, Completed int64
	Details          json.RawMessage
	// Data is all that came, as the service sent it.
	Data []byte
}

// encodeData is what a message carries of a value, before base64.
func encodeData(v any) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return v, nil
	case json.RawMessage:
		if v == nil {
			return []byte("null"), nil
		}
		return v, nil
	}
	return json.Marshal(v)
}

// decodeData is the inverse of encodeData.
func decodeData(data []byte, v any) error {
	switch v := v.(type) {
	case nil:
		return nil
	case *[]byte:
		*v = data
		return nil
	case *json.RawMessage:
		*v = data
		return nil
	}
	if len(data) == 0 {
		return nil
	}
	return json.Unmarshal(data, v)
}

// answer is the reply as callers get it, for a twin.
func (r *reply) answer(twin uint32) *Reply {
	a := &Reply{Twin: twin, Schema: r.schema, Tag: r.ext.tag}
	if r.now != 0 {
		a.Time = time.Unix(r.now, 0)
	}
	if r.failure != nil {
		failure := *r.failure
		failure.Twin = twin
		a.Err = &failure
		return a
	}
	var err error
	if a.Data, err = base64.StdEncoding.DecodeString(r.data); err != nil {
		a.Err = fmt.Errorf("the data of twin %d's answer is not base64: %w", twin, err)
	}
	return a
}

// progressData is the data of an interim reply whose status is `progress`.
type progressData struct {
	Total     int64           `json:"total"`
	Completed int64           `json:"completed"`
	Details   json.RawMessage `json:"details,omitempty"`
}

// interim is the reply as OnProgress's function gets it. Its data is a custom and not a
// rule, so what does not follow it is left as it came.
func (r *reply) interim() *Progress {
	p := &Progress{Twin: r.source, Status: r.ext.status, Seq: r.ext.seq}
	p.Data, _ = base64.StdEncoding.DecodeString(r.data)
	var said progressData
	if p.Status == statusProgress && json.Unmarshal(p.Data, &said) == nil {
		p.Total, p.Completed, p.Details = said.Total, said.Completed, said.Details
	}
	return p
}

// Words of interim replies that have a meaning of their own.
const (
	statusAccepted = "accepted"
	statusStarted  = "started"
	statusProgress = "progress"
)
