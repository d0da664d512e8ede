package backlog

import (
	"context"

	"github.com/msgbusd/msgbusd/internal/redisacl"
)

// Rights finds out what the user that this Store is connected as is not allowed in Redis.
func (s *Store) Rights(ctx context.Context) (redisacl.Rights, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return redisacl.Examine(ctx, s.rdb, s.opts.Prefix)
}
