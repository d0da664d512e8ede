package client

import (
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/msgbusd/msgbusd/msgbus"
)

// An incoming is a request as a service finds it.
type incoming struct {
	members      []member // all, as they came, for the reply
	uid          string
	command      string
	data         string // base64
	schema       string
	ret          string
	source       uint32
	destinations []uint32
	now, exp     int64
	trace        traceContext
	extended     bool // there is an ext that means something
	ext          extension
}

type member struct {
	name  string
	value jsontext.Value
}

func parseRequest(raw []byte) (*incoming, error) {
	m := &incoming{}
	err := eachMember(raw, func(name string, v jsontext.Value) (err error) {
		m.members = append(m.members, member{name, v.Clone()})
		switch name {
		case "uid":
			m.uid, err = text(v)
		case "cmd":
			m.command, err = text(v)
		case "dat":
			m.data, err = text(v)
		case "shm":
			m.schema, err = text(v)
		case "ret":
			m.ret, err = text(v)
		case "src":
			m.source, err = twinID(v)
		case "dst":
			m.destinations, err = twinIDs(v)
		case "now":
			m.now, err = integer(v)
		case "exp":
			m.exp, err = integer(v)
		case "traceparent":
			m.trace.parent = textOrNothing(v)
		case "tracestate":
			m.trace.state = textOrNothing(v)
		case "ext":
			m.extended = v.Kind() == '{'
			m.ext, err = parseExtension(v)
		}
		return named(name, err)
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// textOrNothing is for what only passes through: what is no text there costs nothing.
func textOrNothing(v jsontext.Value) string {
	given, _ := text(v)
	return given
}

// deadline is when the request ends, by the clock that its `now` is of. Both numbers are
// of whole seconds, so it is the end of the last one: nothing is given up too early.
func (m *incoming) deadline() time.Time {
	life := (&msgbus.Message{Expiration: m.exp}).Lifetime(m.now)
	return time.Unix(m.now, 0).Add(life + time.Second)
}

// wantsProgress tells whether interim replies go anywhere.
func (m *incoming) wantsProgress() bool { return m.ext.progress != "" && !m.ext.oneway }

// A response is what differs between a request and a reply to it.
type response struct {
	now     int64
	data    []byte
	failure *Error
	status  string // of an interim reply
	seq     int64
}

// replaced are the members of a request that its reply has anew. The signature is not
// the reply's.
var replaced = []string{"src", "dst", "dat", "now", "err", "ext", "sig"}

// appendReply appends the reply, which is a copy of the request but for what it says.
func (m *incoming) appendReply(b []byte, r response) []byte {
	var self uint32
	if len(m.destinations) > 0 {
		self = m.destinations[0]
	}
	b = append(b, `{"src":`...)
	b = strconv.AppendUint(b, uint64(self), 10)
	b = append(b, `,"dst":[`...)
	b = strconv.AppendUint(b, uint64(m.source), 10)
	b = append(b, ']')
	for _, member := range m.members {
		if !slices.Contains(replaced, member.name) {
			b = append(b, ',')
			b, _ = jsontext.AppendQuote(b, member.name)
			b = append(b, ':')
			b = append(b, member.value...)
		}
	}
	b = appendData(b, r.data)
	b = appendInt(b, "now", r.now)
	ext := extension{id: m.ext.id, tag: m.ext.tag, status: r.status, seq: r.seq}
	message := ""
	if r.failure != nil {
		message = r.failure.Message
		if m.extended || r.failure.says() {
			ext.failure = r.failure
		}
	}
	b = appendText(b, "err", message)
	b = ext.append(b)
	return append(b, '}')
}

// says tells whether there is more to say than the message.
func (e *Error) says() bool { return e.Code != 0 || e.Class != "" || len(e.Data) > 0 }
