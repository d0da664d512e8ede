package backlog

import (
	"context"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Measure counts what waits, in one exchange that costs the same however much that is.
func (s *Store) Measure(ctx context.Context) (msgbus.Measures, error) {
	k := s.keys
	keys := []string{
		k.queue(msgbus.LocalQueue), k.queue(msgbus.RemoteQueue), k.queue(msgbus.ReplyQueue), k.backlog(), k.replies(), k.openDeadlines(),
		k.dead(), k.lanes(), k.lanesLater(), k.deadlines(), k.open(), k.consumers(),
	}
	n, err := s.run(ctx, s.scripts.measure, keys).Int64Slice()
	if err == nil && len(n) != 14 {
		err = fmt.Errorf("%d elements in a script's answer", len(n))
	}
	if err != nil {
		return msgbus.Measures{}, fmt.Errorf("measure what waits: %w", err)
	}
	since := func(ms int64) time.Time {
		if ms < 0 {
			return time.Time{}
		}
		return time.UnixMilli(ms)
	}
	return msgbus.Measures{
		Local: n[0], Remote: n[1], Reply: n[2], Backlog: n[3], Replies: n[4], Open: n[5], Dead: n[6],
		LanesReady: n[7], LanesFailing: n[8], LanesPutOff: n[9],
		BacklogSince: since(n[10]), OpenSince: since(n[11]), DeadSince: since(n[12]), Services: n[13],
	}, nil
}

// ClockOffset returns how far Redis's clock is ahead of this machine's, as far as it is
// known here, and false before it was read.
func (s *Store) ClockOffset() (time.Duration, bool) { return s.clock.offset() }
