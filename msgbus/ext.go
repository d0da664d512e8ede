package msgbus

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of what stands in `ext`.
const (
	MaxExt      = 64 << 10 // bytes of all of it
	MaxTag      = 4 << 10  // bytes of a tag
	MaxID       = 64       // characters of an id
	MaxStatus   = 64       // characters of a status
	MaxClass    = 256      // characters of an error's class
	MaxSequence = 1 << 53  // what every reader of JSON counts to

	MaxEvent   = 256 << 10 // bytes of an event on the wire
	MaxCancel  = 4 << 10   // bytes of a cancellation's data
	MaxInterim = 64 << 10  // bytes of an interim reply
)

// An Ext is what apps and services may add to a message: the key `ext`, an object whose
// members are all optional (docs/extensions.md). The zero Ext is one without members.
type Ext struct {
	// Of requests.
	ID        string // the app's own name for the request
	Tag       []byte // JSON of the app's own; nil without
	Progress  string // list for interim replies
	OneWay    bool   // nothing comes back
	Mandatory bool   // refused when nobody serves the command
	Group     string // whose twins are destinations, too
	Topic     string // of an event
	Durable   bool   // the event is kept for those who come later
	Retain    bool   // the event is what new subscribers of its topic get first
	At        int64  // of an event that is retained: when its relay took it, in unix ms
	Latest    bool   // it was published before its subscriber asked
	Of        int    // how many twins were asked, of a request whose app has not named them; 0 else

	// Of replies.
	Status   string // of an interim one
	Sequence int64  // of an interim one, from 1; 0 without

	// extra holds members that this package does not know, each with a comma before it.
	extra []byte
}

// A TypedError is what a reply says of an error beside its text.
type TypedError struct {
	Code    int    // the service's own; 0: none
	Class   string // what kind of error; ErrorClass of errors of the bus
	Message string
	Data    []byte // JSON; nil without
}

// Classes of errors of the bus begin so; one of them is for services, which heed a
// cancellation.
const (
	busClass       = "msgbus."
	CancelledClass = busClass + "cancelled"
)

// ErrorClass is the class of errors that a relay makes.
func ErrorClass(r Reason) string { return busClass + string(r) }

// OfService returns what a service may say of an error: it speaks for itself and not for the
// bus.
func (e *TypedError) OfService() *TypedError {
	if e == nil || e.Class == CancelledClass || !strings.HasPrefix(e.Class, busClass) {
		return e
	}
	told := *e
	told.Class = ""
	return &told
}

// IsInterim tells whether a reply is one that leaves its request open.
func (m *Message) IsInterim() bool { return m.Ext != nil && m.Ext.Status != "" }

// IsOneWay tells whether nothing comes back for a request.
func (m *Message) IsOneWay() bool { return m.Ext != nil && m.Ext.OneWay }

// setExt reads the key `ext`. What is no object is none of ours.
func (m *Message) setExt(value jsontext.Value) (ok bool) {
	if len(value) > MaxExt {
		return false
	}
	m.Ext = &Ext{}
	ok = true
	err := members(jsontext.NewDecoder(bytes.NewBuffer(value)), func(name string, value jsontext.Value) {
		ok = m.setExtMember(name, value) && ok
	})
	return ok && err == nil
}

func (m *Message) setExtMember(name string, value jsontext.Value) (ok bool) {
	e := m.Ext
	switch name {
	case "id":
		e.ID, ok = shortText(value, MaxID)
	case "tag":
		e.Tag, ok = bytes.Clone(value), len(value) <= MaxTag
	case "progress":
		e.Progress, ok = shortText(value, MaxQueueLength)
	case "oneway":
		e.OneWay, ok = boolean(value)
	case "mandatory":
		e.Mandatory, ok = boolean(value)
	case "group":
		e.Group, ok = shortText(value, MaxID)
		ok = ok && (e.Group == "" || ValidGroup(e.Group))
	case "topic":
		e.Topic, ok = text(value)
		ok = ok && (e.Topic == "" || ValidTopic(e.Topic))
	case "durable":
		e.Durable, ok = boolean(value)
	case "retain":
		e.Retain, ok = boolean(value)
	case "at":
		e.At, ok = integer(value)
		ok = ok && e.At >= 0 && e.At <= MaxSequence
	case "latest":
		e.Latest, ok = boolean(value)
	case "of":
		e.Of, ok = small(value)
	case "status":
		e.Status, ok = shortText(value, MaxStatus)
	case "seq":
		e.Sequence, ok = integer(value)
		ok = ok && e.Sequence >= 0 && e.Sequence <= MaxSequence
	case "error":
		m.TypedError, ok = typedError(value)
	default:
		e.extra = appendMember(e.extra, name, value)
		ok = true
	}
	return ok
}

