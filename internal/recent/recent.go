// Package recent remembers the latest of what came.
package recent

import "sync"

// A Map remembers values by their keys, up to a number of keys: a new one takes the
// place of the oldest. It may be used from many goroutines.
type Map[K comparable, V any] struct {
	most int

	mu     sync.Mutex
	values map[K]V // guarded by mu
	order  []K     // of keys, in which they came; a ring when it is full; guarded by mu
	oldest int     // where the ring begins; guarded by mu
}

// NewMap returns a Map that remembers at most so many keys, at least 1.
func NewMap[K comparable, V any](most int) *Map[K, V] {
	return &Map[K, V]{most: most, values: make(map[K]V)}
}

// Set remembers a value. That of a known key is replaced, and is not younger for it.
func (m *Map[K, V]) Set(key K, value V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.values[key]; !known {
		m.makeRoom(key)
	}
	m.values[key] = value
}

// makeRoom notes a new key. Called with mu held.
func (m *Map[K, V]) makeRoom(key K) {
	if len(m.order) < m.most {
		m.order = append(m.order, key)
		return
	}
	delete(m.values, m.order[m.oldest])
	m.order[m.oldest] = key
	m.oldest = (m.oldest + 1) % m.most
}

// Get returns the value of a key, if it is remembered.
func (m *Map[K, V]) Get(key K) (value V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, ok = m.values[key]
	return value, ok
}

// Delete forgets a key.
func (m *Map[K, V]) Delete(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.values, key)
}
