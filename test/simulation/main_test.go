// Package simulation runs one relay, with the real storage on an embedded Redis,
// against ten thousand twins that come and go, and counts what each of them costs.
// The clock is testing/synctest's and everything is in memory.
//
// go test runs few twins for a short time, which is enough for what must be true;
// make simulation runs all of it and prints what a twin costs. Most of the time is the
// embedded Redis's, which has scripts interpreted: 95 s for two thousand twins (ARGS='-twins
// 2000'), far more than five times that for ten thousand.
package simulation

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

var (
	full      = flag.Bool("full", false, "simulate ten thousand twins, and print what a twin costs")
	twinCount = flag.Int("twins", 10_000, "`number` of them, with -full")
	seed      = flag.Uint64("seed", 1, "of which twins are dead when")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
