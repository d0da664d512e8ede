package relay

import (
	"strings"

	"github.com/msgbusd/msgbusd/internal/recent"
	"github.com/msgbusd/msgbusd/msgbus"
)

// sentMost bounds the requests that are remembered: about as many as have their
// replies under way at once. For others the storage is read.
const sentMost = 8192

// shareMost is up to how many bytes of an entry are kept with what is remembered of it.
const shareMost = 1 << 10

// sent remembers the entries of requests that were sent lately, by uid and without their
// data, so that they need not be read again for their replies. The storage has the last
// word: an entry that is another one by now is not ended.
type sent struct {
	entries *recent.Map[string, *msgbus.Entry]
}

func newSent() *sent { return &sent{recent.NewMap[string, *msgbus.Entry](sentMost)} }

// remember keeps what a reply needs of an entry, which takes so many bytes.
func (s *sent) remember(e *msgbus.Entry, size int) {
	kept, m := *e, *e.Message
	m.Data = ""
	m.UID = strings.Clone(m.UID) // a key is kept for longer than its value
	if size > shareMost {
		m = msgbus.Message{
			UID: m.UID, Ref: strings.Clone(m.Ref), Command: strings.Clone(m.Command), ReturnQueue: strings.Clone(m.ReturnQueue),
			Source: m.Source, Destinations: m.Destinations, Expiration: m.Expiration, Retry: m.Retry, Proxied: m.Proxied, Dialect: m.Dialect,
			Trace: m.Trace, Ext: m.Ext.ForReply(),
		}
		kept.Epoch, kept.Head = strings.Clone(kept.Epoch), strings.Clone(kept.Head)
	}
	kept.Message = &m
	s.entries.Set(m.UID, &kept)
}

// of returns the entry of a uid, or nil.
func (s *sent) of(uid string) *msgbus.Entry {
	entry, _ := s.entries.Get(uid)
	return entry
}

// forget is for a request that has ended.
func (s *sent) forget(uid string) { s.entries.Delete(uid) }
