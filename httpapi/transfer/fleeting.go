package transfer

import (
	"sync"
	"time"
)

// A fleeting map holds derived keys, which have to go in time and not only when
// others need their place: whoever gets hold of the relay's memory shall not open
// what was recorded before. A value goes between one life and two after it was put
// in, or earlier when there are more than twice most. A timer runs while there is
// something to forget; there is no goroutine, and nothing to close.
type fleeting[K comparable, V any] struct {
	most int
	life time.Duration

	mu         sync.Mutex // guards what follows
	young, old map[K]V
	ticking    bool
}

func newFleeting[K comparable, V any](most int, life time.Duration) *fleeting[K, V] {
	return &fleeting[K, V]{most: most, life: life, young: map[K]V{}}
}

func (f *fleeting[K, V]) get(k K) (V, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.young[k]
	if !ok {
		v, ok = f.old[k]
	}
	return v, ok
}

func (f *fleeting[K, V]) put(k K, v V) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.young[k]; !known && len(f.young) >= f.most {
		f.age()
	}
	f.young[k] = v
	f.tick()
}

// age forgets the old ones, and makes the young ones old. The caller holds mu.
func (f *fleeting[K, V]) age() { f.old, f.young = f.young, map[K]V{} }

// tick sees to it that all ages. The caller holds mu.
func (f *fleeting[K, V]) tick() {
	if f.ticking || len(f.young)+len(f.old) == 0 {
		return
	}
	f.ticking = true
	time.AfterFunc(f.life, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ticking = false
		f.age()
		f.tick()
	})
}
