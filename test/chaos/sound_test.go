package chaos

import (
	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// wantSound walks what relays keep in the Redis of a site, as doctor does: each
// message is in one state, and the counters add up.
func wantSound(r *row, s *fleettest.Site) {
	r.Helper()
	address, err := backlog.ParseURL(s.Redis.URL())
	if err != nil {
		r.Fatal(err)
	}
	store, err := backlog.Open(backlog.Options{Redis: address, Prefix: s.Prefix, Twin: s.ID})
	if err != nil {
		r.Fatal(err)
	}
	defer store.Close()
	report, err := store.Check(r.Context())
	if err != nil {
		r.Errorf("twin %d: %v", s.ID, err)
		return
	}
	for _, f := range report.Findings {
		r.Errorf("twin %d: %s %s: %s: %s", s.ID, f.Key, f.ID, f.State, f.Text)
	}
	n, err := store.Stats(r.Context())
	if err != nil || !n.AddUp() {
		r.Errorf("twin %d: the counters do not add up: %+v (%v)", s.ID, n, err)
	}
}
