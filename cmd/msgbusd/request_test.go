package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/redistest"
)

// Somebody whose relay does not run would read "i/o timeout" and look for a fault of
// Redis, instead of being asked whether msgbusd is running.
func TestAPopWithoutAnAnswerEndsWithItsDeadline(t *testing.T) {
	rdb := redistest.Start(t).Client()
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := pop(ctx, rdb, "nothing")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("pop: %v, want %v", err, context.DeadlineExceeded)
		}
	}
}
