package msgbus

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// The values of a message's keys, which published programs write in more ways
// than one. Each function tells whether the value is of a kind that it reads.

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

// numeral returns the text of a number, or text that should be one; null and ""
// are "0".
func numeral(v jsontext.Value) (string, bool) {
	if v.Kind() == '0' {
		return string(v), true
	}
	s, ok := text(v)
	if s == "" {
		s = "0"
	}
	return s, ok
}

// integer reads a number, a number written as text, or null as 0. Fractions
// are cut off and what no int64 holds becomes the nearest one: `now` and `exp`
// come from clocks that are not ours.
func integer(v jsontext.Value) (int64, bool) {
	s, ok := numeral(v)
	if !ok || strings.Trim(s, "+-.0123456789Ee") != "" {
		return 0, false // strconv would take Inf, NaN and hexadecimal too
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
	s, ok := numeral(v)
	if !ok {
		return 0, false
	}
	s, _, _ = strings.Cut(s, ":")
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
	message := string(v)
	err := members(jsontext.NewDecoder(bytes.NewBuffer(v)), func(name string, value jsontext.Value) {
		if s, ok := text(value); ok && s != "" && name == "message" {
			message = s
		}
	})
	return message, err == nil
}
