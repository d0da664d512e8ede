// Package e2e runs the real thing: msgbusd processes, redis-server processes,
// HTTP between them, and looks at nothing but what apps, services, peers and
// operators see. With the race detector in the tests it is in the daemons too,
// and a race there fails the test.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// binary is the msgbusd that all tests start.
var binary string

// parallel is how many tests run at once. They wait more than they compute:
// for back-offs, leases and deadlines.
const parallel = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == flag.Lookup("test.parallel").DefValue {
		_ = flag.Set("test.parallel", parallel)
	}
	dir, err := os.MkdirTemp("", "msgbusd-e2e-")
	if err == nil {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// build builds msgbusd as it is now.
func build(dir string) error {
	binary = filepath.Join(dir, "msgbusd")
	args := []string{"build", "-o", binary}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/msgbusd/msgbusd/cmd/msgbusd")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build msgbusd: %w\n%s", err, out)
	}
	return nil
}

// Waiting is for events. patience is when an event counts as one that will not
// come; a loaded machine may take long, and nobody waits for it on success.
const (
	patience = 45 * time.Second
	lookAt   = 20 * time.Millisecond
)

// eventually waits until look finds nothing wrong.
func eventually(t testing.TB, what string, look func() error) {
	t.Helper()
	over := time.NewTimer(patience)
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
			t.Fatalf("%s: %v, after %s", what, err, patience)
		case <-again.C:
		}
	}
}
