package httpapi

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// A budget is how many bytes of large messages may be on their way at once.
type budget struct {
	most  int64
	bytes *semaphore.Weighted
}

func newBudget(most int64) *budget {
	most = max(1, most)
	return &budget{most: most, bytes: semaphore.NewWeighted(most)}
}

// acquire waits for n bytes. What is larger than the whole budget takes all of
// it, and goes alone.
func (b *budget) acquire(ctx context.Context, n int) (release func(), err error) {
	weight := min(int64(n), b.most)
	if err := b.bytes.Acquire(ctx, weight); err != nil {
		return nil, err
	}
	return func() { b.bytes.Release(weight) }, nil
}
