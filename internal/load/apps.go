package load

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// runOrdinary has as many apps as requests may wait: each has a connection and a
// return queue of its own, and asks again when it was answered.
func runOrdinary(ctx context.Context, rdb *redis.Client, l *ledger) error {
	var next atomic.Uint64
	group, ctx := errgroup.WithContext(ctx)
	asking, stop := l.asking(ctx)
	defer stop()
	for range l.plan.Outstanding {
		group.Go(func() error {
			f := newForm(l.plan)
			for {
				number := next.Add(1) - 1
				due := l.due(number)
				if !l.await(asking, due) {
					return hearRest(ctx, rdb, l, f.returnQueue())
				}
				l.ask(number, due)
				if err := askOne(ctx, rdb, l, f, number); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// askOne pushes one request and waits until it has certainly ended.
func askOne(ctx context.Context, rdb *redis.Client, l *ledger, f *form, number uint64) error {
	if err := rdb.RPush(ctx, local(l.plan), f.write(number)).Err(); err != nil {
		return redisError(ctx, "push a request", err)
	}
	// The answer to an earlier one, which was given up, may come first.
	for end := time.Now().Add(l.plan.Life + lateMost); l.isWaiting(number) && ctx.Err() == nil && time.Now().Before(end); {
		came, err := pop(ctx, rdb, f.returnQueue(), 1)
		if err != nil {
			return redisError(ctx, "pop an answer", err)
		}
		if _, err := l.hear(came); err != nil {
			return err
		}
	}
	return nil
}

// hearRest looks for answers that nothing waits for: repeats of the last ones.
func hearRest(ctx context.Context, rdb *redis.Client, l *ledger, returnQueue string) error {
	came, err := rdb.LPopCount(ctx, returnQueue, batchMost).Result()
	if none(err) != nil {
		return redisError(ctx, "look for more answers", err)
	}
	_, err = l.hear(came)
	return err
}

// runBatching has one app that pushes what is due and may be asked, and reads what
// has come.
func runBatching(ctx context.Context, rdb *redis.Client, l *ledger) error {
	f := newForm(l.plan)
	free := make(chan struct{}, l.plan.Outstanding)
	for range l.plan.Outstanding {
		free <- struct{}{}
	}
	asked := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(asked)
		return pushBatches(ctx, rdb, l, f, free)
	})
	group.Go(func() error { return readBatches(ctx, rdb, l, f.returnQueue(), free, asked) })
	return group.Wait()
}

func pushBatches(ctx context.Context, rdb *redis.Client, l *ledger, f *form, free <-chan struct{}) error {
	asking, stop := l.asking(ctx)
	defer stop()
	next := uint64(0)
	var batch []any
	for {
		batch = batch[:0]
		if !l.await(asking, l.due(next)) {
			return nil
		}
		select {
		case <-free:
		case <-asking.Done():
			return nil
		}
		due := l.due(next) // without a rate that is now
		for more := true; more; {
			l.ask(next, due)
			batch = append(batch, f.write(next))
			next++
			due = l.due(next)
			more = len(batch) < batchMost && !due.After(time.Now()) && l.isPlanned(due)
			if more {
				select {
				case <-free:
				default:
					more = false
				}
			}
		}
		if err := rdb.RPush(ctx, local(l.plan), batch...).Err(); err != nil {
			return redisError(ctx, "push requests", err)
		}
	}
}

// readBatches reads until all that was asked is answered or has certainly ended.
func readBatches(ctx context.Context, rdb *redis.Client, l *ledger, returnQueue string, free chan<- struct{}, asked <-chan struct{}) error {
	last := time.Now() // that something came, or could still be asked
	for ctx.Err() == nil {
		select {
		case <-asked:
			if l.outstanding() == 0 || time.Since(last) > l.plan.Life+lateMost {
				return hearRest(ctx, rdb, l, returnQueue)
			}
		default:
			last = time.Now()
		}
		came, err := pop(ctx, rdb, returnQueue, batchMost)
		if err != nil {
			return redisError(ctx, "pop answers", err)
		}
		heard, err := l.hear(came)
		if err != nil {
			return err
		}
		for range heard {
			last = time.Now()
			free <- struct{}{}
		}
	}
	return nil
}

// Serve answers requests with their own data until ctx ends: with one app that
// answers whatever has come at once, or with so many ordinary ones.
func Serve(ctx context.Context, rdb *redis.Client, p Plan) error {
	queue, replies := p.Prefix+"."+p.Command, p.Prefix+".system.reply"
	apps, most := p.Outstanding, 1
	if p.Apps == Batching {
		apps, most = 1, batchMost
	}
	group, ctx := errgroup.WithContext(ctx)
	for range apps {
		group.Go(func() error {
			for ctx.Err() == nil {
				came, err := pop(ctx, rdb, queue, most)
				if err != nil {
					return redisError(ctx, "pop requests", err)
				}
				answers := make([]any, len(came))
				for i, raw := range came {
					if answers[i], err = echo(raw); err != nil {
						return err
					}
				}
				if len(answers) == 0 {
					continue
				}
				// What was taken is answered, also when ctx ends meanwhile.
				if err := rdb.RPush(context.WithoutCancel(ctx), replies, answers...).Err(); err != nil {
					return redisError(ctx, "push answers", err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func local(p Plan) string { return p.Prefix + ".system.local" }

// redisError is nil for the failure of a command whose context has ended.
func redisError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
