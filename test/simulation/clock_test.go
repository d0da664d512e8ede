package simulation

import (
	"syscall"
	"time"
)

// realTime is the clock outside: in a bubble package time tells the fake one.
func realTime() time.Duration {
	var now syscall.Timeval
	_ = syscall.Gettimeofday(&now) // never fails
	return time.Duration(now.Nano())
}
