package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// restAfter is how long a relay does next to nothing before it gives memory back.
	restAfter = time.Minute
	// restingBytes is what a relay allocates in that time at most while it waits for
	// messages, and a few come.
	restingBytes = 32 << 20
)

// collectSeldom trades memory for time. A relay holds a few MiB, and makes garbage of
// each message: by Go's default it would be collected at twice those few MiB, many
// times a second under load. GOGC, if it is set, stands.
func collectSeldom() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
}

// giveBack returns what a busy time took to the system once it is over, until ctx
// ends: Go by itself would keep most of it.
func giveBack(ctx context.Context) {
	tick := time.NewTicker(restAfter)
	defer tick.Stop()
	before, rested := allocated(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := allocated()
		resting := now-before < restingBytes
		if resting && !rested {
			debug.FreeOSMemory()
		}
		before, rested = now, resting
	}
}

// allocated is how many bytes this process has allocated since its start.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
