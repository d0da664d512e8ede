package clienttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The first build or installation on a machine downloads.
const installTimeout = 5 * time.Minute

// BuildZos builds the program of test/clients/zos and returns the path of the
// binary, which is removed with the test.
func BuildZos(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "zos")
	ctx, cancel := context.WithTimeout(t.Context(), installTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	cmd.Dir = clientDir(t, "zos")
	// It is a module of its own, whose go.sum says what "unmodified" is: neither a
	// workspace nor the caller's flags may replace or update anything.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("clienttest: go build in %s: %v\n%s", cmd.Dir, err, tail(out))
	}
	return binary
}

// InstallTS installs what test/clients/ts depends on, unless that has been done
// since package-lock.json last changed, and returns the folder. Test binaries
// that come at the same time wait for each other.
func InstallTS(t testing.TB) string {
	t.Helper()
	dir := clientDir(t, "ts")
	InstallNode(t, dir)
	return dir
}

// InstallNode is InstallTS for any folder with a package-lock.json.
func InstallNode(t testing.TB, dir string) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("clienttest: %s is not installed; run: apt-get install nodejs npm", program)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), installTimeout)
	defer cancel()
	if err := installLocked(ctx, dir); err != nil {
		t.Fatalf("clienttest: install what %s depends on: %v", dir, err)
	}
}

func installLocked(ctx context.Context, dir string) error {
	// A lock on the folder itself leaves no file behind, and ends with this process.
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock: %w", err)
	}

	// npm ci begins by removing node_modules, so an installation that was cut short
	// has no stamp.
	stamp := filepath.Join(dir, "node_modules", ".installed")
	want, err := lockSum(dir)
	if err != nil {
		return err
	}
	switch have, err := os.ReadFile(stamp); {
	case err == nil && bytes.Equal(have, want):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--omit=dev")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, tail(out))
	}
	return os.WriteFile(stamp, want, 0o644)
}

func lockSum(dir string) ([]byte, error) {
	lockfile, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%x\n", sha256.Sum256(lockfile)), nil
}

// clientDir finds test/clients/<name> from the folder that go test runs a
// package's tests in.
func clientDir(t testing.TB, name string) string {
	t.Helper()
	start, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for root := start; ; root = filepath.Dir(root) {
		dir := filepath.Join(root, "test", "clients", name)
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
		if root == filepath.Dir(root) {
			t.Fatalf("clienttest: no test/clients/%s above %s", name, start)
		}
	}
}
