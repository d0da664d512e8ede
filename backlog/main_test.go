package backlog_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Less than rapid's own 30, for the time's sake; the command line may say more.
	if err := flag.Set("rapid.steps", "14"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}
