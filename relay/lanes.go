package relay

import (
	"context"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// lanes runs the lanes that have something to do, each in a goroutine of its
// own for as long as it has.
//
// A lane that makes progress holds one of `most` places. One whose twin is
// silent does not: it is slow when its attempt has lasted for longer than
// slowAfter, or from its start when its last attempt failed, and up to `most`
// slow lanes are not counted with the others. So dead twins that hold their
// connections for a whole timeout keep none waiting that answer, and wait for
// each other, in the order in which they became due. At most 2 × `most` lanes
// run at once.
type lanes struct {
	// serve serves a lane, of which a batch may have been fetched.
	serve func(ctx context.Context, twin uint32, batch *msgbus.Batch)

	mu       sync.Mutex
	most     int
	running  map[uint32]*service // guarded by mu
	slow     int                 // how many of them are slow; guarded by mu
	broken   map[uint32]onset    // lanes whose last attempt failed; guarded by mu
	answered map[uint32]struct{} // lanes whose last attempt was answered; guarded by mu
	stopped  bool                // guarded by mu
	freed    chan struct{}       // tells the scheduler that a place is free
	changed  chan struct{}       // tells the scheduler that a lane is due at another time
	gone     sync.WaitGroup

	// Lanes have their own time: what is being sent when the relay is told to
	// stop may finish.
	ctx    context.Context
	cancel context.CancelFunc
}

// A service is a lane that runs.
type service struct {
	again bool // it was woken meanwhile
	slow  bool
}

// slowAfter is how long an attempt is expected to last.
const slowAfter = 200 * time.Millisecond

func newLanes(most int, serve func(context.Context, uint32, *msgbus.Batch)) *lanes {
	return &lanes{
		serve:    serve,
		most:     most,
		running:  make(map[uint32]*service),
		broken:   make(map[uint32]onset),
		answered: make(map[uint32]struct{}),
		freed:    make(chan struct{}, 1),
		changed:  make(chan struct{}, 1),
		stopped:  true,
	}
}

// open lets lanes be served.
func (l *lanes) open() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.stopped = false
}

// wake has a lane served: now, or when the scheduler finds it due and a place
// free for it. One that failed last rests, and the scheduler knows until when.
func (l *lanes) wake(twin uint32) {
	l.mu.Lock()
	_, broken := l.broken[twin]
	woken := l.wakeRunning(twin)
	l.mu.Unlock()
	if !woken && (broken || !l.start(twin, false)) {
		signal(l.changed)
	}
}

// start serves a lane if a place is free, and tells whether it is being served.
func (l *lanes) start(twin uint32, failing bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopped:
		return false
	case l.wakeRunning(twin):
		return true
	case !l.room(failing):
		return false
	}
	l.begin(twin, failing)
	go l.run(l.ctx, twin, nil)
	return true
}

// begin gives a place to a lane. Called with mu held.
func (l *lanes) begin(twin uint32, failing bool) {
	l.running[twin] = &service{slow: failing}
	if failing {
		l.slow++
	}
	l.gone.Add(1)
}

// reserve gives a place to a lane that can go on and is not being served, for whoever
// fetches from it while he brings it something. He must call serveReserved then.
func (l *lanes) reserve(twin uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, running := l.running[twin]
	_, broken := l.broken[twin]
	if l.stopped || running || broken || !l.room(false) {
		return false
	}
	l.begin(twin, false)
	return true
}

// serveReserved serves a lane with what was fetched, nil if that failed.
func (l *lanes) serveReserved(twin uint32, batch *msgbus.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	go l.run(l.ctx, twin, batch)
}

// wakeRunning has a lane that runs look again when it finds nothing more to do.
// Called with mu held.
func (l *lanes) wakeRunning(twin uint32) bool {
	s, running := l.running[twin]
	if running {
		s.again = true
	}
	return running
}

// room tells whether a lane may start. Called with mu held.
func (l *lanes) room(failing bool) bool {
	if failing {
		return l.slow < l.most && len(l.running) < 2*l.most
	}
	return len(l.running)-min(l.slow, l.most) < l.most
}

func (l *lanes) run(ctx context.Context, twin uint32, batch *msgbus.Batch) {
	defer l.gone.Done()
	for {
		l.serve(ctx, twin, batch)
		batch = nil
		l.mu.Lock()
		s := l.running[twin]
		again := s.again && !l.stopped
		if again {
			s.again = false
		} else {
			delete(l.running, twin)
			if s.slow {
				l.slow--
			}
		}
		l.mu.Unlock()
		if !again {
			signal(l.freed)
			return
		}
	}
}

// watch makes a running lane a slow one unless the timer is stopped in time.
func (l *lanes) watch(twin uint32) *time.Timer {
	return time.AfterFunc(slowAfter, func() { l.setSlow(twin, true) })
}

// setSlow notes whether a running lane is slow.
func (l *lanes) setSlow(twin uint32, slow bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, running := l.running[twin]
	if !running || s.slow == slow {
		return
	}
	s.slow = slow
	if slow {
		l.slow++
	} else {
		l.slow--
	}
	signal(l.freed) // a place of the one kind or the other
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

// rememberedMost bounds what is remembered of failing lanes, and of answered ones.
const rememberedMost = 100_000

// failed notes why a lane failed and tells about it when that is news. It reports whether
// the lane's last attempt had not failed.
func (l *lanes) failed(twin uint32, f *msgbus.Failure, tell func()) (begins bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.answered, twin)
	o, known := l.broken[twin]
	if !known && len(l.broken) >= rememberedMost {
		return false
	}
	o.begin(string(f.Reason), tell)
	l.broken[twin] = o
	return !known
}

// isAnswered tells whether the last attempt of a lane was answered.
func (l *lanes) isAnswered(twin uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, answered := l.answered[twin]
	return answered
}

// succeeded forgets a lane's failure, and tells and reports that there was one.
func (l *lanes) succeeded(twin uint32, tell func(lasted time.Duration)) (ends bool) {
	l.setSlow(twin, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.answered) >= rememberedMost {
		for other := range l.answered {
			delete(l.answered, other)
			break
		}
	}
	l.answered[twin] = struct{}{}
	o, known := l.broken[twin]
	if known {
		delete(l.broken, twin)
		o.end(tell)
	}
	return known
}

// startAll serves lanes in their order, and tells whether there was room for all.
func (l *lanes) startAll(twins []uint32, failing bool) bool {
	for _, twin := range twins {
		if !l.start(twin, failing) {
			return false
		}
	}
	return true
}

// scheduleLanes serves the lanes that are due, until ctx ends.
func (r *Relay) scheduleLanes(ctx context.Context) error {
	const longest = time.Second // other relays and crashed ones leave lanes without telling
	r.lanes.open()
	var outage onset
	for {
		wait := longest
		// More of each kind than can be running, to see that one must wait.
		due, err := r.backlog.DueLanes(ctx, 2*r.opts.Workers+1)
		switch {
		case err == nil:
			outage.end(func(time.Duration) {})
			if due.Next >= 0 {
				wait = min(wait, max(due.Next, time.Millisecond))
			}
		case ctx.Err() == nil:
			outage.begin(cause(err), func() { r.log.Warn().Err(err).Msg("cannot read the lanes; they wait") })
		}
		var freed <-chan struct{} // looked at only while a lane waits for a place
		allReady, allFailing := r.lanes.startAll(due.Ready, false), r.lanes.startAll(due.Failing, true)
		if !allReady || !allFailing {
			freed = r.lanes.freed
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
