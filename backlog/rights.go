package backlog

import (
	"context"

	"github.com/msgbusd/msgbusd/internal/redisacl"
)

// Rights finds out what the user that this Store is connected as is not allowed in Redis, of
// what a relay and the commands for operators need and, with the gateway, apps.
func (s *Store) Rights(ctx context.Context, gateway bool) (redisacl.Rights, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	roles := []redisacl.Role{redisacl.Relay, redisacl.Operator}
	if gateway {
		roles = append(roles, redisacl.Library)
	}
	return redisacl.Examine(ctx, s.rdb, s.opts.Prefix, roles...)
}
