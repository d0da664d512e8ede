package main

import (
	"runtime"
	"testing"
)

// Ten thousand half-open connections must not cost three times what they hold.
func TestRelayThatHoldsMuchIsCollectedAsOftenAsAnyProgram(t *testing.T) {
	for _, c := range []struct {
		live uint64
		now  int
		want int
	}{
		{5 << 20, seldom, seldom},
		{40 << 20, seldom, seldom},
		{80 << 20, seldom, usual},
		{40 << 20, usual, usual}, // lest it goes to and fro
		{5 << 20, usual, seldom},
	} {
		if got := garbagePercent(c.live, c.now); got != c.want {
			t.Errorf("%d MiB live, %d %% allowed: %d %%, want %d", c.live>>20, c.now, got, c.want)
		}
	}
	runtime.GC()
	if read("/gc/heap/live:bytes") == 0 || read(allocated) == 0 {
		t.Error("the runtime knows no such metric any more")
	}
}
