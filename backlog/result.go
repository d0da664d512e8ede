package backlog

import (
	"context"
	"fmt"
	"strconv"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Results returns the messages in a queue that Proxy made, oldest first, and
// the twin that asked. Reading does not remove them. It returns
// msgbus.ErrNotFound for any other queue.
func (s *Store) Results(ctx context.Context, queue string) (source uint32, messages []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	mark, err := s.rdb.Get(ctx, s.keys.result(queue)).Result()
	if isNil(err) {
		return 0, nil, msgbus.ErrNotFound
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read the mark of a result: %w", translate(err))
	}
	twin, err := strconv.ParseUint(mark, 10, 32)
	if err != nil {
		return 0, nil, fmt.Errorf("read the mark of a result: unexpected twin %q", mark)
	}
	const most = 16 // a service answers once; more is a service gone wrong
	messages, err = s.rdb.LRange(ctx, queue, 0, most-1).Result()
	if err != nil {
		return 0, nil, fmt.Errorf("read a result: %w", translate(err))
	}
	return uint32(twin), messages, nil
}
