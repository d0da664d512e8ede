package relay

import (
	"context"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// lanes runs the lanes that have something to do, each in a goroutine of its
// own for as long as it has, and at most so many at once.
type lanes struct {
	serve func(ctx context.Context, twin uint32)

	mu      sync.Mutex
	most    int
	running map[uint32]bool  // whether the lane was woken while it was running; guarded by mu
	broken  map[uint32]onset // lanes whose last attempt failed; guarded by mu
	stopped bool             // guarded by mu
	freed   chan struct{}    // tells the scheduler that a place is free
	changed chan struct{}    // tells the scheduler that a lane is due at another time
	gone    sync.WaitGroup

	// Lanes have their own time: what is being sent when the relay is told to
	// stop may finish.
	ctx    context.Context
	cancel context.CancelFunc
}

func newLanes(most int, serve func(context.Context, uint32)) *lanes {
	return &lanes{
		serve:   serve,
		most:    most,
		running: make(map[uint32]bool),
		broken:  make(map[uint32]onset),
		freed:   make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
		stopped: true,
	}
}

// open lets lanes be served.
func (l *lanes) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.stopped = false
}

// wake has a lane served: now, or when the scheduler finds a free place for it.
func (l *lanes) wake(twin uint32) {
	if !l.start(twin) {
		signal(l.changed)
	}
}

// start serves a lane if a place is free, and tells whether it is being served.
func (l *lanes) start(twin uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	if _, running := l.running[twin]; running {
		l.running[twin] = true
		return true
	}
	if len(l.running) >= l.most {
		return false
	}
	l.running[twin] = false
	l.gone.Add(1)
	go l.run(l.ctx, twin)
	return true
}

func (l *lanes) run(ctx context.Context, twin uint32) {
	defer l.gone.Done()
	for {
		l.serve(ctx, twin)
		l.mu.Lock()
		again := l.running[twin] && !l.stopped
		if again {
			l.running[twin] = false
		} else {
			delete(l.running, twin)
		}
		l.mu.Unlock()
		if !again {
			signal(l.freed)
			return
		}
	}
}

// resting tells the scheduler that a lane has something to do later.
func (l *lanes) resting() { signal(l.changed) }

// signal leaves a token for whoever listens; one is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// stopping tells a lane not to begin another batch.
func (l *lanes) stopping() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

// drain lets no lane begin anything, waits for what is being sent, and after
// limit ends that too.
func (l *lanes) drain(limit time.Duration) {
	l.mu.Lock()
	l.stopped = true
	cancel := l.cancel
	l.mu.Unlock()
	if cancel == nil {
		return
	}
	timer := time.AfterFunc(limit, cancel)
	l.gone.Wait()
	timer.Stop()
	cancel()
}

// brokenMost bounds what is remembered of failing lanes.
const brokenMost = 100_000

// failed notes why a lane failed and tells about it when that is news.
func (l *lanes) failed(twin uint32, f *msgbus.Failure, tell func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.broken[twin]; !known && len(l.broken) >= brokenMost {
		return
	}
	o := l.broken[twin]
	o.begin(string(f.Reason), tell)
	l.broken[twin] = o
}

// succeeded forgets a lane's failure and tells when there was one.
func (l *lanes) succeeded(twin uint32, tell func(lasted time.Duration)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o, known := l.broken[twin]; known {
		delete(l.broken, twin)
		o.end(tell)
	}
}

// scheduleLanes serves the lanes that are due, until ctx ends.
func (r *Relay) scheduleLanes(ctx context.Context) error {
	const longest = time.Second // other relays and crashed ones leave lanes without telling
	r.lanes.open()
	var outage onset
	for {
		wait := longest
		due, next, err := r.backlog.DueLanes(ctx, r.opts.Workers+1) // one more, to see that some must wait
		switch {
		case err == nil:
			outage.end(func(time.Duration) {})
			if next >= 0 {
				wait = min(wait, max(next, time.Millisecond))
			}
		case ctx.Err() == nil:
			outage.begin(cause(err), func() { r.log.Warn().Err(err).Msg("cannot read the lanes; they wait") })
		}
		var freed <-chan struct{} // looked at only while a lane waits for a place
		for _, twin := range due {
			if !r.lanes.start(twin) {
				freed = r.lanes.freed
				break
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-freed:
			timer.Stop()
		case <-r.lanes.changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}
