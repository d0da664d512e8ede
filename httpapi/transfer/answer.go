package transfer

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/msgbusd/msgbusd/msgbus"
)

// An Outcome is what became of one message, in the words of the wire. It says
// nothing that a message said: answers are not sealed.
type Outcome struct {
	Word   Word          `json:"outcome"`
	Reason msgbus.Reason `json:"reason,omitempty"` // of all but Accepted
	After  int           `json:"after,omitzero"`   // seconds, of Later
}

// A Word says what the sender of a message is to do now.
type Word string

// The words of outcomes.
const (
	// Accepted: nothing. The relay has the message, now or since an earlier time.
	Accepted Word = "accepted"
	// Refused: the message will never be taken.
	Refused Word = "refused"
	// Later: it may be taken after a while; others of the same lane are now.
	Later Word = "later"
)

const acceptedLine = `{"outcome":"accepted"}`

// AppendOutcome appends an outcome as a line of an answer's body.
func AppendOutcome(b []byte, o Outcome) []byte {
	if o.Word == Accepted {
		return append(b, acceptedLine+"\n"...)
	}
	b = append(b, `{"outcome":"`...)
	b = append(b, o.Word...)
	b = append(b, `","reason":"`...)
	b = append(b, o.Reason...)
	b = append(b, '"')
	if o.After > 0 {
		b = append(b, `,"after":`...)
		b = strconv.AppendInt(b, int64(min(o.After, MostAfter)), 10)
	}
	return append(b, "}\n"...)
}

// MostAfter is the longest time, in seconds, that an outcome can ask to wait: a
// longer one is cut when it is written, and refused when it is read.
const MostAfter = 3600

// ReadOutcomes reads the outcomes of so many messages. ok is false when the
// body does not tell what became of each.
func ReadOutcomes(body []byte, messages int) (outcomes []Outcome, ok bool) {
	if bytes.Count(body, []byte{'\n'}) != messages || len(body) > 0 && body[len(body)-1] != '\n' {
		return nil, false
	}
	outcomes = make([]Outcome, 0, messages)
	for text := range bytes.Lines(body) {
		o, ok := readOutcome(text[:len(text)-1])
		if !ok {
			return nil, false
		}
		outcomes = append(outcomes, o)
	}
	return outcomes, true
}

// readOutcome passes over keys that it does not know: later versions may tell
// more.
func readOutcome(text []byte) (o Outcome, ok bool) {
	if string(text) == acceptedLine {
		return Outcome{Word: Accepted}, true
	}
	if json.Unmarshal(text, &o) != nil || o.After < 0 || o.After > MostAfter {
		return o, false
	}
	switch o.Word {
	case Accepted:
		return o, o.Reason == "" && o.After == 0
	case Refused, Later:
		return o, isReason(o.Reason)
	default:
		return o, false
	}
}

// isReason tells whether a word can be a reason, be it one that we do not know
// yet.
func isReason(r msgbus.Reason) bool {
	return r != "" && len(r) <= 64 && strings.Trim(string(r), "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
