// Package load puts load on a relay as apps and services do - through Redis, with
// nothing else - and measures what they see.
package load

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// Apps is how apps and services use their Redis.
type Apps string

// Ordinary ones push and pop each message by a command of its own and wait for
// that, as published clients do. Batching ones push and pop as many messages at
// once as there are.
const (
	Ordinary Apps = "ordinary"
	Batching Apps = "batching"
)

const (
	// batchMost is how many messages batching apps push or pop at once.
	batchMost = 256
	// block is how long a pop waits in Redis: a context does not interrupt it.
	block = time.Second
	// lateMost is how long after its deadline a request has certainly ended.
	lateMost = 10 * time.Second
	// tries is how often a request may be sent again.
	tries = 3
)

// A Plan says what to ask, and how much of it.
type Plan struct {
	Prefix       string   // of the relay's keys
	Command      string   // whose service sends the data back
	Destinations []uint32 // are asked in turn
	Apps         Apps
	Outstanding  int           // most requests that wait for an answer at once, at least 1
	Size         int           // of the data, in bytes, at least LeastSize
	Rate         float64       // requests a second; 0 for as many as answers make room for
	Duration     time.Duration // of asking
	Life         time.Duration // of a request, in whole seconds, at least one
}

// Run asks for the plan's duration and waits for the answers, or until ctx ends.
// Each second it reports what happened since the last. It returns the errors of
// Redis; that of a service or a relay is part of the result.
func Run(ctx context.Context, rdb *redis.Client, p Plan, report func(Interval)) (*Result, error) {
	l := newLedger(p)
	run := runOrdinary
	if p.Apps == Batching {
		run = runBatching
	}
	ended, reported := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(reported)
		l.reportEachSecond(ended, report)
	}()
	err := run(ctx, rdb, l)
	close(ended)
	<-reported
	if err != nil {
		return nil, err
	}
	return l.result(), nil
}

// pop takes what a list has, up to `most` messages, and waits for the first of them
// for no longer than block.
func pop(ctx context.Context, rdb redis.Cmdable, list string, most int) ([]string, error) {
	if most == 1 {
		first, err := rdb.BLPop(ctx, block, list).Result()
		if err != nil {
			return nil, none(err)
		}
		return first[1:], nil
	}
	var first *redis.StringSliceCmd
	var others *redis.StringSliceCmd
	_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		first = pipe.BLPop(ctx, block, list)
		others = pipe.LPopCount(ctx, list, most-1)
		return nil
	})
	if none(err) != nil || none(others.Err()) != nil {
		return nil, errors.Join(none(err), none(others.Err()))
	}
	messages := append([]string(nil), others.Val()...)
	if len(first.Val()) == 2 {
		messages = append(first.Val()[1:], messages...)
	}
	return messages, nil
}

// none is nil for the answer of an empty list.
func none(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}
