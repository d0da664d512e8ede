package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The messages of the document, with its own names of their fields.

// An Envelope is what is around each message. What the bus does not say itself travels in
// the tag of the request, which comes back with whatever is said of it:
//
//	sn, timestamp, data, ttl   the tag
//	version                    the command: <classname>.<method>@<version>
//	routing                    src and dst
//	replyto                    ret
//	signature                  of the relays, over all that one sends to the other
type Envelope struct {
	SN        string          `json:"sn"`             // a uuid; the same when the request is done again after a crash
	Timestamp time.Time       `json:"timestamp"`      // of the request, UTC, by the caller's clock
	Data      json.RawMessage `json:"data,omitempty"` // the caller's own; never looked into, but by a cancellation
	// TTL is for how many seconds from Timestamp the agent may accept the request, 0 for
	// as long as it is there. The document has none; its code does.
	TTL int64 `json:"ttl,omitempty"`

	Version string    `json:"-"`
	Routing [2]uint32 `json:"-"` // sender, destination: twins
	ReplyTo uint32    `json:"-"` // the twin that waits, 0 of a call that is fire and forget
}

// Command is the command on the bus of a method, each version of which has a queue of its
// own.
func Command(class, method, version string) string {
	return class + "." + method + "@" + version
}

// A Request asks for a method to be invoked.
type Request struct {
	ClassName string       `json:"classname"`
	Cntr      *Constructor `json:"cntr,omitempty"`
	Method    string       `json:"method"`
	Arguments
}

// Arguments are what a method is given.
type Arguments struct {
	Args []json.RawMessage          `json:"args"`
	Kws  map[string]json.RawMessage `json:"kws"`
}

// Kws among the arguments of a call are the ones with names.
type Kws map[string]any

// newArguments encodes arguments of a call.
func newArguments(values []any) (Arguments, error) {
	a := Arguments{Args: []json.RawMessage{}, Kws: map[string]json.RawMessage{}}
	for i, v := range values {
		if kws, ok := v.(Kws); ok {
			for name, v := range kws {
				raw, err := json.Marshal(v)
				if err != nil {
					return a, fmt.Errorf("encode argument %s: %w", name, err)
				}
				a.Kws[name] = raw
			}
			continue
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return a, fmt.Errorf("encode argument %d: %w", i+1, err)
		}
		a.Args = append(a.Args, raw)
	}
	return a, nil
}

// Arg decodes the argument at a place, from 0, or else the one of that name. One that was
// not given leaves v as it was. An error is a [*Rejected].
func (a Arguments) Arg(place int, name string, v any) error {
	raw := a.Kws[name]
	if place < len(a.Args) {
		raw = a.Args[place]
	}
	if raw == nil {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return &Rejected{Reason: fmt.Sprintf("argument %s is not what it should be: %v", name, err)}
	}
	return nil
}

// A Constructor is the arguments of the class's constructor. As JSON it is a pair:
// ([], {}).
type Constructor Arguments

// MarshalJSON writes the pair.
func (c Constructor) MarshalJSON() ([]byte, error) { return json.Marshal([]any{c.Args, c.Kws}) }

// UnmarshalJSON reads the pair.
func (c *Constructor) UnmarshalJSON(raw []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return errors.New("cntr is not a pair of arguments and keyword arguments")
	}
	return errors.Join(json.Unmarshal(pair[0], &c.Args), json.Unmarshal(pair[1], &c.Kws))
}

// The statuses of a request.
const (
	Accepted     = "accepted" // the agent has it, and has put it into its queue
	RejectedWord = "rejected" // the agent does not do it
	Started      = "started"  // the method runs
	InProgress   = "progress" // the method says how far it is
)

// A Status is said of a request before its result.
type Status struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"` // of a rejected one
	Progress
}

// Progress is what a status of that word says more.
type Progress struct {
	Total     int64           `json:"total"`
	Completed int64           `json:"completed"`
	Details   json.RawMessage `json:"details,omitempty"` // any JSON
}

// A Result is what the method has returned.
type Result struct {
	RetVal json.RawMessage `json:"retval"` // any JSON
}

// An Exception is the error that the method has ended with.
type Exception struct {
	ExVal   string          `json:"exval"`   // its text
	XModule string          `json:"xmodule"` // where its class is from
	XClass  string          `json:"xclass"`
	XState  json.RawMessage `json:"xstate"` // its fields, an object
	XArgs   json.RawMessage `json:"xargs"`  // its arguments, an array
}
