package redisacl_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/redisacl"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

var roles = []redisacl.Role{redisacl.Relay, redisacl.Operator, redisacl.Library, redisacl.App}

// A relay that was tried on the Redis of a developer fails on the 6.2 of an operator, at a
// command or an option that is not there yet.
func TestAllThatIsUsedIsInRedisSince62(t *testing.T) {
	rdb := redistest.Start(t).Client()
	for _, role := range roles {
		for _, c := range redisacl.Commands(role) {
			docs := docsOf(t, rdb, c.Name)
			if since := docs["since"]; !isIn62(since) {
				t.Errorf("%s is in Redis since %v", c.Name, since)
			}
			known := make(map[string]any)
			options(docs["arguments"], nil, known)
			for _, option := range c.Options {
				since, ok := known[option]
				if !ok {
					t.Errorf("%s knows no %s", c.Name, option)
				} else if since != nil && !isIn62(since) {
					t.Errorf("%s of %s is in Redis since %v", option, c.Name, since)
				}
			}
		}
	}
}

// The test above is one that cannot fail.
func TestWhatIsNewerThan62IsSeen(t *testing.T) {
	rdb := redistest.Start(t).Client()
	if docs := docsOf(t, rdb, "lmpop"); isIn62(docs["since"]) {
		t.Error("LMPOP is of 7.0")
	}
	known := make(map[string]any)
	options(docsOf(t, rdb, "expire")["arguments"], nil, known)
	if isIn62(known["GT"]) {
		t.Errorf("EXPIRE GT is of 7.0, not %v", known["GT"])
	}
}

// docsOf is what Redis's COMMAND DOCS tells of a command, or of a part of one.
func docsOf(t *testing.T, rdb *redis.Client, name string) map[any]any {
	t.Helper()
	all, err := rdb.Do(t.Context(), "command", "docs", name).Result()
	docs, ok := all.(map[any]any)[name].(map[any]any)
	if err != nil || !ok {
		t.Fatalf("COMMAND DOCS of %s: %v, %v", name, all, err)
	}
	return docs
}

// options finds the words of all options, each with since when it is there, or nil for
// since ever.
func options(arguments any, since any, into map[string]any) {
	list, _ := arguments.([]any)
	for _, a := range list {
		argument := a.(map[any]any)
		from := argument["since"]
		if from == nil {
			from = since
		}
		if token, ok := argument["token"].(string); ok {
			into[token] = from
		}
		options(argument["arguments"], from, into)
	}
}

func isIn62(since any) bool {
	text, _ := since.(string)
	major, rest, _ := strings.Cut(text, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return err == nil && err2 == nil && (a < 6 || a == 6 && b <= 2)
}

// Somebody looks for a command in the list and does not find it where it should be.
func TestTheListsAreInOrder(t *testing.T) {
	for _, role := range roles {
		var names []string
		for _, c := range redisacl.Commands(role) {
			names = append(names, c.Name)
		}
		if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Errorf("role %d: %v", role, names)
		}
	}
}
