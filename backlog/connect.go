package backlog

import (
	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/redisconn"
)

const callTimeout = redisconn.CallTimeout

// ParseURL reads where Redis is: `host:port`, `redis://user:password@host:port/db`,
// `rediss://…` for TLS, `unix:///path?db=0` or the path of a socket. Errors do
// not repeat the URL, which may hold a password.
func ParseURL(url string) (*redis.Options, error) { return redisconn.ParseURL(url) }

// Connect returns a client whose errors do not repeat the password.
func Connect(opts *redis.Options) *redis.Client { return redisconn.Connect(opts) }
