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

func install(dir string) error {
	installed = filepath.Join(dir, "root")
	out, err := exec.Command("make", "-C", "../..", "--no-print-directory", "install", "BIN="+filepath.Join(dir, "msgbusd"), "DESTDIR="+installed).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make install: %w\n%s", err, out)
	}
	return nil
}
