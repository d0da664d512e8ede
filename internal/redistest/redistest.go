// Package redistest gives tests a Redis of their own: a real redis-server
// process with [Start], or one inside the test binary with [Embedded].
//
// Prefer the real one. The embedded one is for showing that code also runs on
// what the demo uses: it has no INFO, no persistence, and TTLs pass only when
// FastForward is called.
package redistest

import (
	"net/url"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// EmbeddedServer is a miniredis on a TCP port of 127.0.0.1.
type EmbeddedServer struct {
	*miniredis.Miniredis
	t testing.TB
}

// Embedded starts a miniredis that ends with the test.
func Embedded(t testing.TB) *EmbeddedServer {
	t.Helper()
	return &EmbeddedServer{Miniredis: miniredis.RunT(t), t: t}
}

// URL is the server's redis:// URL.
func (s *EmbeddedServer) URL() string { return redisURL(s.Addr(), "") }

// Client is a new client, closed at the end of the test.
func (s *EmbeddedServer) Client() *redis.Client { return newClient(s.t, s.Addr(), "") }

func redisURL(addr, password string) string {
	u := url.URL{Scheme: "redis", Host: addr}
	if password != "" {
		u.User = url.UserPassword("", password)
	}
	return u.String()
}

// newClient sets what the product sets too: retries would hide in a test
// what it wants to see, and a context must be able to end a call.
func newClient(t testing.TB, addr, password string) *redis.Client {
	c := redis.NewClient(clientOptions(addr, password))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func clientOptions(addr, password string) *redis.Options {
	return &redis.Options{
		Addr:                  addr,
		Password:              password,
		MaxRetries:            -1,
		ContextTimeoutEnabled: true,
	}
}
