package httpapi

import (
	"sync"
)

// failing are the twins at which the last attempt failed. All of them together
// have the share of one twin for their large messages: each that hangs keeps its
// bytes for up to a minute, and a few dozen would keep them all.
type failing struct {
	share *budget

	mu    sync.Mutex
	twins map[uint32]struct{} // guarded by mu
}

// failingMost bounds what is remembered; over it everything is forgotten, which
// costs each twin one attempt among the others.
const failingMost = 100_000

func newFailing(share int64) *failing {
	return &failing{share: newBudget(share), twins: make(map[uint32]struct{})}
}

func (s *failing) has(twin uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, has := s.twins[twin]
	return has
}

// note remembers how an attempt went. A twin that asks for a rest is there.
func (s *failing) note(twin uint32, outcomes []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := failureOf(outcomes)
	if f == nil {
		delete(s.twins, twin)
		return
	}
	if f.Rest > 0 {
		return
	}
	if len(s.twins) >= failingMost {
		clear(s.twins)
	}
	s.twins[twin] = struct{}{}
}
