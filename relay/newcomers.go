package relay

import (
	"sync"

	"golang.org/x/time/rate"
)

// newcomers bound how often twins may begin to want something: each time they are sent what
// is retained of it.
type newcomers struct {
	mu   sync.Mutex
	each map[uint32]*rate.Limiter // guarded by mu
}

const (
	beginRate  = 100  // new subscriptions of a twin a second
	beginBurst = 1000 // and at once
)

func (n *newcomers) allow(twin uint32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	one := n.each[twin]
	if one == nil {
		if n.each == nil || len(n.each) >= throttleMost {
			n.each = make(map[uint32]*rate.Limiter)
		}
		one = rate.NewLimiter(beginRate, beginBurst)
		n.each[twin] = one
	}
	return one.Allow()
}
