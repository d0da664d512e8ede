package msgbus

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// The keys that mean something, one bit each, so that Decode can tell which
// ones were there. `ext` is not among knownKeys: it gives no rights, and apps may have
// keys of their own that look like it.
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
	keyExt
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
	case "ext":
		return keyExt
	}
	return 0
}

var knownKeys = [...]string{"ver", "uid", "cmd", "exp", "try", "dat", "src", "dst", "ret", "shm",
	"now", "pxy", "err", "sig", "epoch", "ref", "con", "msgbusd"}

// looksKnown reports whether some reader of JSON would take name for one of the
// known keys: several published ones match in any case, with Unicode's folding,
// and those that are written in C or V end a name at its first NUL.
func looksKnown(name string) bool {
	name, _, _ = strings.Cut(name, "\x00")
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
func Decode[T ~string | ~[]byte](data T) (*Message, error) {
	m := &Message{}
	seen, ok := m.decodePlain(string(data))
	var err error
	if !ok {
		*m = Message{}
		if seen, err = m.decode([]byte(data)); err != nil {
			seen |= m.salvage([]byte(data))
		}
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
	err := members(dec, func(name string, value jsontext.Value) {
		key := keyOf(name)
		seen |= key
		var err error
		switch {
		case key == keyExt && value.Kind() != '{':
			m.foreignExt = bytes.Clone(value)
		case key != 0:
			err = m.set(key, name, value)
		case looksKnown(name):
			err = Refuse(Malformed, "key %q may be taken for another key of the message", clip(name))
		default:
			m.keepExtra(name, value)
			if name == "traceparent" {
				m.Trace = sampledTrace(value)
			}
		}
		if mistake == nil {
			mistake = err
		}
	})
	if err != nil {
		return seen, syntaxError(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return seen, Refuse(Malformed, "more than one JSON value")
	}
	return seen, mistake
}

// members reads the object that comes next and visits its members.
func members(dec *jsontext.Decoder, visit func(name string, value jsontext.Value)) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return err
		}
		name := tok.String()
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		visit(name, value)
	}
	_, err := dec.ReadToken()
	return err
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
	if dec.PeekKind() != '{' {
		return 0
	}
	// What stands before its syntax fails is all that there is.
	_ = members(dec, func(name string, value jsontext.Value) {
		key := keyOf(name)
		seen |= key
		switch {
		case key == keyReturnQueue && m.ReturnQueue == "":
			m.ReturnQueue, _ = text(value)
		case key == keyRef && m.Ref == "":
			m.Ref, _ = text(value)
		}
	})
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
		m.Proxied, ok = boolean(value)
	case keyError:
		m.Error, ok = errorText(value)
		if e, typed := typedError(value); typed && e != nil && m.TypedError == nil {
			m.TypedError = e
		}
	case keySignature:
		m.Signature, ok = text(value)
	case keyEpoch:
		m.Epoch, ok = text(value)
	case keyRef:
		m.Ref, ok = text(value)
	case keyNote:
		m.Note, ok = bytes.Clone(value), true
	case keyExt:
		ok = m.setExt(value)
	case keyConnection:
		ok = true // a session inside the source twin, of no use to this relay
	}
	if !ok {
		return Refuse(Malformed, "field %s has a value of the wrong type or out of range", name)
	}
	return nil
}

func (m *Message) keepExtra(name string, value jsontext.Value) {
	m.extra = appendMember(m.extra, name, value)
}
