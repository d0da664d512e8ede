package relay

import (
	"context"
	"sync"
)

// gatheredMost is how many items go into one step.
const gatheredMost = 128

// A gatherer does together what comes one by one: what comes while a step is under way
// for the same key waits, and goes into the next. A lone item waits for nothing.
type gatherer[K comparable, T any] struct {
	// do is a step for items of one key, in the order in which they came.
	do func(ctx context.Context, key K, items []T)

	mu     sync.Mutex
	groups map[K]*group[T] // of the keys for which a step is under way; guarded by mu
}

// A group is what waits for a step of its key to end.
type group[T any] struct{ waiting []*gathered[T] }

type gathered[T any] struct {
	item T
	turn chan bool // true: it is done; false: it is the first that waits, and does the next step
}

func newGatherer[K comparable, T any](do func(ctx context.Context, key K, items []T)) *gatherer[K, T] {
	return &gatherer[K, T]{do: do, groups: make(map[K]*group[T])}
}

// run returns when a step with the item is over. It does not end with ctx, which is
// that of one item: others wait for the step too.
func (g *gatherer[K, T]) run(ctx context.Context, key K, item T) {
	own := &gathered[T]{item: item, turn: make(chan bool, 1)}
	g.mu.Lock()
	at, busy := g.groups[key]
	if !busy {
		at = &group[T]{}
		g.groups[key] = at
	}
	at.waiting = append(at.waiting, own)
	g.mu.Unlock()
	if busy && <-own.turn {
		return
	}

	g.mu.Lock()
	n := min(len(at.waiting), gatheredMost)
	now := at.waiting[:n:n]
	at.waiting = at.waiting[n:]
	g.mu.Unlock()
	defer g.pass(key, at, now) // also after a panic
	items := make([]T, n)
	for i, each := range now {
		items[i] = each.item
	}
	g.do(context.WithoutCancel(ctx), key, items)
}

// pass tells those of a step that it is over, and the first that waits to do the next.
func (g *gatherer[K, T]) pass(key K, at *group[T], over []*gathered[T]) {
	for _, each := range over {
		each.turn <- true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(at.waiting) == 0 {
		delete(g.groups, key)
		return
	}
	at.waiting[0].turn <- false
}
