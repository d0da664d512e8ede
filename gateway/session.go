package gateway

import (
	"cmp"
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A session is one connection of a browser, from when its token has been found good.
type session struct {
	g      *Gateway
	kind   string
	id     string
	since  int64 // unix milliseconds
	claims Claims
	queue  *queue
	expiry *time.Timer

	// ctx ends with the session; its cause is a *refusal that says why.
	ctx context.Context
	end context.CancelCauseFunc

	// patterns that it has joined, in their order. The slice is never changed, only
	// replaced, and by one goroutine.
	patterns atomic.Pointer[[]string]

	name Name // of its user on the bus; nil unless the token says single
}

func (g *Gateway) newSession(kind string, c Claims) *session {
	s := &session{
		g: g, kind: kind, id: uuid.NewString(), since: g.opts.Now().UnixMilli(), claims: c,
		queue: newQueue(g.opts.MaxQueue, g.opts.MaxQueueBytes),
	}
	s.patterns.Store(&[]string{})
	s.ctx, s.end = context.WithCancelCause(context.Background())
	s.expiry = time.AfterFunc(c.end().Sub(g.opts.Now()), func() {
		s.end(refuse(TokenExpired, "the token has expired: ask the app for another"))
	})
	return s
}

// why tells what has ended the session.
func (s *session) why() *refusal {
	if r, ok := context.Cause(s.ctx).(*refusal); ok {
		return r
	}
	return refuse(Gone, "the browser has left")
}

func (s *session) leave() { s.end(refuse(Gone, "the browser has left")) }

func (s *session) tooSlow() { s.end(refuse(TooSlow, "nothing was taken for %s", s.g.opts.Slow)) }

// isOlder tells whether another session of the same user has come after this one. Clocks
// of two machines may differ: then the wrong one of two ends, but never both.
func (s *session) isOlder(than newcomer) bool {
	return cmp.Or(cmp.Compare(s.since, than.Since), cmp.Compare(s.id, than.Session)) < 0
}

// hear takes in an event. Of several patterns that an event is for, the first one brings it.
func (s *session) hear(pattern string, m *message, lost int) {
	if lost != 0 {
		s.queue.lose(lost)
		s.g.opts.Observer.EventsLost(max(lost, 1))
	}
	if s.firstFor(m.topic) != pattern {
		return
	}
	if dropped := s.queue.put(m); dropped > 0 {
		s.g.opts.Observer.EventsLost(dropped)
	}
}

// firstFor returns the first of the session's patterns that is for a topic, or "".
func (s *session) firstFor(topic string) string {
	patterns := *s.patterns.Load()
	if len(patterns) == 1 {
		return patterns[0]
	}
	for _, p := range patterns {
		if msgbus.MatchTopic(p, topic) {
			return p
		}
	}
	return ""
}

// cut ends the session with a feed: the page begins anew, and knows what it has missed.
func (s *session) cut(string) {
	s.end(refuse(Unavailable, "the bus does not tell any more: connect again"))
}

// subscribe joins patterns, all of them or none. It returns those that are new.
func (s *session) subscribe(ctx context.Context, patterns []string) ([]string, *refusal) {
	have := *s.patterns.Load()
	tooMany := refuse(TooManyPatterns, "a connection may have %d patterns", s.g.opts.MaxPatterns)
	if len(patterns) > s.g.opts.MaxPatterns {
		return nil, tooMany
	}
	if r := s.claims.checkPatterns(patterns); r != nil {
		return nil, r
	}
	var added []string
	for _, p := range patterns {
		if !slices.Contains(have, p) && !slices.Contains(added, p) {
			added = append(added, p)
		}
	}
	if len(have)+len(added) > s.g.opts.MaxPatterns {
		return nil, tooMany
	}
	if err := s.g.hub.join(ctx, added, s); err != nil {
		s.g.opts.Log.Warn().Err(err).Msg("a browser cannot be given events")
		return nil, refuse(Unavailable, "the bus cannot be asked for these topics now: try again in a few seconds")
	}
	now := slices.Concat(have, added)
	s.patterns.Store(&now)
	return added, nil
}

// unsubscribe leaves patterns.
func (s *session) unsubscribe(patterns []string) {
	for _, p := range patterns {
		have := *s.patterns.Load()
		if i := slices.Index(have, p); i >= 0 {
			left := slices.Delete(slices.Clone(have), i, i+1)
			s.patterns.Store(&left)
			s.g.hub.leave(p, s)
		}
	}
}

// latest returns what is kept of patterns that the session has just joined, without what
// it is about to be told anyway.
func (s *session) latest(patterns []string) ([]*message, *refusal) {
	type key struct {
		topic  string
		source uint32
	}
	seen := make(map[key]bool)
	var all []*message
	for _, p := range patterns {
		found, err := s.g.hub.lookUp(s.ctx, p)
		if err != nil {
			s.g.opts.Log.Warn().Err(err).Str("pattern", p).Msg("the latest events cannot be read for a browser")
			return nil, refuse(Unavailable, "the latest events of %s cannot be read now: try again in a few seconds", p)
		}
		for _, m := range found {
			if k := (key{m.topic, m.source}); !seen[k] && !s.queue.has(m) {
				seen[k] = true
				all = append(all, m)
			}
		}
	}
	return all, nil
}

// close gives back what the session has. It is called once.
func (s *session) close() {
	defer s.g.sessions.serving.Done() // last: the bus is needed until then
	s.leave()
	s.expiry.Stop()
	s.unsubscribe(*s.patterns.Load())
	s.g.sessions.remove(s)
	if s.name != nil {
		if err := s.name.Close(); err != nil {
			s.g.opts.Log.Warn().Err(err).Msg("a user's name is not given back; it is free when its lease ends")
		}
	}
	s.g.opts.Observer.BrowserLeft(s.kind)
	s.g.opts.Log.Debug().Str("kind", s.kind).Str("user", s.claims.User).Str("reason", string(s.why().Reason)).Msg("a browser's connection has ended")
}
