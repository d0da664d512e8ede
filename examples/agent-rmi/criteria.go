package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
)

// Criteria select calls by their data. Exactly one member is set.
//
//	{"or":[{"eq":"group 2"},{"match":"^group 1[0-9]$"}]}
type Criteria struct {
	Eq    json.RawMessage   `json:"eq,omitempty"`    // the data is this JSON
	In    []json.RawMessage `json:"in,omitempty"`    // the data is one of these
	Match string            `json:"match,omitempty"` // a regular expression for the data: for the text that it is, or for its JSON
	And   []Criteria        `json:"and,omitempty"`   // all select it
	Or    []Criteria        `json:"or,omitempty"`    // one of them selects it
}

// Eq selects calls whose data is v.
func Eq(v any) Criteria { return Criteria{Eq: encoded(v)} }

// In selects calls whose data is one of these.
func In(values ...any) Criteria {
	var c Criteria
	for _, v := range values {
		c.In = append(c.In, encoded(v))
	}
	return c
}

// Match selects calls by a regular expression.
func Match(expression string) Criteria { return Criteria{Match: expression} }

// And selects what all of these select.
func And(all ...Criteria) Criteria { return Criteria{And: all} }

// Or selects what one of these selects.
func Or(any ...Criteria) Criteria { return Criteria{Or: any} }

// encoded is a value as JSON; one that is none equals no data, as text that says so.
func encoded(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		raw, _ = json.Marshal(err.Error())
	}
	return raw
}

// Check tells what is wrong with criteria.
func (c Criteria) Check() error {
	set := 0
	for _, is := range []bool{c.Eq != nil, len(c.In) > 0, c.Match != "", len(c.And) > 0, len(c.Or) > 0} {
		if is {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("criteria have one of eq, in, match, and, or; these have %d", set)
	}
	if _, err := regexp.Compile(c.Match); err != nil {
		return fmt.Errorf("match: %w", err)
	}
	for _, part := range slices.Concat(c.And, c.Or) {
		if err := part.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Selects tells whether criteria, which Check has passed, select a call with this data.
func (c Criteria) Selects(data json.RawMessage) bool {
	selects := func(part Criteria) bool { return part.Selects(data) }
	switch {
	case c.Eq != nil:
		return isEqual(c.Eq, data)
	case len(c.In) > 0:
		return slices.ContainsFunc(c.In, func(v json.RawMessage) bool { return isEqual(v, data) })
	case c.Match != "":
		matches, err := regexp.MatchString(c.Match, text(data))
		return err == nil && matches
	case len(c.And) > 0:
		return !slices.ContainsFunc(c.And, func(part Criteria) bool { return !part.Selects(data) })
	default:
		return slices.ContainsFunc(c.Or, selects)
	}
}

// isEqual compares JSON, whatever the order of members and the space between.
func isEqual(a, b json.RawMessage) bool {
	canonical := func(raw json.RawMessage) []byte {
		var v any
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if dec.Decode(&v) != nil {
			return nil
		}
		text, _ := json.Marshal(v)
		return text
	}
	x, y := canonical(a), canonical(b)
	return x != nil && bytes.Equal(x, y)
}

// text is a JSON text without its quotes, and other JSON as it is.
func text(data json.RawMessage) string {
	var s string
	if json.Unmarshal(data, &s) == nil {
		return s
	}
	return string(data)
}
