// Package packages holds the deb and the rpm package to their word: what is in
// them, and what becomes of a machine, and of a relay at work, when they come and go.
package packages

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// What builds packages is compiled from its source, which takes minutes on a new
// machine: more than make test has.
var full = flag.Bool("full", false, "build packages, and install and remove them")

// whole skips a test that needs packages where none are to be built.
func whole(t *testing.T) {
	t.Helper()
	if !*full {
		t.Skip("packages are built by make test-all, and by go test ./test/packages -full")
	}
}

// folder is where packages are built.
var folder string

// The packages of two versions, which are built when a test asks for the first time.
var (
	v1 = sync.OnceValues(func() (string, error) { return build("v1.0.0", filepath.Join("..", "..")) })
	v2 = sync.OnceValues(func() (string, error) { return build("v1.0.1", filepath.Join("..", "..")) })
)

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "msgbusd-packages-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(folder)
		os.Exit(code)
	}))
}

// build makes the packages of a version from a tree, for machines like
// this one.
func build(version string, tree string) (dist string, err error) {
	if dist, err = os.MkdirTemp(folder, "dist-"); err != nil {
		return "", err
	}
	cmd := exec.Command("make", "--no-print-directory", "packages", "ARCHES="+runtime.GOARCH, "DIST="+dist, "VERSION="+version,
		// Of no commit, and at no time of today: a tree with changes builds the same, too.
		"REVISION=0123456789abcdef", "SOURCE_DATE_EPOCH=1700000000")
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make packages: %w\n%s", err, out)
	}
	return dist, nil
}

// packageOf returns the file of one kind of package.
func packageOf(t *testing.T, dist func() (string, error), kind string) string {
	t.Helper()
	whole(t)
	dir, err := dist()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*."+kind))
	if err != nil || len(files) != 1 {
		t.Fatalf("the %s packages are %q (%v), want one", kind, files, err)
	}
	return files[0]
}
