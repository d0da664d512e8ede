// Package redisacl says what msgbusd, and apps and services of its libraries, have to be
// allowed in Redis, and finds out what a user is not.
package redisacl

import (
	"slices"
	"strings"
)

// A Role is who has a user of its own in Redis.
type Role int

const (
	Relay    Role = iota // msgbusd
	Operator             // what its commands for operators need beyond that
	Library              // an app or a service with the client library
	App                  // one that knows nothing but RPUSH and BLPOP
)

// A Command is one of Redis's that a role sends.
type Command struct {
	Name     string   // as ACL SETUSER takes it: "xgroup|create"
	Options  []string // that are in use, in capitals
	Optional bool     // it does without

	example []string
}

// Commands returns what a role sends.
func Commands(role Role) []Command {
	text := [...]string{Relay: relay, Operator: operator, Library: library, App: app}[role]
	var all []Command
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		optional := words[0] == "?"
		if optional {
			words = words[1:]
		}
		c := Command{Name: strings.ToLower(words[0]), Optional: optional, example: append(strings.Split(words[0], "|"), words[1:]...)}
		for _, w := range words[1:] {
			if IsOption(w) {
				c.Options = append(c.Options, w)
			}
		}
		all = append(all, c)
	}
	return all
}

// IsOption tells an option's word from a value.
func IsOption(word string) bool {
	return word != "" && strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// Line is the command that makes a user, with the keys that are his beyond those that
// the role needs in any case.
func Line(role Role, user, prefix string, keys ...string) string {
	words := []string{"ACL SETUSER", user, "reset on >PASSWORD"}
	for _, k := range append(keysOf(role, prefix), keys...) {
		words = append(words, "~"+k)
	}
	words = append(words, "resetchannels")
	if role != App {
		words = append(words, "&"+channels(prefix))
	}
	return strings.Join(append(words, allow(role)...), " ")
}

// GatewayLine is the command that gives the user of a relay what its gateway for browsers
// needs, too.
func GatewayLine(user string) string {
	has := allow(Relay)
	more := slices.DeleteFunc(allow(Library), func(w string) bool { return slices.Contains(has, w) })
	return "ACL SETUSER " + user + " " + strings.Join(more, " ")
}

// allow is what gives a user the commands of a role.
func allow(role Role) []string {
	all := Commands(role)
	if role == Relay {
		all = append(all, Commands(Operator)...)
	}
	var words []string
	for _, c := range all {
		words = append(words, "+"+c.Name)
	}
	slices.Sort(words)
	return slices.Compact(words)
}

func channels(prefix string) string { return prefix + ".events.*" }

// keysOf are those that a role touches, whatever it is for.
func keysOf(role Role, prefix string) []string {
	system := func(names ...string) []string {
		for i, n := range names {
			names[i] = prefix + ".system." + n
		}
		return names
	}
	switch role {
	case Relay, Operator:
		return []string{"*"} // an answer goes to a list that the app names
	case Library:
		// The client's answers come to a list that is named by a random UUID.
		return append(system("local", "reply", "consumers", "consumer.*", "taken.*", "subscriptions", "presence", "presence.*", "retained", "stream.*"),
			"????????-????-4???-????-????????????")
	}
	return nil
}
