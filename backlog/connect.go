package backlog

import (
	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/redisconn"
)

const callTimeout = redisconn.CallTimeout

// An Address says where Redis is.
type Address = redisconn.Address

// ParseURL reads where Redis is: `host:port`, `redis://user:password@host:port/db`,
// `rediss://…` for TLS, `unix:///path?db=0`, the path of a socket, or
// `sentinel://host:port,host:port/name?db=0`. Errors do not repeat the URL, which may
// hold a password.
func ParseURL(url string) (*Address, error) { return redisconn.ParseURL(url) }

// At is the address of one server.
func At(opts redis.Options) *Address { return redisconn.At(opts) }
