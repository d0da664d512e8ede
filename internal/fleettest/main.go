package fleettest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	// In its own module, with the versions that it is built of: the tests may be in another.
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/msgbusd/msgbusd").Output()
	if err != nil {
		return fmt.Errorf("find the module of msgbusd: %w", err)
	}
	cmd := exec.Command("go", append(args, "./cmd/msgbusd")...)
	cmd.Dir = strings.TrimSpace(string(root))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build msgbusd: %w\n%s", err, out)
	}
	return nil
}
