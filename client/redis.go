package client

import (
	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/redisconn"
)

const callTimeout = redisconn.CallTimeout

// parseURL reads where Redis is.
func parseURL(url string) (*redis.Options, error) {
	opts, err := redisconn.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return redisconn.Tune(opts), nil
}

// connect leaves the options as they are, for other connections.
func connect(opts *redis.Options) *redis.Client {
	copied := *opts
	return redisconn.Connect(&copied)
}
