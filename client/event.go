package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/msgbusd/msgbusd/msgbus"
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

// Latest returns, of the topics that a pattern is for, the latest events that were published
// with [Retain], here or at twins that an app of this machine wants events of. [Retained] is
// for those who want to hear what comes after them, too.
func (c *Client) Latest(ctx context.Context, pattern string) ([]*Event, error) {
	switch {
	case !msgbus.ValidPattern(pattern):
		return nil, fmt.Errorf("%q is no pattern of topics", pattern)
	case c.rdb == nil:
		return nil, errors.New("a client that looks up events must be one of Open")
	}
	kept, err := c.rdb.HVals(ctx, c.prefix+".system.retained").Result()
	if err != nil {
		return nil, fmt.Errorf("read the latest events: %w", err)
	}
	var all []*Event
	for _, raw := range kept {
		if e, err := parseEvent([]byte(raw)); err == nil && msgbus.MatchTopic(pattern, e.Topic) {
			e.Latest = true
			all = append(all, e)
		}
	}
	return all, nil
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
