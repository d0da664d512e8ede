package gateway

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/msgbusd/msgbusd/client"
)

// A message is an event as browsers get it. It is made once, however many get it.
type message struct {
	text   []byte // JSON on one line
	id     string // "" of one that has none
	topic  string
	source uint32
}

// An event is the JSON of a message.
type event struct {
	Topic  string          `json:"topic"`
	Source uint32          `json:"src"`
	Time   int64           `json:"time"`          // unix seconds
	Data   json.RawMessage `json:"data,omitzero"` // when it is JSON
	Bytes  []byte          `json:"dat,omitzero"`  // in base64, when it is not
	Schema string          `json:"shm,omitzero"`
	Tag    json.RawMessage `json:"tag,omitzero"`
	Latest bool            `json:"latest,omitzero"`
}

func encodeEvent(e *client.Event) (*message, error) {
	v := event{Topic: e.Topic, Source: e.Source, Time: e.Time.Unix(), Schema: e.Schema, Latest: e.Latest}
	if len(e.Tag) > 0 {
		v.Tag = e.Tag
	}
	switch {
	case len(e.Data) == 0:
	// A browser closes a WebSocket on which text comes that is not UTF-8.
	case json.Valid(e.Data) && utf8.Valid(e.Data):
		v.Data = e.Data
	default:
		v.Bytes = e.Data
	}
	text, err := json.Marshal(v) // which puts it on one line: server-sent events end at one
	if err != nil {
		return nil, err
	}
	return &message{text: text, id: e.ID, topic: e.Topic, source: e.Source}, nil
}
