// Package systemd runs the installed unit under a real systemd, and does to it what
// operators and machines do.
package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// installed is a folder with all that `make install` installs.
var installed string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "msgbusd-systemd-")
	if err == nil {
		err = install(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// install builds msgbusd as it is now, as users do without the race detector, and installs
// it.
func install(dir string) error {
	program := filepath.Join(dir, "msgbusd")
	installed = filepath.Join(dir, "root")
	for _, command := range [][]string{
		{"go", "build", "-o", program, "github.com/msgbusd/msgbusd/cmd/msgbusd"},
		{"make", "-C", "../..", "--no-print-directory", "--old-file=" + program, "install", "BIN=" + program, "DESTDIR=" + installed},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w\n%s", command, err, out)
		}
	}
	return nil
}
