package relay

import (
	"errors"
	"sync"
	"time"
)

// An onset lets a failure that repeats be told when it starts, when it changes
// and when it ends, and not in between.
type onset struct {
	what  string
	since time.Time
}

func (o *onset) begin(what string, tell func()) {
	if o.what == what {
		return
	}
	if o.what == "" {
		o.since = time.Now()
	}
	o.what = what
	tell()
}

func (o *onset) end(tell func(lasted time.Duration)) {
	if o.what == "" {
		return
	}
	tell(time.Since(o.since))
	*o = onset{}
}

// cause is the innermost text of an error: the same each time that a failure
// repeats, where what stands around it names ports of connections.
func cause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// A throttle lets something happen at most once a second for each twin.
type throttle struct {
	mu   sync.Mutex
	last map[uint32]time.Time // guarded by mu
}

// throttleMost bounds the memory of a throttle; over it everything is
// forgotten, which costs each twin one turn too early.
const throttleMost = 10_000

func (t *throttle) allow(twin uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if last, ok := t.last[twin]; ok && now.Sub(last) < time.Second {
		return false
	}
	if t.last == nil || len(t.last) >= throttleMost {
		t.last = make(map[uint32]time.Time)
	}
	t.last[twin] = now
	return true
}
