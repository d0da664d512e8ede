package backlog

import (
	"context"
	"fmt"

	"github.com/msgbusd/msgbusd/msgbus"
)

// interimMost is how many messages a list has for another interim reply to be pushed to
// it: an app that does not read is not worth more of Redis's memory.
const interimMost = 1000

// PushInterim pushes interim replies to the lists that their requests name. The outcomes
// are msgbus.Sent, TooLate, QueueIsFull or QueueWrongType; only what was sent is
// anywhere then.
func (s *Store) PushInterim(ctx context.Context, replies []msgbus.Interim) ([]msgbus.Outcome, error) {
	lists := newNumbering[string]()
	args := []any{int(msgbus.ReplyQueueTTL.Seconds()), interimMost}
	for _, r := range replies {
		m := r.Entry.Message
		args = append(args, m.UID, r.Entry.Head, lists.of(m.Ext.Progress), r.Body)
	}
	keys := append([]string{s.keys.backlog()}, lists.names...)
	result, err := s.run(ctx, s.scripts.interim, keys, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("push %d interim replies: %w", len(replies), err)
	}
	return outcomes(result), nil
}
