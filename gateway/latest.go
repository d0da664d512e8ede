package gateway

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// latest are the events that a pattern begins with, for those who ask for them. A
// thousand pages that come back at once must not have Redis read them a thousand times:
// while one look is on its way, all who come wait for the next, which is for all of them.
// The one that is on its way would not do: an event that was published between it and the
// arrival of who waits would be in neither.
type latest struct {
	turn sync.Mutex // held by who looks

	mu      sync.Mutex
	waiting int        // that have come and have not been told; guarded by mu
	began   time.Time  // the last look; guarded by mu
	found   []*message // by it; nil when nobody waits; guarded by mu
	err     error      // of it; guarded by mu
}

func (l *latest) get(look func() ([]*message, error)) ([]*message, error) {
	l.mu.Lock()
	l.waiting++
	came := time.Now()
	l.mu.Unlock()
	l.turn.Lock()
	defer l.turn.Unlock()
	l.mu.Lock()
	isNew := l.began.After(came)
	l.mu.Unlock()
	if !isNew {
		began := time.Now()
		found, err := look()
		l.mu.Lock()
		l.began, l.found, l.err = began, found, err
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	found, err := l.found, l.err
	if l.waiting--; l.waiting == 0 {
		l.found = nil
	}
	return found, err
}

// readLatest returns the latest events in the order in which they were published, as far
// as their times tell.
func readLatest(ctx context.Context, bus Bus, pattern string) ([]*message, error) {
	events, err := bus.Latest(ctx, pattern)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(events, func(a, b *client.Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Source, b.Source))
	})
	var messages []*message
	for _, e := range events {
		if m, err := encodeEvent(e); err == nil {
			messages = append(messages, m)
		}
	}
	return messages, nil
}
