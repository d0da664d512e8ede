package msgbus

import (
	"math"
	"slices"
	"strings"
)

// Nearly every message is plain: known keys, each once; text in ASCII
// without escapes; integers; twins in a list. Such a message is read here in a third
// of the time that a reader of all JSON takes. What is not plain says nothing about
// a message: it is read by the strict reader, which alone knows what to refuse.

// decodePlain reads a plain message, of which it returns the keys. ok is false for
// any other, of which m may hold a part by then.
func (m *Message) decodePlain(text string) (seen int, ok bool) {
	s := scanner{rest: text}
	if !s.skip('{') {
		return 0, false
	}
	for {
		name, ok := s.text()
		key := keyOf(name)
		if !ok || key == 0 || seen&key != 0 || !s.skip(':') || !m.setPlain(&s, key) {
			return 0, false
		}
		seen |= key
		if s.skip('}') {
			return seen, s.isAtEnd()
		}
		if !s.skip(',') {
			return 0, false
		}
	}
}

// setPlain reads the value of a key, and tells whether it is a plain one.
func (m *Message) setPlain(s *scanner, key int) (ok bool) {
	switch key {
	case keyVersion:
		m.Version, ok = s.small()
	case keyUID:
		m.UID, ok = s.text()
	case keyCommand:
		m.Command, ok = s.text()
	case keyExpiration:
		m.Expiration, ok = s.integer()
	case keyRetry:
		m.Retry, ok = s.small()
	case keyData:
		m.Data, ok = s.text()
	case keySource:
		m.Source, ok = s.twin()
	case keyDestinations:
		m.Destinations, ok = s.twins()
	case keyReturnQueue:
		m.ReturnQueue, ok = s.text()
	case keySchema:
		m.Schema, ok = s.text()
	case keyNow:
		m.Now, ok = s.integer()
	case keyProxied:
		m.Proxied, ok = s.boolean()
	case keyError:
		m.Error, ok = s.text()
	case keySignature:
		m.Signature, ok = s.text()
	case keyEpoch:
		m.Epoch, ok = s.text()
	case keyRef:
		m.Ref, ok = s.text()
	case keyNote:
		var note string
		note, ok = s.note()
		m.Note = []byte(note)
	}
	return ok
}

// A scanner reads plain values off the front of a text.
type scanner struct{ rest string }

// skip leaves out white space and then c, if it is there.
func (s *scanner) skip(c byte) bool {
	s.skipSpace()
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) skipSpace() {
	for s.rest != "" && (s.rest[0] == ' ' || s.rest[0] == '\n' || s.rest[0] == '\t' || s.rest[0] == '\r') {
		s.rest = s.rest[1:]
	}
}

func (s *scanner) isAtEnd() bool {
	s.skipSpace()
	return s.rest == ""
}

func (s *scanner) text() (string, bool) {
	if !s.skip('"') {
		return "", false
	}
	text, rest, closed := strings.Cut(s.rest, `"`)
	s.rest = rest
	return text, closed && isPlain(text)
}

// mostDigits is what a float64 holds of every integer: no reader takes it for another.
const mostDigits = 15

// integer reads a number without sign, fraction or exponent.
func (s *scanner) integer() (n int64, ok bool) {
	s.skipSpace()
	digits := 0
	for ; digits < len(s.rest) && isDigit(s.rest[digits]); digits++ {
		if digits == mostDigits {
			return 0, false
		}
		n = 10*n + int64(s.rest[digits]-'0')
	}
	ok = digits == 1 || digits > 1 && s.rest[0] != '0'
	s.rest = s.rest[digits:]
	return n, ok
}

func (s *scanner) small() (int, bool) {
	n, ok := s.integer()
	return int(n), ok && n <= math.MaxInt32
}

func (s *scanner) twin() (uint32, bool) {
	n, ok := s.integer()
	return uint32(n), ok && n <= math.MaxUint32
}

// twins reads a list of at least one.
func (s *scanner) twins() (ids []uint32, ok bool) {
	for ok = s.skip('['); ok; ok = s.skip(',') && len(ids) < maxListed {
		id, ok := s.twin()
		if !ok || id == 0 {
			return nil, false
		}
		if ids = append(ids, id); s.skip(']') {
			return ids, true
		}
	}
	return nil, false
}

func (s *scanner) boolean() (value, ok bool) {
	s.skipSpace()
	word := "false"
	if strings.HasPrefix(s.rest, "t") {
		word = "true"
	}
	s.rest, ok = strings.CutPrefix(s.rest, word)
	return word == "true", ok
}

// note reads an object of text and integers, as it came.
func (s *scanner) note() (string, bool) {
	s.skipSpace()
	whole := s.rest
	var names []string
	for ok := s.skip('{'); ok; ok = s.skip(',') {
		name, ok := s.text()
		if !ok || slices.Contains(names, name) || !s.skip(':') || !s.skipValue() {
			return "", false
		}
		if names = append(names, name); s.skip('}') {
			return whole[:len(whole)-len(s.rest)], true
		}
	}
	return "", false
}

func (s *scanner) skipValue() (ok bool) {
	before := *s
	if _, ok = s.text(); !ok {
		*s = before
		_, ok = s.integer()
	}
	return ok
}

// isPlain tells whether a text is ASCII without quotes, backslashes and control
// characters below the space: what stands in JSON as it is. It looks at eight bytes at once, since data is long.
func isPlain(text string) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(text) >= 8; text = text[8:] {
		b := uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
			uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
		quotes, backslashes := b^(ones*'"'), b^(ones*'\\')
		// Where a byte is less than n, taking n away leaves its highest bit set; that of a
		// byte which had it set before is looked at by itself.
		if (b|(b-ones*' ')|(quotes-ones)|(backslashes-ones))&highs != 0 {
			return false
		}
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x80 || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
