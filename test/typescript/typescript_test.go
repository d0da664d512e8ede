// Package typescript installs, builds and tests the TypeScript client of
// clients/typescript as somebody does who has cloned the project: with npm, in a
// folder of its own, against the relay as it is now.
package typescript

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	client = "../../clients/typescript"

	// The first installation on a machine downloads; the tests wait for a lease.
	patience = 5 * time.Minute
)

// An app that is written with the client gets no answer from the relay that is
// released beside it, or cannot even install it.
func TestTheClientInstallsBuildsAndPassesItsTests(t *testing.T) {
	for _, program := range []string{"node", "npm", "redis-server"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is not installed; run: apt-get install nodejs npm redis-server", program)
		}
	}
	msgbusd := filepath.Join(t.TempDir(), "msgbusd")
	run(t, "../..", nil, "go", "build", "-o", msgbusd, "./cmd/msgbusd")

	dir := copyOf(t, client)
	run(t, dir, nil, "npm", "ci", "--no-audit", "--no-fund")
	run(t, dir, nil, "npm", "run", "build")
	run(t, dir, []string{"MSGBUSD=" + msgbusd}, "npm", "test")
}

// copyOf is a copy of what is the client's, without what was installed and built
// there.
func copyOf(t *testing.T, of string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "client")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(of)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		from, to := filepath.Join(of, e.Name()), filepath.Join(dir, e.Name())
		switch {
		case e.Name() == "node_modules" || e.Name() == "dist":
		case e.IsDir():
			err = os.CopyFS(to, os.DirFS(from))
		default:
			var text []byte
			if text, err = os.ReadFile(from); err == nil {
				err = os.WriteFile(to, text, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	// What npm starts ends with it, servers too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out[max(0, len(out)-20_000):])
	}
	t.Logf("%s %v:\n%s", name, args, out[max(0, len(out)-1_000):])
}
