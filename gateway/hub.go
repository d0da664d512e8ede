package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// A hub has one subscription for each pattern that some connection wants, for all that
// want it.
type hub struct {
	bus Bus
	log zerolog.Logger

	mu    sync.Mutex
	feeds map[string]*feed // by pattern; guarded by mu
	open  sync.WaitGroup   // feeds whose goroutine runs
}

// A listener is given what a feed hears. It must not wait, nor call the hub.
type listener interface {
	// hear is given an event of the feed with a pattern, and how many that feed has missed
	// before it: -1 when nobody knows.
	hear(pattern string, m *message, lost int)
	// cut is told that the feed has ended by itself.
	cut(pattern string)
}

// A feed is one subscription.
type feed struct {
	pattern string
	users   int // that have joined and not left; guarded by the hub's mu
	stop    context.CancelFunc
	begun   chan struct{} // closed when there is a subscription, or err
	err     error         // to be read when begun is closed
	latest  latest

	mu        sync.RWMutex
	listeners map[listener]struct{} // guarded by mu
}

func newHub(bus Bus, log zerolog.Logger) *hub {
	return &hub{bus: bus, log: log, feeds: make(map[string]*feed)}
}

// subscribeLimit is how long the bus may take for a subscription.
const subscribeLimit = 10 * time.Second

// join joins the feeds of all patterns, or none. When it returns, all that is published
// from now on is given to the listener. Whoever joins must leave.
func (h *hub) join(ctx context.Context, patterns []string, l listener) error {
	feeds := make([]*feed, len(patterns))
	for i, p := range patterns {
		feeds[i] = h.use(p) // all of them before the first is waited for
	}
	for _, f := range feeds {
		if err := f.await(ctx); err != nil {
			for _, used := range feeds {
				h.disuse(used)
			}
			return fmt.Errorf("subscribe to %s: %w", f.pattern, err)
		}
	}
	for _, f := range feeds {
		f.mu.Lock()
		f.listeners[l] = struct{}{}
		f.mu.Unlock()
	}
	return nil
}

// await waits until a feed has a subscription, or will have none.
func (f *feed) await(ctx context.Context) error {
	select {
	case <-f.begun:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hub) leave(pattern string, l listener) {
	h.mu.Lock()
	f := h.feeds[pattern]
	h.mu.Unlock()
	if f == nil {
		return // it has ended by itself
	}
	f.mu.Lock()
	_, joined := f.listeners[l]
	delete(f.listeners, l)
	f.mu.Unlock()
	if joined {
		h.disuse(f)
	}
}

// use returns the feed of a pattern, which begins with its first user.
func (h *hub) use(pattern string) *feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[pattern]
	if f == nil {
		ctx, stop := context.WithCancel(context.Background())
		f = &feed{pattern: pattern, stop: stop, begun: make(chan struct{}), listeners: make(map[listener]struct{})}
		h.feeds[pattern] = f
		h.open.Go(func() { h.run(ctx, f) })
	}
	f.users++
	return f
}

// disuse ends a feed with its last user.
func (h *hub) disuse(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.users--; f.users == 0 {
		h.forget(f)
	}
}

// forget needs mu. Who comes from now on begins another feed.
func (h *hub) forget(f *feed) {
	if h.feeds[f.pattern] == f {
		delete(h.feeds, f.pattern)
	}
	f.stop()
}

// run gives to the listeners what a feed hears, until the feed is stopped.
func (h *hub) run(ctx context.Context, f *feed) {
	limited, cancel := context.WithTimeout(ctx, subscribeLimit)
	s, err := h.bus.Subscribe(limited, f.pattern)
	cancel()
	if f.err = err; err != nil {
		h.mu.Lock()
		h.forget(f) // so that who comes now tries again
		h.mu.Unlock()
		close(f.begun)
		return
	}
	close(f.begun)
	for {
		e, err := s.Next(ctx)
		if err != nil {
			break
		}
		m, err := encodeEvent(e)
		if err != nil {
			h.log.Warn().Err(err).Str("pattern", f.pattern).Msg("an event cannot be written for browsers")
			continue
		}
		f.tell(func(l listener) { l.hear(f.pattern, m, e.Lost) })
	}
	if err := s.Close(); err != nil {
		h.log.Debug().Err(err).Str("pattern", f.pattern).Msg("a subscription does not end well")
	}
	if ctx.Err() == nil { // the bus has ended it
		h.mu.Lock()
		h.forget(f)
		h.mu.Unlock()
		f.tell(func(l listener) { l.cut(f.pattern) })
	}
}

func (f *feed) tell(each func(listener)) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for l := range f.listeners {
		each(l)
	}
}

// close returns when all feeds have ended. Nobody may join any more.
func (h *hub) close() {
	h.mu.Lock()
	for _, f := range h.feeds {
		h.forget(f)
	}
	h.mu.Unlock()
	h.open.Wait()
}

// lookUp returns the latest events of a pattern that the caller has joined.
func (h *hub) lookUp(ctx context.Context, pattern string) ([]*message, error) {
	h.mu.Lock()
	f := h.feeds[pattern]
	h.mu.Unlock()
	if f == nil {
		return nil, nil // it has ended by itself, and with it who asks
	}
	return f.latest.get(func() ([]*message, error) {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), subscribeLimit)
		defer cancel()
		return readLatest(limited, h.bus, pattern)
	})
}
