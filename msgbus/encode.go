package msgbus

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// refErrorCode is the code of an error reply in the Ref dialect, whose clients
// expect one, when the service has given none.
const refErrorCode = 255

// AppendWire appends the message as relays send it to each other: the classic
// dialect with the epoch and the kept members.
func (m *Message) AppendWire(b []byte) []byte {
	b = append(b, `{"ver":`...)
	b = strconv.AppendInt(b, int64(m.Version), 10)
	b = appendText(b, "uid", m.UID)
	b = append(b, `,"src":`...)
	b = strconv.AppendUint(b, uint64(m.Source), 10)
	b = append(b, `,"dst":[`...)
	for i, d := range m.Destinations {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(d), 10)
	}
	b = append(b, `],`...)
	b = m.appendMembers(b)
	if m.Signature != "" {
		b = appendText(b, "sig", m.Signature)
	}
	if m.Epoch != "" {
		b = appendText(b, "epoch", m.Epoch)
	}
	b = m.appendExt(b)
	b = append(b, m.extra...)
	return append(b, '}')
}

// AppendNoted appends the message as AppendWire does, with its Note. Only relays of this
// project know that.
func (m *Message) AppendNoted(b []byte) []byte {
	b = m.AppendWire(b)
	if len(m.Note) == 0 {
		return b
	}
	b = append(b[:len(b)-1], `,"msgbusd":`...)
	b = append(b, m.Note...)
	return append(b, '}')
}

// AppendEntryTail appends the members of a backlog entry that follow its head
// (ver, uid, src, dst and the relay's note), and the closing brace. The script
// that gives a message its uid writes the head.
func (m *Message) AppendEntryTail(b []byte) []byte {
	b = m.appendMembers(b)
	if m.Dialect == Ref {
		b = appendText(b, "ref", m.Ref)
	}
	b = m.appendExt(b)
	b = append(b, m.extra...)
	return append(b, '}')
}

// appendMembers appends the members that every classic form shares, without a
// comma before the first.
func (m *Message) appendMembers(b []byte) []byte {
	b = append(b, `"cmd":`...)
	b = appendQuoted(b, m.Command)
	b = append(b, `,"exp":`...)
	b = strconv.AppendInt(b, m.Expiration, 10)
	b = append(b, `,"try":`...)
	b = strconv.AppendInt(b, int64(m.Retry), 10)
	b = appendText(b, "dat", m.Data)
	b = appendText(b, "ret", m.ReturnQueue)
	b = appendText(b, "shm", m.Schema)
	b = append(b, `,"now":`...)
	b = strconv.AppendInt(b, m.Now, 10)
	b = append(b, `,"pxy":`...)
	b = strconv.AppendBool(b, m.Proxied)
	return appendText(b, "err", m.Error)
}

// AppendRequest appends the message as a service of dialect d takes it.
func (m *Message) AppendRequest(b []byte, d Dialect) []byte {
	if d == Classic {
		return m.AppendWire(b)
	}
	b = m.appendRefHead(b, m.UID)
	b = appendText(b, "cmd", m.Command)
	b = append(b, `,"exp":`...)
	b = strconv.AppendInt(b, m.Expiration, 10)
	b = appendText(b, "ret", m.ReturnQueue)
	b = m.appendExt(b)
	b = append(b, m.extra...)
	return append(b, '}')
}

// AppendReply appends the message as an app of dialect d expects its answer.
func (m *Message) AppendReply(b []byte, d Dialect) []byte {
	if d == Classic {
		return m.AppendWire(b)
	}
	b = m.appendRefHead(b, m.Ref)
	if m.Error != "" {
		b = append(b, `,"err":{"code":`...)
		code := refErrorCode
		if m.TypedError != nil && m.TypedError.Code != 0 {
			code = m.TypedError.Code
		}
		b = strconv.AppendInt(b, int64(code), 10)
		b = appendText(b, "message", m.Error)
		b = append(b, '}')
	}
	b = m.appendExt(b)
	b = append(b, m.extra...)
	return append(b, '}')
}

// appendRefHead appends what requests and replies of the Ref dialect share.
func (m *Message) appendRefHead(b []byte, ref string) []byte {
	schema := m.Schema
	if schema == "" {
		schema = "application/json" // that family's clients refuse a reply without it
	}
	b = append(b, `{"ver":`...)
	b = strconv.AppendInt(b, int64(m.Version), 10)
	b = appendText(b, "ref", ref)
	b = append(b, `,"src":"`...)
	b = strconv.AppendUint(b, uint64(m.Source), 10)
	b = append(b, '"')
	b = appendText(b, "dat", m.Data)
	b = appendText(b, "shm", schema)
	b = append(b, `,"now":`...)
	return strconv.AppendInt(b, m.Now, 10)
}

func appendText(b []byte, name, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return appendQuoted(b, value)
}

func appendQuoted(b []byte, value string) []byte {
	if isPlain(value) {
		b = append(b, '"')
		b = append(b, value...)
		return append(b, '"')
	}
	b, _ = jsontext.AppendQuote(b, value) // its only error is invalid UTF-8, which it replaces
	return b
}
