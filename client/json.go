package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// eachMember visits the members of one JSON object. A value is only good until visit
// returns.
func eachMember(raw []byte, visit func(name string, v jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if dec.PeekKind() != '{' {
		return errors.New("it is no JSON object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return err
		}
		key := name.String() // before the next read
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := visit(key, value); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("it is more than one JSON value")
	}
	return nil
}

func named(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

var errType = errors.New("it has a value of the wrong type or out of range")

// text reads a string, or null as "".
func text(v jsontext.Value) (string, error) {
	switch v.Kind() {
	case 'n':
		return "", nil
	case '"':
		b, err := jsontext.AppendUnquote(nil, v)
		return string(b), err
	}
	return "", errType
}

// numeral reads a number, or text that should be one; null and "" are 0.
func numeral(v jsontext.Value) (string, error) {
	if v.Kind() == '0' {
		return string(v), nil
	}
	s, err := text(v)
	if s == "" {
		s = "0"
	}
	return s, err
}

// integer reads a number. Fractions are cut off.
func integer(v jsontext.Value) (int64, error) {
	s, err := numeral(v)
	if err != nil {
		return 0, err
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > -1<<63 && f < 1<<63) {
		return 0, errType
	}
	return int64(f), nil
}

// twinID reads a twin: a number, or text of the form "n" or "n:session".
func twinID(v jsontext.Value) (uint32, error) {
	s, err := numeral(v)
	if err != nil {
		return 0, err
	}
	s, _, _ = strings.Cut(s, ":")
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, errType
	}
	return uint32(n), nil
}

func truth(v jsontext.Value) (bool, error) {
	switch v.Kind() {
	case 't':
		return true, nil
	case 'f', 'n':
		return false, nil
	}
	return false, errType
}

// twinIDs reads a list of twins, or one on its own.
func twinIDs(v jsontext.Value) ([]uint32, error) {
	if v.Kind() != '[' {
		id, err := twinID(v)
		if id == 0 {
			return nil, err
		}
		return []uint32{id}, err
	}
	dec := jsontext.NewDecoder(bytes.NewReader(v))
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	var ids []uint32
	for dec.PeekKind() != ']' {
		item, err := dec.ReadValue()
		if err != nil {
			return nil, err
		}
		id, err := twinID(item)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
