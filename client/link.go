package client

import (
	"context"
	"crypto/sha1" // what Redis has in scripts; nobody has a reason to forge it
	"encoding/hex"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// A link is how requests leave a client and answers come to it: Redis, or what a [Fake]
// has in its place. One goroutine pulls and settles at a time.
type link interface {
	// push hands over requests: all of them, or, with an error, none. Of a connection
	// that broke meanwhile it is not known which.
	push(ctx context.Context, requests []string) error
	// pull waits a moment for something to come: answers and interim replies, in their
	// order. It hands out again what the pull before has handed out when that one ended in
	// an error.
	pull() (replies []string, err error)
	// settle forgets what the latest pull has handed out.
	settle()
	// stopReading ends a pull that waits.
	stopReading() error
	close() error
}

// pullBlock is how long a pull waits.
const pullBlock = 2 * time.Second

// Bounds of one pull.
const (
	maxPulled      = 256
	maxPulledBytes = 8 << 20 // above which the next pull takes less
)

// A redisLink is a link through Redis.
//
// BLPOP would hand an answer to a connection that breaks at that moment, and it would be
// gone. So answers are read first and removed afterwards: BLMOVE from the end of the
// list to the same end waits until there is something and changes nothing.
type redisLink struct {
	rdb, reader *redis.Client
	local, list string // keys
	read        int    // how many replies at the head of the list have been handed out
	last        string // SHA-1 of the last of them
	most        int    // how many the next pull takes
}

func (l *redisLink) push(ctx context.Context, requests []string) error {
	values := make([]any, len(requests))
	for i, r := range requests {
		values[i] = r
	}
	return l.rdb.RPush(ctx, l.local, values...).Err()
}

func (l *redisLink) pull() ([]string, error) {
	ctx := context.Background()
	l.most = min(max(l.most, 1), maxPulled)
	var waited *redis.Cmd
	var came *redis.StringSliceCmd
	_, _ = l.reader.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its error
		l.trim(ctx, p)
		waited = p.Do(ctx, "blmove", l.list, l.list, "right", "right", pullBlock.Seconds())
		came = p.LRange(ctx, l.list, 0, int64(l.most)-1)
		return nil
	})
	l.read = 0
	if err := waited.Err(); err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	replies, err := came.Result()
	if err != nil {
		return nil, err
	}
	if l.read = len(replies); l.read > 0 {
		sum := sha1.Sum([]byte(replies[l.read-1]))
		l.last = hex.EncodeToString(sum[:])
	}
	l.adapt(replies)
	return replies, nil
}

// adapt keeps a pull of large replies small.
func (l *redisLink) adapt(replies []string) {
	size := 0
	for _, r := range replies {
		size += len(r)
	}
	if size > maxPulledBytes {
		l.most = len(replies) / 2
	} else {
		l.most = maxPulled
	}
}

// trimRead removes what has been read, if that is what the list begins with: after a
// fail-over it may begin with less, and with what has come since. KEYS 1 the list; ARGV 1
// how many, 2 the SHA-1 of the last of them.
const trimRead = `local last = redis.call('LINDEX', KEYS[1], ARGV[1] - 1)
if last and redis.sha1hex(last) == ARGV[2] then
  redis.call('LTRIM', KEYS[1], ARGV[1], -1)
end`

func (l *redisLink) trim(ctx context.Context, on redis.Cmdable) {
	if l.read > 0 {
		on.Eval(ctx, trimRead, []string{l.list}, l.read, l.last)
	}
}

func (l *redisLink) settle() {
	l.trim(context.Background(), l.reader)
	l.read = 0
}

func (l *redisLink) stopReading() error { return l.reader.Close() }

func (l *redisLink) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	// If Redis is away, they go by themselves.
	_ = l.rdb.Del(ctx, l.list).Err()
	return l.rdb.Close()
}
