package clienttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// go test runs packages side by side. Two npm ci in one folder remove each
// other's files, and a leftover of an older lock file would not be "unmodified".
func TestInstallationRunsOncePerLockFile(t *testing.T) {
	n := newFakeNPM(t)

	var group errgroup.Group
	for range 4 {
		group.Go(func() error { return installLocked(t.Context(), n.dir) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	n.wantRuns(t, 1)

	n.write(t, "package-lock.json", "a newer one")
	for range 2 {
		if err := installLocked(t.Context(), n.dir); err != nil {
			t.Fatal(err)
		}
	}
	n.wantRuns(t, 2)
}

// An installation that was cut short must not pass for a good one next time.
func TestFailedInstallationIsTriedAgain(t *testing.T) {
	n := newFakeNPM(t)
	n.write(t, "fail", "")
	if err := installLocked(t.Context(), n.dir); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Fatalf("error is %v, want npm's own words", err)
	}
	if err := os.Remove(filepath.Join(n.dir, "fail")); err != nil {
		t.Fatal(err)
	}
	if err := installLocked(t.Context(), n.dir); err != nil {
		t.Fatal(err)
	}
	n.wantRuns(t, 2)
}

// fakeNPM is an npm that writes down its runs in the folder it runs in.
type fakeNPM struct{ dir string }

func newFakeNPM(t *testing.T) fakeNPM {
	t.Helper()
	bin := t.TempDir()
	script := "#!/bin/sh\necho run >>runs\nmkdir -p node_modules\n[ ! -e fail ] || { echo no network; exit 1; }\n"
	if err := os.WriteFile(filepath.Join(bin, "npm"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	n := fakeNPM{dir: t.TempDir()}
	n.write(t, "package-lock.json", "one")
	return n
}

func (n fakeNPM) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (n fakeNPM) wantRuns(t *testing.T, want int) {
	t.Helper()
	runs, err := os.ReadFile(filepath.Join(n.dir, "runs"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(runs), "run"); got != want {
		t.Fatalf("npm ran %d times, want %d", got, want)
	}
}
