package msgbus

import (
	"encoding/hex"

	"github.com/go-json-experiment/json/jsontext"
)

// A Trace is what the key `traceparent` of a message says of the trace that its app
// has it belong to, in the words of W3C Trace Context.
type Trace struct {
	ID     [16]byte
	Parent [8]byte // the app's span
}

// traceparentLength is that of version 00: `00-<trace id>-<parent id>-<flags>`.
const traceparentLength = 2 + 1 + 32 + 1 + 16 + 1 + 2

// ParseTraceparent reads a traceparent. Of a version after 00 it reads what 00 has,
// as the specification says. sampled is whether the app wants its spans kept.
func ParseTraceparent(text string) (t Trace, sampled, ok bool) {
	const version, id, parent, flags = 0, 3, 36, 53
	if len(text) < traceparentLength || text[id-1] != '-' || text[parent-1] != '-' || text[flags-1] != '-' {
		return Trace{}, false, false
	}
	if rest := text[traceparentLength:]; rest != "" && (text[:id-1] == "00" || rest[0] != '-') {
		return Trace{}, false, false
	}
	var v, f [1]byte
	ok = lowerHex(v[:], text[version:]) && v[0] != 0xff &&
		lowerHex(t.ID[:], text[id:]) && t.ID != [16]byte{} &&
		lowerHex(t.Parent[:], text[parent:]) && t.Parent != [8]byte{} &&
		lowerHex(f[:], text[flags:])
	if !ok {
		return Trace{}, false, false
	}
	return t, f[0]&1 != 0, true
}

// lowerHex fills b from the front of a text.
func lowerHex(b []byte, text string) bool {
	text = text[:hex.EncodedLen(len(b))]
	for i := range len(text) {
		if 'A' <= text[i] && text[i] <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(b, []byte(text))
	return err == nil
}

// sampledTrace returns the trace that the value of traceparent names, if its app wants
// spans kept, or nil. A wrong one is no fault of the message: it means nothing here,
// and is carried like all that this package does not know.
func sampledTrace(value jsontext.Value) *Trace {
	given, isText := text(value)
	if t, sampled, ok := ParseTraceparent(given); isText && ok && sampled {
		return &t
	}
	return nil
}
