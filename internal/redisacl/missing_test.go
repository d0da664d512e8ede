package redisacl_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/redisacl"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// An operator has forgotten a right, and the relay fails at it some day: doctor must find
// each one, and must not name any that is there.
func TestEachRightThatIsMissingIsFound(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	missing := func(user string) redisacl.Rights {
		t.Helper()
		rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: user, Password: "secret", Protocol: 2, DisableIdentity: true})
		defer rdb.Close()
		r, err := redisacl.Examine(t.Context(), rdb, "msgbus", roles...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	make := func(without ...any) {
		t.Helper()
		do(t, admin, strings.Replace(redisacl.Line(redisacl.Relay, "relay", "msgbus"), "PASSWORD", "secret", 1))
		do(t, admin, redisacl.GatewayLine("relay"))
		if err := admin.Do(t.Context(), append([]any{"acl", "setuser", "relay"}, without...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	make()
	if r := missing("relay"); len(r.Missing)+len(r.Optional) > 0 || r.Unknown != "" || r.User != "relay" {
		t.Errorf("with all rights: %+v", r)
	}
	var commands []redisacl.Command
	for _, role := range roles {
		commands = append(commands, redisacl.Commands(role)...)
	}
	for _, c := range commands {
		make("-" + c.Name)
		r := missing("relay")
		got := r.Missing
		if c.Optional {
			got = slices.Compact(r.Optional)
		}
		if c.Name == "multi" {
			if r.Unknown == "" || !slices.Contains(got, "+multi") {
				t.Errorf("without MULTI: %+v", r)
			}
		} else if fmt.Sprint(got) != "[+"+c.Name+"]" || r.Unknown != "" {
			t.Errorf("without %s: %+v", c.Name, r)
		}
	}
	make("resetkeys", "~msgbus.*")
	if r := missing("relay"); fmt.Sprint(r.Missing) != "[~*]" {
		t.Errorf("without the keys of apps: %+v", r)
	}
	make("resetchannels")
	if r := missing("relay"); fmt.Sprint(r.Missing) != "[&msgbus.events.*]" {
		t.Errorf("without channels: %+v", r)
	}

	// What it says to paste is what helps.
	make("-blmove", "-pubsub", "resetchannels")
	r := missing("relay")
	do(t, admin, strings.ReplaceAll(strings.TrimPrefix(r.Grant(), "redis-cli "), "'", ""))
	if again := missing("relay"); len(again.Missing) > 0 {
		t.Errorf("after %s: %+v", r.Grant(), again)
	}
	if keys := admin.Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("it has written %v", keys)
	}
}

// The demo's own Redis, which has no users, must not be told to lack anything.
func TestARedisWithoutUsersAllowsAll(t *testing.T) {
	r, err := redisacl.Examine(t.Context(), redistest.Embedded(t).Client(), "msgbus", roles...)
	if err != nil || len(r.Missing) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// do runs a command as it stands in a document.
func do(t *testing.T, rdb *redis.Client, line string) {
	t.Helper()
	var args []any
	for _, w := range strings.Fields(line) {
		args = append(args, w)
	}
	if err := rdb.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
}
