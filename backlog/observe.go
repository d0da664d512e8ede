package backlog

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// An Observer is told how Redis fares, and what ends here by itself. Its methods are
// called from many goroutines: they must be quick and wait for nothing.
type Observer interface {
	// RedisAnswered is told how long an exchange with Redis took, with the waiting for
	// a connection. The command is the name of a script, or of a command of Redis, or of
	// several that went together: `settle+fetch`. There are a few dozen of them.
	RedisAnswered(command string, took time.Duration)
	// RedisFailed is told of an exchange that failed, and in which of the five ways below.
	RedisFailed(kind string)
	// ClaimsExpired is told of messages that went back to their queues because the
	// session that claimed them has ended.
	ClaimsExpired(messages int)
	// RequestsReturned is told of requests that went back to their queues because the
	// services that had taken them have ended.
	RequestsReturned(n int)
	// MessagesFinished is told of requests of other twins that no service has answered
	// in time, and of entries that nobody can read.
	MessagesFinished(kind msgbus.Kind, how msgbus.Ending, why msgbus.Reason, n int)
}

// The ways in which an exchange with Redis fails.
const (
	FailedConnection = "connection" // none could be made, or it broke
	FailedTimeout    = "timeout"    // no answer in time, or no free connection
	FailedFull       = "full"       // Redis takes no more data (OOM, MISCONF)
	FailedUnready    = "unready"    // it loads its data, is busy with a script, or may not be written to
	FailedRefused    = "refused"    // any other error that Redis answers
)

// unobserved is the Observer of a Store of which nobody wants to know.
type unobserved struct{}

func (unobserved) RedisAnswered(string, time.Duration)                             {}
func (unobserved) RedisFailed(string)                                              {}
func (unobserved) ClaimsExpired(int)                                               {}
func (unobserved) RequestsReturned(int)                                            {}
func (unobserved) MessagesFinished(msgbus.Kind, msgbus.Ending, msgbus.Reason, int) {}

// watching tells an Observer of each exchange with Redis.
type watching struct {
	observer Observer
	names    map[string]string // of scripts, by their hash
	timed    bool              // else failures only
}

func (watching) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w watching) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		w.tell(ctx, w.name(cmd), time.Since(began), err)
		return err
	}
}

func (w watching) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		took := time.Since(began)
		for _, cmd := range cmds { // the first that failed, and not for a reason that the rules know
			if err = cmd.Err(); failureOf(err) != "" {
				break
			}
		}
		w.tell(ctx, w.together(cmds), took, err)
		return err
	}
}

func (w watching) tell(ctx context.Context, name string, took time.Duration, err error) {
	kind := failureOf(err)
	switch {
	case ctx.Err() == context.Canceled, errors.Is(err, redis.ErrClosed):
		return // this side did not wait for the answer
	case kind != "":
		w.observer.RedisFailed(kind)
	}
	if w.timed && kind != FailedTimeout && kind != FailedConnection {
		w.observer.RedisAnswered(name, took)
	}
}

// name is what an Observer knows a command by.
func (w watching) name(cmd redis.Cmder) string {
	name, args := cmd.Name(), cmd.Args()
	if len(args) < 2 {
		return name
	}
	what, _ := args[1].(string)
	switch name {
	case "evalsha":
		return w.script(what, name)
	case "eval": // once, when Redis does not know the script
		return w.script(redis.NewScript(what).Hash(), name)
	}
	return name
}

func (w watching) script(hash, otherwise string) string {
	if name, ours := w.names[hash]; ours {
		return name
	}
	return otherwise
}

// together is what an Observer knows a pipeline by. Of commands of one kind there may
// be many in it.
func (w watching) together(cmds []redis.Cmder) string {
	var names []string
	for _, cmd := range cmds {
		if name := w.name(cmd); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

// failureOf says how an exchange with Redis failed, or "" when it did not: what a script
// tells the rules by an error is no failure of Redis.
func failureOf(err error) string {
	if err == nil || isNil(err) || isNoScript(err) {
		return ""
	}
	var answered redis.Error
	var slow net.Error
	switch isAnswer := errors.As(err, &answered); {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout), errors.As(err, &slow) && slow.Timeout():
		return FailedTimeout
	case !isAnswer:
		return FailedConnection
	}
	switch translated := translate(err); {
	case errors.Is(translated, msgbus.ErrStorageFull):
		return FailedFull
	case !errors.Is(translated, err): // one of the rules'
		return ""
	}
	if unready(err) {
		return FailedUnready
	}
	return FailedRefused
}

// unready tells whether an answer of Redis says that it does not serve, or not as a
// master. A script's error is wrapped by servers before 7.0: `ERR Error running script
// (…): @user_script: 5: -READONLY You can't write…`.
func unready(err error) bool {
	text := err.Error()
	if strings.HasPrefix(text, "ERR Error running script") {
		_, text, _ = strings.Cut(text, " -")
	}
	for _, word := range [...]string{"LOADING", "BUSY ", "READONLY", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED", "TRYAGAIN", "CLUSTERDOWN"} {
		if strings.HasPrefix(text, word) {
			return true
		}
	}
	return false
}
