package gateway

import "sync"

// A queue is what waits for one connection. Whoever puts something in never waits: when
// there is no room, the oldest goes, which what follows it tells.
type queue struct {
	mostEvents, mostBytes int
	ready                 chan struct{} // of capacity 1: there may be something

	mu    sync.Mutex
	items []item // guarded by mu
	bytes int    // of items; guarded by mu
	lost  int    // before the next that comes; guarded by mu
	held  bool   // nothing is handed out; guarded by mu
}

// An item is an event, and how many were lost right before it: -1 when nobody knows.
type item struct {
	*message
	lost int
}

func newQueue(mostEvents, mostBytes int) *queue {
	return &queue{mostEvents: mostEvents, mostBytes: mostBytes, ready: make(chan struct{}, 1)}
}

// put adds an event, and returns how many others went for it. One that is larger than
// the bound waits alone.
func (q *queue) put(m *message) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) > 0 && (len(q.items) >= q.mostEvents || q.bytes+len(m.text) > q.mostBytes) {
		first := q.take()
		missing := add(first.lost, 1)
		if len(q.items) > 0 {
			q.items[0].lost = add(missing, q.items[0].lost)
		} else {
			q.lost = add(missing, q.lost)
		}
		dropped++
	}
	q.items = append(q.items, item{m, q.lost})
	q.bytes += len(m.text)
	q.lost = 0
	q.announce()
	return dropped
}

// lose notes that n events will never come, before the next that does.
func (q *queue) lose(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost = add(q.lost, n)
}

// add adds numbers of lost events.
func add(a, b int) int {
	if a < 0 || b < 0 {
		return -1
	}
	return a + b
}

// next hands out the oldest, if there is one.
func (q *queue) next() (item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held || len(q.items) == 0 {
		return item{}, false
	}
	first := q.take()
	if len(q.items) > 0 {
		q.announce()
	}
	return first, true
}

// take needs mu and an item.
func (q *queue) take() item {
	first := q.items[0]
	q.items[0] = item{}
	q.items = q.items[1:]
	q.bytes -= len(first.text)
	return first
}

// hold has events wait until release, while something is told that goes before them.
func (q *queue) hold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = true
}

func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = false
	q.announce()
}

// has tells whether a newer event of the same topic and twin waits.
func (q *queue) has(m *message) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, i := range q.items {
		if i.topic == m.topic && i.source == m.source {
			return true
		}
	}
	return false
}

// announce needs mu.
func (q *queue) announce() {
	select {
	case q.ready <- struct{}{}:
	default: // it is said already
	}
}
