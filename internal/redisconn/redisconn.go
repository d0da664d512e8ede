// Package redisconn says where Redis is and how it is spoken to, for the relay and for the
// client library: what one of them can reach, the other can.
package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// CallTimeout bounds every call of Redis that does not block by its nature.
const CallTimeout = 5 * time.Second

// An Address says where Redis is: one server, or the master of which sentinels tell.
type Address struct {
	// Options are those of each connection. Their Addr is for people when there are
	// sentinels.
	Options   redis.Options
	sentinels *sentinels // nil: Options say where the server is
}

// At is the address of one server.
func At(opts redis.Options) *Address { return &Address{Options: opts} }

// String is the address without user and password.
func (a *Address) String() string { return a.Options.Addr }

// Format prints nothing but where Redis is, whatever the verb.
func (a *Address) Format(f fmt.State, _ rune) { fmt.Fprint(f, a.String()) }

// ParseURL reads where Redis is: `host:port`, `redis://user:password@host:port/db`,
// `rediss://…` for TLS, `unix:///path?db=0`, the path of a socket, or
// `sentinel://host:port,host:port/name?db=0`. Errors do not repeat the URL, which may
// hold a password.
func ParseURL(url string) (*Address, error) {
	switch {
	case strings.HasPrefix(url, "/"):
		url = "unix://" + url
	case strings.HasPrefix(url, "tcp://"):
		url = "redis://" + strings.TrimPrefix(url, "tcp://")
	case strings.HasPrefix(url, sentinelScheme):
		return parseSentinelURL(url)
	case !strings.Contains(url, "://"):
		if _, _, err := net.SplitHostPort(url); err != nil {
			return nil, errors.New("the address of Redis is not host:port, redis://, rediss://, sentinel:// or a socket's path")
		}
		url = "redis://" + url
	}
	opts, err := redis.ParseURL(url)
	if err != nil {
		scheme, _, _ := strings.Cut(url, "://")
		return nil, fmt.Errorf("the address of Redis (%s://…) cannot be read: want host:port, redis://[user:password@]host:port/db, rediss://, unix:///path or sentinel://host:port,host:port/name", scheme)
	}
	if opts.TLSConfig != nil {
		opts.TLSConfig.MinVersion = tls.VersionTLS12
	}
	return At(*opts), nil
}

// Connect returns a client whose errors do not repeat the password: a server that
// does not know AUTH quotes what came with it. settings are what this client has
// otherwise than others.
func (a *Address) Connect(settings ...func(*redis.Options)) *redis.Client {
	opts := tune(a.Options)
	for _, set := range settings {
		set(&opts)
	}
	if a.sentinels != nil {
		opts.Dialer = a.sentinels.dial
		opts.OnConnect = onlyMaster
	}
	return connect(opts)
}

func connect(opts redis.Options) *redis.Client {
	rdb := redis.NewClient(&opts)
	rdb.AddHook(discreet{})
	return rdb
}

type discreet struct{}

func (discreet) DialHook(next redis.DialHook) redis.DialHook { return next }

func (discreet) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (discreet) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil || cmd.Name() != "auth" {
			return err
		}
		args := cmd.Args()
		if password := fmt.Sprint(args[len(args)-1]); strings.Contains(err.Error(), password) {
			return errors.New("it does not take the password, in words that repeat it")
		}
		return err
	}
}

// tune returns options with what every client needs. go-redis would by default
// run a command again when its answer was cut off, and outlive its context.
func tune(tuned redis.Options) redis.Options {
	tuned.MaxRetries = -1
	tuned.DialerRetries = 1
	tuned.ContextTimeoutEnabled = true
	tuned.DialTimeout = CallTimeout
	tuned.ReadTimeout = CallTimeout
	tuned.WriteTimeout = CallTimeout
	tuned.Protocol = 2
	tuned.DisableIdentity = true
	return tuned
}
