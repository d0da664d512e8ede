package fleettest

import (
	"testing"
	"time"
)

// Waiting is for events. patience is when an event counts as one that will not
// come; a loaded machine may take long, and nobody waits for it on success.
const (
	Patience = 45 * time.Second
	lookAt   = 20 * time.Millisecond
)

// Eventually waits until look finds nothing wrong.
func Eventually(t testing.TB, what string, look func() error) {
	t.Helper()
	over := time.NewTimer(Patience)
	defer over.Stop()
	again := time.NewTicker(lookAt)
	defer again.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-over.C:
			t.Fatalf("%s: %v, after %s", what, err, Patience)
		case <-again.C:
		}
	}
}
