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

// How much garbage there may be for what lives, in percent, of a relay that holds little
// and of one that holds much, and where that begins and ends.
const (
	seldom, usual = 200, 100
	muchLives     = 64 << 20
	littleLives   = 32 << 20
)

// collect trades memory for time while there is little of it, until ctx ends. A relay
// holds a few MiB, and makes garbage of each message: by Go's default it would be
// collected at twice those few MiB, many times a second under load. One that holds much,
// such as thousands of connections, is collected as often as any program. GOGC, if it is
// set, stands.
func collect(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	percent := seldom
	debug.SetGCPercent(percent)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if next := garbagePercent(read("/gc/heap/live:bytes"), percent); next != percent {
			percent = next
			debug.SetGCPercent(percent)
		}
	}
}

// garbagePercent is how much garbage there may be, given how much lived at the last
// collection and what was allowed until now.
func garbagePercent(live uint64, now int) int {
	switch {
	case live > muchLives:
		return usual
	case live < littleLives:
		return seldom
	}
	return now
}

// giveBack returns what a busy time took to the system once it is over, until ctx
// ends: Go by itself would keep most of it.
func giveBack(ctx context.Context) {
	tick := time.NewTicker(restAfter)
	defer tick.Stop()
	before, rested := read(allocated), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := read(allocated)
		resting := now-before < restingBytes
		if resting && !rested {
			debug.FreeOSMemory()
		}
		before, rested = now, resting
	}
}

// allocated is how many bytes this process has allocated since its start.
const allocated = "/gc/heap/allocs:bytes"

// read returns one of the runtime's metrics.
func read(name string) uint64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
