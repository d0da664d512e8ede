package msgbus

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// The keys that mean something, one bit each, so that Decode can tell which
// ones were there.
const (
	keyVersion = 1 << iota
	keyUID
	keyCommand
	keyExpiration
	keyRetry
	keyData
	keySource
	keyDestinations
	keyReturnQueue
	keySchema
	keyNow
	keyProxied
	keyError
	keySignature
	keyEpoch
	keyRef
	keyConnection
	keyNote
)

// keyOf returns the bit of a known key, or 0.
func keyOf(name string) int {
	switch name {
	case "ver":
		return keyVersion
	case "uid":
		return keyUID
	case "cmd":
		return keyCommand
	case "exp":
		return keyExpiration
	case "try":
		return keyRetry
	case "dat":
		return keyData
	case "src":
		return keySource
	case "dst":
		return keyDestinations
	case "ret":
		return keyReturnQueue
	case "shm":
		return keySchema
	case "now":
		return keyNow
	case "pxy":
		return keyProxied
	case "err":
		return keyError
	case "sig":
		return keySignature
	case "epoch":
		return keyEpoch
	case "ref":
		return keyRef
	case "con":
		return keyConnection
	case "msgbusd":
		return keyNote
	}
	return 0
}

var knownKeys = [...]string{"ver", "uid", "cmd", "exp", "try", "dat", "src", "dst", "ret", "shm",
	"now", "pxy", "err", "sig", "epoch", "ref", "con", "msgbusd"}

// looksKnown reports whether some reader of JSON would take name for one of the
// known keys: several published ones match in any case, with Unicode's folding.
func looksKnown(name string) bool {
	for _, k := range knownKeys {
		if strings.EqualFold(name, k) {
			return true
		}
	}
	return false
}

// Decode reads one message. Every error is a *Refusal with reason Malformed.
// Together with an error it returns what could be read, never nil, so that the
// sender can be told in its dialect: a `ret` or `ref` that stands before or
// after the mistake is found.
func Decode(data []byte) (*Message, error) {
	m := &Message{}
	seen, err := m.decode(data)
	if err != nil {
		seen |= m.salvage(data)
	}
	// Of what cannot be read to its end, only keys that are there tell anything.
	if seen&(keyRef|keyConnection) != 0 || err == nil && seen&(keyUID|keySource|keyRetry) == 0 {
		m.Dialect = Ref
	}
	return m, err
}

const (
	// maxKeys bounds the keys of all objects in a message, of which the decoder
	// remembers each one: 4 MiB of them would take it 80 MiB.
	maxKeys = 10_000
	// maxListed bounds the twins in dst, before anybody counts them.
	maxListed = 100_000
)

// decode reads data strictly and returns the known keys that it met.
func (m *Message) decode(data []byte) (seen int, mistake error) {
	// Base64 has no colons, and no text of a message has that many.
	if bytes.Count(data, []byte{':'}) > maxKeys {
		return 0, Refuse(Malformed, "more than %d keys", maxKeys)
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	if dec.PeekKind() != '{' {
		return 0, Refuse(Malformed, "not a JSON object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return 0, syntaxError(err)
	}
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return seen, syntaxError(err)
		}
		name := tok.String()
		value, err := dec.ReadValue()
		if err != nil {
			return seen, syntaxError(err)
		}
		key := keyOf(name)
		switch {
		case key != 0:
			seen |= key
			err = m.set(key, name, value)
		case looksKnown(name):
			err = Refuse(Malformed, "key %q differs from a key of the message in case only", name)
		default:
			m.keepExtra(name, value)
		}
		if mistake == nil {
			mistake = err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return seen, syntaxError(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return seen, Refuse(Malformed, "more than one JSON value")
	}
	return seen, mistake
}

func syntaxError(err error) *Refusal {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return Refuse(Malformed, "JSON ends too early")
	}
	return Refuse(Malformed, "%s", clip(strings.TrimPrefix(err.Error(), "jsontext: ")))
}

// salvage looks at the top level of an object that decode refused, without its
// strictness, for what an answer needs: `ret`, `ref` and the keys that tell the
// dialect.
func (m *Message) salvage(data []byte) (seen int) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return 0
	}
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return seen
		}
		key := keyOf(tok.String())
		value, err := dec.ReadValue()
		if err != nil {
			return seen
		}
		seen |= key
		switch {
		case key == keyReturnQueue && m.ReturnQueue == "":
			m.ReturnQueue, _ = text(value)
		case key == keyRef && m.Ref == "":
			m.Ref, _ = text(value)
		}
	}
	return seen
}

