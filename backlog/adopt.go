package backlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/msgbusd/msgbusd/msgbus"
)

const scanStep = 256

var errUnanswerable = errors.New("not an entry that can be answered")

// Adopt takes over what the archived daemon left: its backlog entries get a
// deadline, its retries are queued anew. It returns how many it found. Where
// every entry has a deadline there is nothing to adopt, and nothing is read.
func (s *Store) Adopt(ctx context.Context) (int, error) {
	retries, err := s.adoptRetries(ctx)
	if err != nil {
		return retries, err
	}
	pipe := s.rdb.Pipeline()
	have, dated := pipe.HLen(ctx, s.keys.backlog()), pipe.ZCard(ctx, s.keys.deadlines())
	if _, err := pipe.Exec(ctx); err != nil {
		return retries, fmt.Errorf("count the backlog: %w", translate(err))
	}
	if have.Val() <= dated.Val() {
		return retries, nil
	}
	adopted := retries
	var cursor uint64
	for {
		pairs, next, err := s.rdb.HScan(ctx, s.keys.backlog(), cursor, "", scanStep).Result()
		if err != nil {
			return adopted, fmt.Errorf("scan the backlog: %w", translate(err))
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			n, err := s.adoptEntry(ctx, pairs[i], pairs[i+1])
			if err != nil {
				return adopted, err
			}
			adopted += n
		}
		if cursor = next; cursor == 0 {
			return adopted, nil
		}
	}
}

func (s *Store) adoptEntry(ctx context.Context, uid, raw string) (int, error) {
	m, err := msgbus.Decode(raw)
	dst, _, ok := msgbus.ParseUID(uid)
	if m.Note != nil {
		return 0, nil
	}
	if err != nil || !ok || m.ReturnQueue == "" {
		// Nobody can be answered: as much as the archived daemon would do with it.
		return 0, s.discardEntry(ctx, uid, raw, errUnanswerable)
	}
	m.Dialect = msgbus.Classic
	kind, life := lifeOf(m)
	n, err := s.run(ctx, s.scripts.adopt, []string{s.keys.backlog(), s.keys.deadlines(), s.keys.stats()},
		uid, raw, m.Now, kind, life, s.opts.MaxLife.Milliseconds(), id(s.opts.Twin), id(dst), m.AppendEntryTail(nil)).Int()
	if err != nil {
		return 0, fmt.Errorf("adopt backlog entry %s: %w", uid, err)
	}
	return n, nil
}

// adoptRetries queues the archived daemon's retries like new requests: it took
// them off its backlog before it noted them.
func (s *Store) adoptRetries(ctx context.Context) (int, error) {
	adopted := 0
	for {
		pairs, _, err := s.rdb.HScan(ctx, s.keys.archivedRetry(), 0, "", scanStep).Result()
		if err != nil {
			return adopted, fmt.Errorf("scan the archived daemon's retries: %w", translate(err))
		}
		if len(pairs) == 0 {
			return adopted, nil
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			n, err := s.run(ctx, s.scripts.adoptRetry, []string{s.keys.archivedRetry(), s.keys.queue(msgbus.LocalQueue)}, pairs[i]).Int()
			if err != nil {
				return adopted, fmt.Errorf("adopt a retry: %w", err)
			}
			adopted += n
		}
	}
}
