package relay

import (
	"strings"
	"sync"

	"github.com/msgbusd/msgbusd/msgbus"
)

// sentMost bounds the requests that are remembered: about as many as have their
// replies under way at once. For others the storage is read.
const sentMost = 8192

// shareMost is up to how many bytes of an entry are kept with what is remembered of it.
const shareMost = 1 << 10

// sent remembers the entries of requests that were sent lately, without their data, so
// that they need not be read again for their replies. The storage has the last word:
// an entry that is another one by now is not ended.
type sent struct {
	mu      sync.Mutex
	entries map[string]*msgbus.Entry // by uid; guarded by mu
	order   []string                 // in which they came, a ring when it is full; guarded by mu
	next    int                      // where the oldest is then; guarded by mu
}

func newSent() *sent { return &sent{entries: make(map[string]*msgbus.Entry)} }

// remember keeps what a reply needs of an entry.
func (s *sent) remember(e *msgbus.Entry, size int) {
	kept, m := *e, *e.Message
	m.Data = ""
	if size > shareMost {
		m = msgbus.Message{
			UID: strings.Clone(m.UID), Ref: strings.Clone(m.Ref), Command: strings.Clone(m.Command), ReturnQueue: strings.Clone(m.ReturnQueue),
			Source: m.Source, Destinations: m.Destinations, Expiration: m.Expiration, Retry: m.Retry, Proxied: m.Proxied, Dialect: m.Dialect,
		}
		kept.Head = strings.Clone(kept.Head)
	}
	kept.Message = &m
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.entries[m.UID]; again {
		s.entries[m.UID] = &kept
		return
	}
	if len(s.order) < sentMost {
		s.order = append(s.order, m.UID)
	} else {
		delete(s.entries, s.order[s.next])
		s.order[s.next] = m.UID
		s.next = (s.next + 1) % sentMost
	}
	s.entries[m.UID] = &kept
}

// of returns the entry of a uid, or nil.
func (s *sent) of(uid string) *msgbus.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[uid]
}

// forget is for a request that has ended.
func (s *sent) forget(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, uid)
}
