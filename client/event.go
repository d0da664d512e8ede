package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// An Event is what somebody has published.
type Event struct {
	Topic  string
	Source uint32    // the twin whose app has published it
	Time   time.Time // when its relay sent it, in whole seconds
	Data   []byte    // as it was published
	Schema string    // type of the data, if the publisher says
	Tag    json.RawMessage
	// ID is its place in the stream, to go on from with [After]; "" of a [Subscription].
	ID string
	// Lost is how many events this subscription has missed before this one, because they
	// were not taken in time; -1 when nobody knows how many, because Redis was away.
	Lost int
	// Latest: it is the latest that was published before the subscription, as [Retained]
	// asks for.
	Latest bool
}

// Decode decodes the data, as [Reply.Decode] does.
func (e *Event) Decode(v any) error {
	if err := decodeData(e.Data, v); err != nil {
		return fmt.Errorf("decode event %s: %w", e.Topic, err)
	}
	return nil
}

// clone returns an event that shares nothing with e.
func (e *Event) clone() *Event {
	c := *e
	c.Data, c.Tag = bytes.Clone(e.Data), bytes.Clone(e.Tag)
	return &c
}

func parseEvent(raw []byte) (*Event, error) {
	e := &Event{}
	err := eachMember(raw, func(name string, v jsontext.Value) (err error) {
		switch name {
		case "topic":
			e.Topic, err = text(v)
		case "src":
			e.Source, err = twinID(v)
		case "now":
			var now int64
			now, err = integer(v)
			e.Time = time.Unix(now, 0)
		case "dat":
			var data string
			if data, err = text(v); err == nil {
				e.Data, err = base64.StdEncoding.DecodeString(data)
			}
		case "shm":
			e.Schema, err = text(v)
		case "tag":
			e.Tag = json.RawMessage(v.Clone())
		}
		return named(name, err)
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}
