package httpapi

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// standings are how the addresses of twins that have several have fared: the one
// that answered last stays, and the others come in the order in which their last
// failures lie back.
type standings struct {
	mu    sync.Mutex
	twins map[uint32]standing // guarded by mu
}

// A standing is of one twin's addresses. It is never changed but replaced.
type standing struct {
	answered string               // the one that did last; "" when none has
	failed   map[string]time.Time // of those that have failed since they answered, when
}

// standingsMost bounds what is remembered; over it everything is forgotten, which
// costs each twin an attempt at the addresses where nobody is.
const standingsMost = 100_000

func newStandings() *standings { return &standings{twins: make(map[uint32]standing)} }

// order returns a twin's addresses in the order in which they are to be tried.
func (s *standings) order(twin uint32, endpoints []string) []string {
	s.mu.Lock()
	known := s.twins[twin]
	s.mu.Unlock()
	last := func(endpoint string) int {
		if endpoint == known.answered {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(endpoints), func(a, b string) int {
		return cmp.Or(known.failed[a].Compare(known.failed[b]), cmp.Compare(last(a), last(b)))
	})
}

// note remembers how an attempt at one of a twin's addresses went, and tells whether
// the last one there went otherwise. An address that the record does not name any
// more is forgotten.
func (s *standings) note(twin uint32, endpoints []string, tried string, failed bool) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, ok := s.twins[twin]
	_, hadFailed := before.failed[tried]
	if !failed && !hadFailed && before.answered == tried {
		return false
	}
	if !ok && len(s.twins) >= standingsMost {
		clear(s.twins)
	}
	now := standing{answered: before.answered, failed: make(map[string]time.Time)}
	for _, endpoint := range endpoints {
		if at, has := before.failed[endpoint]; has && endpoint != tried {
			now.failed[endpoint] = at
		}
	}
	if failed {
		now.failed[tried] = time.Now()
	} else {
		now.answered = tried
	}
	s.twins[twin] = now
	return failed != hadFailed
}
