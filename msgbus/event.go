package msgbus

import (
	"strconv"
	"time"
)

// AppendEvent appends what subscribers get of a message as an event of a topic: a JSON
// object on one line.
func (m *Message) AppendEvent(b []byte, topic string) []byte {
	b = append(b, `{"topic":`...)
	b = appendQuoted(b, topic)
	b = append(b, `,"src":`...)
	b = strconv.AppendUint(b, uint64(m.Source), 10)
	b = append(b, `,"now":`...)
	b = strconv.AppendInt(b, m.Now, 10)
	b = appendText(b, "dat", m.Data)
	b = appendText(b, "shm", m.Schema)
	if m.Ext != nil && m.Ext.At != 0 {
		b = strconv.AppendInt(append(b, `,"at":`...), m.Ext.At, 10)
	}
	if m.Ext != nil && m.Ext.Latest {
		b = append(b, `,"latest":true`...)
	}
	if m.Ext != nil && m.Ext.Tag != nil {
		b = append(append(b, `,"tag":`...), m.Ext.Tag...)
	}
	return append(b, '}')
}

// An Effect is what accepting a request for a command of the relay itself does, in the
// same step.
type Effect struct {
	// Of an event.
	Event    string   // what subscribers get
	Channels []string // where it is published
	Exchange string   // in whose stream it is kept for those who come later, or ""
	Retained string   // the name under which it is kept for new subscribers, or ""
	At       int64    // of one that is retained: when its source took it, in ms
	Latest   bool     // it may be older than what is retained, and is of no use then
	Forget   bool     // nothing is retained under that name from now on

	// Of a subscription.
	Patterns []string // what the source of the request wants
	Lease    int64    // for how long, in ms; 0: not any more
}

// A Subscription is what a twin wants of another: the events whose topics match a pattern.
type Subscription struct {
	Twin    uint32
	Pattern string
}

// A DueSubscription is one that its twin must be asked for now.
type DueSubscription struct {
	Subscription
	Lease time.Duration // of the app that wants it longest
}

// An EventRoom is how many more events may wait for a twin.
type EventRoom struct{ Lossy, Durable int }

// Listeners are who listens to a topic on this machine now.
type Listeners struct {
	Channels []string // of the patterns that match
	Count    int64    // connections that are subscribed to them
}
