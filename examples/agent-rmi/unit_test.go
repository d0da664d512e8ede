package main

import (
	"encoding/json"
	"testing"
	"time"
)

// Criteria select what was not meant, and it is cancelled.
func TestCriteriaSelectByData(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		criteria string
		selected []string
		others   []string
	}{
		{`{"eq":"a"}`, []string{`"a"`}, []string{`"b"`, `["a"]`, `null`, ``}},
		{`{"eq":{"a":1,"b":[2]}}`, []string{`{"b":[2],"a":1}`}, []string{`{"a":1}`, `{"a":1,"b":[2],"c":3}`}},
		{`{"eq":9007199254740993}`, []string{`9007199254740993`}, []string{`9007199254740992`}},
		{`{"in":["a",2]}`, []string{`"a"`, `2`}, []string{`"2"`, `["a",2]`}},
		{`{"match":"^group [0-9]$"}`, []string{`"group 1"`}, []string{`"group 10"`, `1`}},
		{`{"match":"\"job\":4"}`, []string{`{"job":4}`}, []string{`{"job":5}`}},
		{`{"and":[{"match":"a"},{"match":"b"}]}`, []string{`"ab"`}, []string{`"a"`, `"b"`}},
		{`{"or":[{"eq":1},{"and":[{"match":"a"},{"match":"b"}]}]}`, []string{`1`, `"ba"`}, []string{`"a"`, `2`}},
	} {
		var criteria Criteria
		if err := json.Unmarshal([]byte(c.criteria), &criteria); err != nil {
			t.Fatal(err)
		}
		if err := criteria.Check(); err != nil {
			t.Errorf("%s: %v", c.criteria, err)
		}
		for _, data := range c.selected {
			if !criteria.Selects(json.RawMessage(data)) {
				t.Errorf("%s does not select %s", c.criteria, data)
			}
		}
		for _, data := range c.others {
			if criteria.Selects(json.RawMessage(data)) {
				t.Errorf("%s selects %q", c.criteria, data)
			}
		}
	}
	for _, wrong := range []string{`{}`, `{"eq":1,"match":"x"}`, `{"match":"("}`, `{"or":[{}]}`, `{"and":[{"eq":1},{"match":"["}]}`} {
		var criteria Criteria
		if err := json.Unmarshal([]byte(wrong), &criteria); err != nil {
			t.Fatal(err)
		}
		if criteria.Check() == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}

// A request that should have lived a day lives a second.
func TestTimesToLiveAreReadAsTheOriginalWritesThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"90": 90 * time.Second, "90s": 90 * time.Second, "10m": 10 * time.Minute, "3h": 3 * time.Hour, "2d": 48 * time.Hour,
		"": 0, "0s": 0, "-1s": 0, "1w": 0, "s": 0, "1.5h": 0, "8d": 0, "99999999999h": 0,
	} {
		got, err := ParseTTL(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is read as %v, %v, want %v", text, got, err, want)
		}
	}
}
