package redisacl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// Rights are what the user of a connection may not, of what he needs.
type Rights struct {
	User     string   `json:"user"`
	Missing  []string `json:"missing"`  // words that ACL SETUSER would have to be given: +blmove, ~*, &msgbus.events.*
	Optional []string `json:"optional"` // the same of what is done without
	Unknown  string   `json:"unknown"`  // why the rest cannot be told, or ""
}

// Grant is the command that gives what is missing.
func (r Rights) Grant() string {
	words := make([]string, len(r.Missing))
	for i, w := range r.Missing {
		words[i] = "'" + w + "'"
	}
	return "redis-cli ACL SETUSER " + r.User + " " + strings.Join(words, " ")
}

// Examine finds out what the user of a client is not allowed, of what some roles need.
//
// It asks in a MULTI that it discards: Redis looks at the rights of what it is to keep for
// later, and refuses at once what the user may not. That runs nothing, needs no right to see
// an ACL, and is so since there are ACLs. ACL DRYRUN is of 7.0 and for administrators.
func Examine(ctx context.Context, rdb *redis.Client, prefix string, roles ...Role) (Rights, error) {
	r := Rights{User: rdb.Options().Username, Missing: []string{}, Optional: []string{}}
	if r.User == "" {
		r.User = "default"
	}
	conn := rdb.Conn() // one connection: what is asked elsewhere would be done
	defer conn.Close()
	switch err := conn.Do(ctx, "multi").Err(); {
	case isRefused(err):
		r.Missing, r.Unknown = []string{"+discard", "+multi"}, "without MULTI nothing more can be told"
		return r, nil
	case isAnswer(err):
		r.Unknown = err.Error()
		return r, nil
	case err != nil:
		return r, fmt.Errorf("ask what the user %s may: %w", r.User, err)
	}
	pipe := conn.Pipeline()
	var commands []Command
	for _, role := range roles {
		commands = append(commands, Commands(role)...)
	}
	said := make([]*redis.Cmd, len(commands))
	for i, c := range commands {
		switch c.Name {
		case "multi", "discard", "exec": // which are done and not kept
		default:
			said[i] = pipe.Do(ctx, c.call(prefix)...)
		}
	}
	anyKey := pipe.Do(ctx, "rpush", uuid.NewString(), "x")
	ended := pipe.Do(ctx, "discard")
	_, err := pipe.Exec(ctx)
	if err != nil && !isAnswer(err) {
		return r, fmt.Errorf("ask what the user %s may: %w", r.User, err)
	}
	for i, c := range commands {
		if said[i] != nil {
			r.add(c, said[i].Err(), prefix)
		}
	}
	if isRefused(anyKey.Err()) && !isOfCommand(anyKey.Err()) {
		r.Missing = append(r.Missing, "~*")
	}
	needsExec := slices.ContainsFunc(commands, func(c Command) bool { return c.Name == "exec" })
	switch {
	case isRefused(ended.Err()):
		r.Missing = append(r.Missing, "+discard")
	case ended.Err() == nil && needsExec && isRefused(conn.Do(ctx, "exec").Err()): // of nothing
		r.Missing = append(r.Missing, "+exec")
	}
	slices.Sort(r.Missing)
	r.Missing = slices.Compact(r.Missing)
	return r, nil
}

// call is an example of a command, on a key and a channel that nobody else uses.
func (c Command) call(prefix string) []any {
	args := make([]any, len(c.example))
	for i, w := range c.example {
		switch w {
		case "key":
			w = prefix + ".system.rights"
		case "channel":
			w = prefix + ".events.rights"
		}
		args[i] = w
	}
	return args
}

// add notes what Redis said of a command.
func (r *Rights) add(c Command, err error, prefix string) {
	switch {
	case !isRefused(err):
	case !isOfCommand(err) && strings.Contains(err.Error(), "channel"):
		r.Missing = append(r.Missing, "&"+channels(prefix))
	case !isOfCommand(err):
		r.Missing = append(r.Missing, "~*")
	case c.Optional:
		r.Optional = append(r.Optional, "+"+c.Name)
	default:
		r.Missing = append(r.Missing, "+"+c.Name)
	}
}

func isAnswer(err error) bool {
	var answered redis.Error
	return errors.As(err, &answered)
}

// isRefused tells that the user lacks a right. Of EXEC that stands behind another word.
func isRefused(err error) bool { return isAnswer(err) && strings.Contains(err.Error(), "NOPERM ") }

// isOfCommand tells the right to a command from that to a key or a channel.
func isOfCommand(err error) bool { return strings.Contains(err.Error(), "to run the") }
