package relay

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// While one step is under way the others of its key must wait for it, and then cost
// one more step together, in the order in which they came.
func TestWhatComesMeanwhileGoesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		var mu sync.Mutex
		var steps [][]int
		g := newGatherer(func(_ context.Context, key string, items []int) {
			if key == "a" {
				<-goOn
			}
			mu.Lock()
			defer mu.Unlock()
			steps = append(steps, items)
		})
		var callers sync.WaitGroup
		for i := range 2 + gatheredMost {
			callers.Go(func() { g.run(t.Context(), "a", i) })
			synctest.Wait()
		}
		g.run(t.Context(), "b", -1) // another key waits for nothing
		close(goOn)
		callers.Wait()

		var want []int
		for i := range gatheredMost {
			want = append(want, 1+i)
		}
		if !slices.EqualFunc(steps, [][]int{{-1}, {0}, want, {1 + gatheredMost}}, slices.Equal[[]int]) {
			t.Errorf("the steps are %v", steps)
		}
		if len(g.groups) > 0 {
			t.Errorf("%d keys are remembered", len(g.groups))
		}
	})
}

// A step that panics must not keep those that wait for it waiting for ever.
func TestAStepThatPanicsPassesTheTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		first := true
		g := newGatherer(func(context.Context, int, []int) {
			if first {
				first = false
				<-goOn
				panic("boom")
			}
		})
		var callers sync.WaitGroup
		for i := range 3 {
			callers.Go(func() {
				defer func() { _ = recover() }()
				g.run(t.Context(), 0, i)
			})
			synctest.Wait()
		}
		close(goOn)
		callers.Wait()
	})
}
