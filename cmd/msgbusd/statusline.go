package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/inspect"
)

// statusEvery is how often systemd is told how the relay fares.
const statusEvery = 10 * time.Second

// tellStatus keeps the line that `systemctl status` shows true, until ctx ends. Without
// systemd nobody reads it.
func (d *daemonProcess) tellStatus(ctx context.Context, id uint32) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	for {
		if o, err := d.overall.Get(ctx); err == nil {
			notify(status(statusLine(id, o)))
		} else if ctx.Err() == nil {
			notify(status(fmt.Sprintf("serving twin %d; the local Redis does not answer: %v", id, err)))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// statusLine says how many requests wait to be sent, how many have been and wait for
// their replies, and how many twins cannot be joined.
func statusLine(id uint32, o *inspect.Overview) string {
	queued := o.Queues.Local + o.Lanes.Requests
	text := fmt.Sprintf("serving twin %d: queued %d, in flight %d, peers down %d", id, queued,
		max(0, o.Stats.Waiting-o.Lanes.Requests), o.Lanes.States[backlog.LaneFailing])
	if o.Census.Dead > 0 {
		text += fmt.Sprintf(", dead letters %d", o.Census.Dead)
	}
	return text
}
