package client

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// What apps and services put into Redis and find there, as docs/clients.md and
// docs/extensions.md say. Keys are matched exactly, and an object that has one twice is
// refused: another reader would see another message.

// An extension is the key `ext` of a message.
type extension struct {
	id        string
	tag       json.RawMessage
	progress  string
	oneway    bool
	mandatory bool
	group     string
	topic     string
	durable   bool
	retain    bool
	of        int64 // of replies: how many there are in all
	status    string
	seq       int64
	failure   *Error // the member `error`
}

// An outgoing is a request as an app pushes it.
type outgoing struct {
	command      string
	destinations []uint32
	data         []byte
	schema       string
	ret          string
	now, exp     int64
	retries      int
	trace        traceContext
	ext          extension
}

func (m *outgoing) append(b []byte) []byte {
	b = append(b, `{"ver":1,"uid":"","src":0,"dst":[`...)
	for i, d := range m.destinations {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(d), 10)
	}
	b = append(b, ']')
	b = appendText(b, "cmd", m.command)
	b = appendInt(b, "exp", m.exp)
	b = appendInt(b, "try", int64(m.retries))
	b = appendData(b, m.data)
	b = appendText(b, "ret", m.ret)
	b = appendText(b, "shm", m.schema)
	b = appendInt(b, "now", m.now)
	b = appendText(b, "err", "")
	if m.trace.parent != "" {
		b = appendText(b, "traceparent", m.trace.parent)
	}
	if m.trace.state != "" {
		b = appendText(b, "tracestate", m.trace.state)
	}
	b = m.ext.append(b)
	return append(b, '}')
}

// append appends the member `ext`, if there is anything to say.
func (e *extension) append(b []byte) []byte {
	start := len(b)
	b = append(b, `,"ext":{`...)
	empty := len(b)
	if e.id != "" {
		b = appendText(b, "id", e.id)
	}
	if e.tag != nil {
		b = appendRaw(b, "tag", e.tag)
	}
	if e.progress != "" {
		b = appendText(b, "progress", e.progress)
	}
	if e.oneway {
		b = appendRaw(b, "oneway", []byte("true"))
	}
	if e.mandatory {
		b = appendRaw(b, "mandatory", []byte("true"))
	}
	if e.group != "" {
		b = appendText(b, "group", e.group)
	}
	if e.topic != "" {
		b = appendText(b, "topic", e.topic)
	}
	if e.durable {
		b = appendRaw(b, "durable", []byte("true"))
	}
	if e.retain {
		b = appendRaw(b, "retain", []byte("true"))
	}
	if e.status != "" {
		b = appendText(b, "status", e.status)
		b = appendInt(b, "seq", e.seq)
	}
	if e.failure != nil {
		b = e.failure.append(b)
	}
	if len(b) == empty {
		return b[:start]
	}
	b = append(b[:empty], b[empty+1:]...) // the comma before the first member
	return append(b, '}')
}

// maxClass is how many bytes of a class the relay carries.
const maxClass = 256

// append appends the member `error` of an ext.
func (e *Error) append(b []byte) []byte {
	b = append(b, `,"error":{"message":`...)
	b, _ = jsontext.AppendQuote(b, e.Message) // its only error is invalid UTF-8, which it replaces
	if e.Code != 0 {
		b = appendInt(b, "code", e.Code)
	}
	if e.Class != "" {
		b = appendText(b, "class", clip(e.Class, maxClass))
	}
	if len(e.Data) > 0 && jsontext.Value(e.Data).IsValid() {
		b = appendRaw(b, "data", e.Data)
	}
	return append(b, '}')
}

// clip cuts a text to a number of bytes, and no character in two.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

func appendText(b []byte, name, value string) []byte {
	b = appendName(b, name)
	b, _ = jsontext.AppendQuote(b, value) // its only error is invalid UTF-8, which it replaces
	return b
}

func appendInt(b []byte, name string, value int64) []byte {
	return strconv.AppendInt(appendName(b, name), value, 10)
}

func appendRaw(b []byte, name string, value []byte) []byte {
	return append(appendName(b, name), value...)
}

func appendData(b, data []byte) []byte {
	b = append(b, `,"dat":"`...)
	b = base64.StdEncoding.AppendEncode(b, data)
	return append(b, '"')
}

func appendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

// A reply is a message as an app finds it: an answer, an error or an interim reply.
type reply struct {
	uid     string
	source  uint32
	data    string // base64
	schema  string
	now     int64
	failure *Error // nil when it is none
	ext     extension
}

func parseReply(raw []byte) (*reply, error) {
	r := &reply{}
	err := eachMember(raw, func(name string, v jsontext.Value) (err error) {
		switch name {
		case "uid":
			r.uid, err = text(v)
		case "src":
			r.source, err = twinID(v)
		case "dat":
			r.data, err = text(v)
		case "shm":
			r.schema, err = text(v)
		case "now":
			r.now, _ = integer(v) // one that is wrong costs the answer nothing
		case "err":
			r.failure, err = failureOf(v)
		case "ext":
			r.ext, err = parseExtension(v)
		}
		return named(name, err)
	})
	if err != nil {
		return nil, err
	}
	if more := r.ext.failure; r.failure != nil && more != nil {
		r.failure.Code, r.failure.Class, r.failure.Data = more.Code, more.Class, more.Data
	}
	return r, nil
}

// failureOf reads `err`, which is text, or in the newer dialect an object.
func failureOf(v jsontext.Value) (*Error, error) {
	if v.Kind() == '{' {
		e, err := parseError(v)
		if err == nil && e.Message == "" {
			e.Message = string(v)
		}
		return e, err
	}
	message, err := text(v)
	if message == "" || err != nil {
		return nil, err
	}
	return &Error{Message: message}, nil
}

// parseExtension reads `ext`. One that is no object means nothing.
func parseExtension(v jsontext.Value) (extension, error) {
	var e extension
	if v.Kind() != '{' {
		return e, nil
	}
	err := eachMember(v, func(name string, v jsontext.Value) (err error) {
		switch name {
		case "id":
			e.id, err = text(v)
		case "tag":
			e.tag = json.RawMessage(v.Clone())
		case "progress":
			e.progress, err = text(v)
		case "oneway":
			e.oneway, err = truth(v)
		case "mandatory":
			e.mandatory, err = truth(v)
		case "of":
			e.of, err = integer(v)
		case "status":
			e.status, err = text(v)
		case "seq":
			e.seq, err = integer(v)
		case "error":
			e.failure, err = parseError(v)
		}
		return named(name, err)
	})
	return e, err
}

func parseError(v jsontext.Value) (*Error, error) {
	e := &Error{}
	err := eachMember(v, func(name string, v jsontext.Value) (err error) {
		switch name {
		case "code":
			e.Code, err = integer(v)
		case "class":
			e.Class, err = text(v)
		case "message":
			e.Message, err = text(v)
		case "data":
			e.Data = json.RawMessage(v.Clone())
		}
		return named(name, err)
	})
	return e, err
}
