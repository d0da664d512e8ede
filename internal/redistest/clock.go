package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// MovableClock makes the server read its clock through faketime, so that
// [Server.SetClock] can set it. Time goes on by itself meanwhile, and what the
// server measures by the monotonic clock is not touched. A test is skipped where
// there is no faketime.
func MovableClock(t testing.TB) Option {
	t.Helper()
	lib := func(pattern string) string {
		found, _ := filepath.Glob(pattern)
		if len(found) == 0 {
			t.Skipf("no %s here; to run this case on a real Redis: apt-get install faketime", pattern)
		}
		return found[0]
	}
	// jemalloc reads the clock before libfaketime can tell it; glibc's malloc does not.
	libraries := lib("/usr/lib/*/libc_malloc_debug.so.0") + ":" + lib("/usr/lib/*/faketime/libfaketimeMT.so.1")
	return func(s *Server) {
		s.env = append(s.env, "LD_PRELOAD="+libraries, "FAKETIME_TIMESTAMP_FILE=clock", "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1")
	}
}

// SetClock sets the clock of a server with a [MovableClock] so far ahead of the
// machine's, at once and for its restarts too.
func (s *Server) SetClock(ahead time.Duration) {
	s.t.Helper()
	// In one step, because the server reads it at any time.
	next := filepath.Join(s.dir, "clock.next")
	if err := os.WriteFile(next, fmt.Appendf(nil, "%+.6f\n", ahead.Seconds()), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(s.dir, "clock")); err != nil {
		s.t.Fatal(err)
	}
}
