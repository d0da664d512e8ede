package backlog

import (
	"sync"
	"time"
)

// A clock carries Redis's time forward between readings, so that a step of the
// relay's own clock changes nothing. Before the first reading it is the
// relay's own.
type clock struct {
	mu    sync.Mutex
	redis time.Time // guarded by mu
	local time.Time // when redis was read, with a monotonic part; guarded by mu
}

func (c *clock) set(us int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.redis, c.local = time.UnixMicro(us), time.Now()
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local.IsZero() {
		return time.Now()
	}
	return c.redis.Add(time.Since(c.local))
}
