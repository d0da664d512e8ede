package msgbus

import (
	"bytes"
	"strconv"
	"time"
)

// A Stay is when a request was at the relay of its service, by the clock there: it
// travels with the reply between relays of this project, for those who trace a message.
type Stay struct {
	Accepted time.Time `json:"accepted"` // when that relay took the request; zero: not known
	Left     time.Time `json:"left"`     // when the service's reply left
}

// AppendNote appends a stay as a [Message.Note].
func (s Stay) AppendNote(b []byte) []byte {
	accepted := int64(0)
	if !s.Accepted.IsZero() {
		accepted = s.Accepted.UnixMilli()
	}
	b = append(b, `{"accepted":`...)
	b = strconv.AppendInt(b, accepted, 10)
	b = append(b, `,"left":`...)
	b = strconv.AppendInt(b, s.Left.UnixMilli(), 10)
	return append(b, '}')
}

// ParseStay reads what AppendNote writes. What a peer made otherwise is the zero Stay:
// nothing depends on it.
func ParseStay(note []byte) (s Stay) {
	rest, found := bytes.CutPrefix(note, []byte(`{"accepted":`))
	accepted, rest, cut := bytes.Cut(rest, []byte(`,"left":`))
	left, closed := bytes.CutSuffix(rest, []byte{'}'})
	if !found || !cut || !closed {
		return s
	}
	a, errA := strconv.ParseInt(string(accepted), 10, 64)
	l, errL := strconv.ParseInt(string(left), 10, 64)
	const most = 1 << 53 // what JSON can be trusted with
	if errA != nil || errL != nil || a < 0 || l <= 0 || a > most || l > most {
		return s
	}
	if a > 0 {
		s.Accepted = time.UnixMilli(a)
	}
	s.Left = time.UnixMilli(l)
	return s
}
