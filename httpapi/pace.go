package httpapi

import (
	"errors"
	"slices"
	"sync"

	"github.com/msgbusd/msgbusd/msgbus"
)

// paces are how many messages may be on their way at once to twins that were too
// slow for more: side by side they share what bandwidth there is, and none would
// arrive in its time. After a timeout it is half of what was on its way, down to
// one, and one more after each batch that went well.
type paces struct {
	most int

	mu    sync.Mutex
	twins map[uint32]int // fewer than most; guarded by mu
}

// pacesMost bounds what is remembered; over it everything is forgotten, which
// costs each slow twin a few timeouts.
const pacesMost = 100_000

func newPaces(most int) *paces { return &paces{most: most, twins: make(map[uint32]int)} }

// of returns how many messages to a twin may be on their way at once.
func (p *paces) of(twin uint32) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n, slow := p.twins[twin]; slow {
		return n
	}
	return p.most
}

// note adapts the pace to how a batch went.
func (p *paces) note(twin uint32, outcomes []error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, slow := p.twins[twin]
	if !slow {
		n = p.most
	}
	switch f := failureOf(outcomes); {
	case f != nil && f.Reason == msgbus.Timeout && !slices.ContainsFunc(outcomes, isPassedOver): // a dial says nothing of bandwidth
		if len(p.twins) >= pacesMost {
			clear(p.twins)
		}
		p.twins[twin] = max(1, min(n, len(outcomes))/2)
	case f != nil || !slow:
	case n+1 >= p.most:
		delete(p.twins, twin)
	default:
		p.twins[twin] = n + 1
	}
}

// failureOf returns the first failed attempt among the outcomes of a batch.
func failureOf(outcomes []error) *msgbus.Failure {
	for _, err := range outcomes {
		if f := (*msgbus.Failure)(nil); errors.As(err, &f) {
			return f
		}
	}
	return nil
}
