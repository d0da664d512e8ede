package fleettest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// binary is the msgbusd that all tests of a package start.
var binary string

// Main is what a TestMain calls: it builds msgbusd as it is now, runs the tests,
// at most so many at once, looks for goroutines that they left, and calls last.
func Main(m *testing.M, parallel string, last ...func()) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == flag.Lookup("test.parallel").DefValue {
		_ = flag.Set("test.parallel", parallel)
	}
	dir, err := os.MkdirTemp("", "msgbusd-fleet-")
	if err == nil {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleettest:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		for _, f := range last {
			f()
		}
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
