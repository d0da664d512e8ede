package backlog_test

import (
	"testing"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// Whoever asks whether a relay lives is told of one that has gone.
func TestCensusTellsLiveSessionsFromEndedOnes(t *testing.T) {
	onBoth(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		r.must(b.Leave(r.Context()))
		r.push(localQueue, "x")
		c := r.take(a, msgbus.LocalQueue)
		r.must(a.Refuse(r.Context(), c, 0, refusal(), "", nil, true))
		census := func() backlog.Census {
			got, err := a.Census(r.Context())
			r.must(err)
			return got
		}
		wantEqual(r, "census", census(), backlog.Census{Live: 1, Ended: 1, Dead: 1})
		r.must(r.rdb.Set(r.Context(), "msgbus.system.sessions", "x", 0).Err())
		wantEqual(r, "census with sessions of another type", census(), backlog.Census{Dead: 1})
	})
}