// typedError reads an error of the form of `ext`, or that of the Ref dialect, which has
// fewer members.
func typedError(value jsontext.Value) (e *TypedError, ok bool) {
	if value.Kind() != '{' {
		return nil, value.Kind() == 'n'
	}
	e, ok = &TypedError{}, true
	err := members(jsontext.NewDecoder(bytes.NewBuffer(value)), func(name string, value jsontext.Value) {
		fits := true
		switch name {
		case "code":
			e.Code, fits = small(value)
		case "class":
			e.Class, fits = shortText(value, MaxClass)
		case "message":
			e.Message, fits = text(value)
		case "data":
			e.Data = bytes.Clone(value)
		}
		ok = ok && fits
	})
	return e, ok && err == nil
}

// shortText reads text of at most so many characters.
func shortText(v jsontext.Value, most int) (string, bool) {
	s, ok := text(v)
	return s, ok && utf8.RuneCountInString(s) <= most
}

func boolean(v jsontext.Value) (value, ok bool) {
	k := v.Kind()
	return k == 't', k == 't' || k == 'f' || k == 'n'
}

func appendMember(b []byte, name string, value jsontext.Value) []byte {
	b = append(b, ',')
	b, _ = jsontext.AppendQuote(b, name)
	b = append(b, ':')
	return append(b, value...)
}

// appendExt appends the key `ext` with a comma before it, if the message has it.
func (m *Message) appendExt(b []byte) []byte {
	e := m.Ext
	switch {
	case e == nil && m.foreignExt != nil:
		return append(append(b, `,"ext":`...), m.foreignExt...)
	case e == nil:
		return b
	}
	b = append(b, `,"ext":{`...)
	start := len(b)
	if e.ID != "" {
		b = appendText(b, "id", e.ID)
	}
	if e.Tag != nil {
		b = append(append(b, `,"tag":`...), e.Tag...)
	}
	if e.Progress != "" {
		b = appendText(b, "progress", e.Progress)
	}
	if e.OneWay {
		b = append(b, `,"oneway":true`...)
	}
	if e.Mandatory {
		b = append(b, `,"mandatory":true`...)
	}
	if e.Group != "" {
		b = appendText(b, "group", e.Group)
	}
	if e.Topic != "" {
		b = appendText(b, "topic", e.Topic)
	}
	if e.Durable {
		b = append(b, `,"durable":true`...)
	}
	if e.Retain {
		b = append(b, `,"retain":true`...)
	}
	if e.At != 0 {
		b = strconv.AppendInt(append(b, `,"at":`...), e.At, 10)
	}
	if e.Latest {
		b = append(b, `,"latest":true`...)
	}
	if e.Of != 0 {
		b = strconv.AppendInt(append(b, `,"of":`...), int64(e.Of), 10)
	}
	if e.Status != "" {
		b = appendText(b, "status", e.Status)
	}
	if e.Sequence != 0 {
		b = strconv.AppendInt(append(b, `,"seq":`...), e.Sequence, 10)
	}
	if m.TypedError != nil {
		b = m.TypedError.append(append(b, `,"error":`...))
	}
	b = append(b, e.extra...)
	if len(b) > start {
		b = slices.Delete(b, start, start+1) // the first comma
	}
	return append(b, '}')
}

func (e *TypedError) append(b []byte) []byte {
	b = append(b, '{')
	start := len(b)
	if e.Code != 0 {
		b = strconv.AppendInt(append(b, `,"code":`...), int64(e.Code), 10)
	}
	if e.Class != "" {
		b = appendText(b, "class", e.Class)
	}
	b = appendText(b, "message", e.Message)
	if e.Data != nil {
		b = append(append(b, `,"data":`...), e.Data...)
	}
	b = slices.Delete(b, start, start+1)
	return append(b, '}')
}

// ForReply returns what of an ext its replies need.
func (e *Ext) ForReply() *Ext {
	if e == nil {
		return nil
	}
	return &Ext{ID: e.ID, Tag: e.Tag, Progress: e.Progress, OneWay: e.OneWay, Of: e.Of}
}