// set stores the value of one known key.
func (m *Message) set(key int, name string, value jsontext.Value) error {
	var ok bool
	switch key {
	case keyVersion:
		m.Version, ok = small(value)
	case keyUID:
		m.UID, ok = text(value)
	case keyCommand:
		m.Command, ok = text(value)
	case keyExpiration:
		m.Expiration, ok = integer(value)
	case keyRetry:
		m.Retry, ok = small(value)
		m.Retry = max(m.Retry, 0)
	case keyData:
		m.Data, ok = text(value)
	case keySource:
		m.Source, ok = twinID(value)
	case keyDestinations:
		m.Destinations, ok = twinIDs(value)
	case keyReturnQueue:
		m.ReturnQueue, ok = text(value)
	case keySchema:
		m.Schema, ok = text(value)
	case keyNow:
		m.Now, ok = integer(value)
	case keyProxied:
		k := value.Kind()
		m.Proxied, ok = k == 't', k == 't' || k == 'f' || k == 'n'
	case keyError:
		m.Error, ok = errorText(value)
	case keySignature:
		m.Signature, ok = text(value)
	case keyEpoch:
		m.Epoch, ok = text(value)
	case keyRef:
		m.Ref, ok = text(value)
	case keyNote:
		m.Note, ok = bytes.Clone(value), true
	case keyConnection:
		ok = true // a session inside the source twin, of no use to this relay
	}
	if !ok {
		return Refuse(Malformed, "field %s has a value of the wrong type or out of range", name)
	}
	return nil
}

func (m *Message) keepExtra(name string, value jsontext.Value) {
	m.extra = append(m.extra, ',')
	m.extra, _ = jsontext.AppendQuote(m.extra, name)
	m.extra = append(m.extra, ':')
	m.extra = append(m.extra, value...)
}

// text reads a string, or null as "".
func text(v jsontext.Value) (string, bool) {
	switch v.Kind() {
	case 'n':
		return "", true
	case '"':
		if bytes.IndexByte(v, '\\') < 0 {
			return string(v[1 : len(v)-1]), true
		}
		b, err := jsontext.AppendUnquote(nil, v)
		return string(b), err == nil
	}
	return "", false
}

// integer reads a number, a number written as text, or null as 0. Fractions
// are cut off and what no int64 holds becomes the nearest one: `now` and `exp`
// come from clocks that are not ours.
func integer(v jsontext.Value) (int64, bool) {
	s := string(v)
	switch v.Kind() {
	case 'n':
		return 0, true
	case '"':
		var ok bool
		if s, ok = text(v); !ok {
			return 0, false
		}
		if s == "" {
			return 0, true
		}
		if strings.Trim(s, "+-.0123456789Ee") != "" {
			return 0, false // strconv would take Inf, NaN and hexadecimal too
		}
	case '0':
	default:
		return 0, false
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return 0, false
	case f >= math.MaxInt64:
		return math.MaxInt64, true
	case f <= math.MinInt64:
		return math.MinInt64, true
	}
	return int64(f), true
}

// small reads an integer that fits 32 bits, cutting it to them.
func small(v jsontext.Value) (int, bool) {
	n, ok := integer(v)
	return int(min(max(n, math.MinInt32), math.MaxInt32)), ok
}

// twinID reads a twin id: a number, or text of the form "n" or "n:session".
func twinID(v jsontext.Value) (uint32, bool) {
	s := string(v)
	switch v.Kind() {
	case 'n':
		return 0, true
	case '"':
		var ok bool
		if s, ok = text(v); !ok {
			return 0, false
		}
		if s == "" {
			return 0, true
		}
		s, _, _ = strings.Cut(s, ":")
	case '0':
	default:
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// twinIDs reads a list of twin ids, or one on its own.
func twinIDs(v jsontext.Value) ([]uint32, bool) {
	if v.Kind() == 'n' {
		return nil, true
	}
	if v.Kind() != '[' {
		id, ok := twinID(v)
		if id == 0 {
			return nil, ok
		}
		return []uint32{id}, ok
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(v))
	if _, err := dec.ReadToken(); err != nil {
		return nil, false
	}
	var ids []uint32
	for dec.PeekKind() != ']' {
		item, err := dec.ReadValue()
		if err != nil || item.Kind() == 'n' {
			return nil, false
		}
		id, ok := twinID(item)
		if !ok || id == 0 || len(ids) == maxListed {
			return nil, false
		}
		ids = append(ids, id)
	}
	return ids, true
}

// errorText reads the error of either dialect. An object without a message
// still is an error, so its own text stands in.
func errorText(v jsontext.Value) (string, bool) {
	if v.Kind() != '{' {
		return text(v)
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(v))
	if _, err := dec.ReadToken(); err != nil {
		return "", false
	}
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return "", false
		}
		name := tok.String()
		value, err := dec.ReadValue()
		if err != nil {
			return "", false
		}
		if name == "message" {
			if s, ok := text(value); ok && s != "" {
				return s, true
			}
		}
	}
	return string(v), true
}
