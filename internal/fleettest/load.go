package fleettest

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A Load is apps that ask a twin, one request after the other each, until they are
// told to end.
type Load struct {
	site    *Site
	dst     uint32
	ended   chan struct{}
	apps    sync.WaitGroup
	pushed  atomic.Int64
	replied atomic.Int64
}

// NewLoad has four apps of a site ask the command `work` of a twin, a hundred times a
// second each at most.
func NewLoad(site *Site, dst uint32) *Load {
	l := &Load{site: site, dst: dst, ended: make(chan struct{})}
	const apps = 4
	for range apps {
		l.apps.Go(l.ask)
	}
	site.T.Cleanup(func() { l.apps.Wait() }) // if the test fails before End, they end with its context
	return l
}

func (l *Load) ask() {
	ctx, s := l.site.T.Context(), l.site
	next := time.NewTicker(10 * time.Millisecond)
	defer next.Stop()
	for {
		select {
		case <-l.ended:
			return
		case <-ctx.Done():
			return
		case <-next.C:
		}
		n := strconv.FormatInt(l.pushed.Add(1)-1, 10)
		m := Request("work", n, l.dst).With("ret", "ret-"+n)
		err := s.RDB.RPush(ctx, s.Prefix+".system.local", m.String()).Err()
		var got []string
		if err == nil {
			got, err = s.RDB.BLPop(ctx, Patience, "ret-"+n).Result()
		}
		if err != nil {
			s.T.Errorf("request %s has no reply: %v", n, err)
			return
		}
		if reply, err := ParseMessage(got[1]); err != nil || reply.Text("err") != "" || reply.Data() != n {
			s.T.Errorf("the reply to %s is %s (%v)", n, got[1], err)
		}
		l.replied.Add(1)
	}
}

// GoOn waits until a hundred more have their replies.
func (l *Load) GoOn() {
	l.site.T.Helper()
	until := l.replied.Load() + 100
	Eventually(l.site.T, "requests flow", func() error {
		if got := l.replied.Load(); got < until {
			return fmt.Errorf("%d replies, not %d yet", got, until)
		}
		return nil
	})
}

// End returns how many requests there were.
func (l *Load) End() int {
	close(l.ended)
	l.apps.Wait()
	return int(l.pushed.Load())
}
