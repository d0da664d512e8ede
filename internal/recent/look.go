package recent

import (
	"context"
	"sync"
	"time"
)

// A Look is what was seen when somebody asked last. Whoever asks soon after that is told
// the same, an error too: many who ask cost one look a while.
type Look[T any] struct {
	lasts time.Duration
	read  func(context.Context) (T, error)

	mu    sync.Mutex
	at    time.Time // when it was read; guarded by mu
	value T         // guarded by mu
	err   error     // guarded by mu
}

// NewLook returns a Look that is read anew when it is older than so long.
func NewLook[T any](lasts time.Duration, read func(context.Context) (T, error)) *Look[T] {
	return &Look[T]{lasts: lasts, read: read}
}

// Get returns what was read lately, or reads it. Others wait for the answer meanwhile.
// Nobody may change what it returns.
func (l *Look[T]) Get(ctx context.Context) (T, error) { return l.get(ctx, l.lasts) }

// Now reads it in any case, for somebody who wants to see what he has just changed.
func (l *Look[T]) Now(ctx context.Context) (T, error) { return l.get(ctx, 0) }

func (l *Look[T]) get(ctx context.Context, lasts time.Duration) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() && time.Since(l.at) < lasts {
		return l.value, l.err
	}
	value, err := l.read(ctx)
	if ctx.Err() == nil { // else who asked has gone, and that is nobody else's error
		l.value, l.err, l.at = value, err, time.Now()
	}
	return value, err
}
