package msgbus_test

import (
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A subscriber gets what is not his, or waits for what never comes.
func TestPatternsMatchByWords(t *testing.T) {
	for _, c := range []struct {
		pattern, topic string
		want           bool
	}{
		{"task.finished.17", "task.finished.17", true},
		{"task.finished.*", "task.finished.17", true},
		{"task.*.17", "task.finished.17", true},
		{"*", "task.finished", false},
		{"task.*", "task.finished.17", false},
		{"task.*", "task", false},
		{"#", "task.finished.17", true},
		{"task.#", "task", true},
		{"task.#", "task.finished.17", true},
		{"task.#", "tasks.finished", false},
		{"#.17", "17", true},
		{"#.17", "task.finished.17", true},
		{"#.17", "task.17.finished", false},
		{"a.#.b.#.c", "a.b.c", true},
		{"a.#.b.#.c", "a.x.b.y.b.z.c", true},
		{"a.#.b.#.c", "a.x.c.y.b", false},
		{"#.*", "a", true},
		{"#.*.*", "a", false},
		{"*.#", "a", true},
		{"#.#", "a.b", true},
		{"task/run.*", "task/run.17", true},
		{"task/run.*", "run.17", false},
		{"run.*", "task/run.17", false},
		{"*/run.*", "task/run.17", true},
		{"*/run.*", "run.17", true},
		{"default/run.*", "run.17", true},
		{"task/#", "task/run", true},
		{"task/#", "logging/run", false},
	} {
		if got := msgbus.MatchTopic(c.pattern, c.topic); got != c.want {
			t.Errorf("%s for %s: %v, want %v", c.pattern, c.topic, got, c.want)
		}
	}
}

// A pattern of a stranger must not cost more than its words times those of a topic.
func TestNoPatternTakesLong(t *testing.T) {
	pattern := strings.Repeat("#.a.", 63) + "b"
	topic := strings.Repeat("a.", 127) + "c"
	if msgbus.MatchTopic(pattern, topic) {
		t.Error("it matches")
	}
}

func TestTopicsAndPatternsAreWords(t *testing.T) {
	for topic, want := range map[string][2]bool{ // whether it is a topic, and a pattern
		"task.finished.17": {true, true}, "a": {true, true}, "user.a@b:c_d-e": {true, true}, "x/y": {true, true},
		"a.*": {false, true}, "#": {false, true}, "*/a.#": {false, true},
		"": {}, ".": {}, "a.": {}, ".a": {}, "a..b": {}, "a*": {}, "a.b*": {}, "/a": {}, "a/": {}, "a/b/c": {}, "#/a": {}, "a b": {}, "a\nb": {},
		"ä": {}, strings.Repeat("a", 257): {},
	} {
		if got := [2]bool{msgbus.ValidTopic(topic), msgbus.ValidPattern(topic)}; got != want {
			t.Errorf("%q: %v, want %v", topic, got, want)
		}
	}
}

// FuzzAPatternMatchesWhatAWordByWordReaderSays compares with the rule as it is written
// down, which takes for ever for some patterns.
func FuzzAPatternMatchesWhatAWordByWordReaderSays(f *testing.F) {
	f.Add("a.#.b", "a.c.b")
	f.Add("#.*.#", "a")
	f.Fuzz(func(t *testing.T, pattern, topic string) {
		if len(pattern) > 20 || !msgbus.ValidPattern(pattern) || !msgbus.ValidTopic(topic) || strings.Contains(pattern+topic, "/") {
			return
		}
		if got, want := msgbus.MatchTopic(pattern, topic), slowly(strings.Split(pattern, "."), strings.Split(topic, ".")); got != want {
			t.Errorf("%s for %s: %v, want %v", pattern, topic, got, want)
		}
	})
}

func slowly(pattern, words []string) bool {
	switch {
	case len(pattern) == 0:
		return len(words) == 0
	case pattern[0] == "#":
		return slowly(pattern[1:], words) || len(words) > 0 && slowly(pattern, words[1:])
	case len(words) == 0:
		return false
	}
	return (pattern[0] == "*" || pattern[0] == words[0]) && slowly(pattern[1:], words[1:])
}
