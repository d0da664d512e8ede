package packages

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Who doubts a package builds it again and compares. So neither the folder, nor the
// time, nor the habits of who builds may get into it. (`make reproducible` does the
// same with the whole release, from clones and with empty caches.)
//
// Seen to fail it: a build without -trimpath.
func TestPackagesAreTheSameBytesElsewhere(t *testing.T) {
	whole(t)
	first, err := v1()
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(t.TempDir(), "another", "folder")
	copyTree(t, tree)
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("GOFLAGS", "-buildvcs=true")
	old := syscall.Umask(0o077)
	second, err := build("v1.0.0", tree)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"deb", "rpm"} {
		a, b := packageOf(t, func() (string, error) { return first, nil }, kind), packageOf(t, func() (string, error) { return second, nil }, kind)
		one, err := os.ReadFile(a)
		if err != nil {
			t.Fatal(err)
		}
		another, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, another) || filepath.Base(a) != filepath.Base(b) {
			t.Errorf("%s and %s differ", filepath.Base(a), filepath.Base(b))
		}
	}
}

// copyTree copies what the packages are built from. Its files are of now, and only
// their owner may read them.
func copyTree(t *testing.T, to string) {
	t.Helper()
	from := filepath.Join("..", "..")
	skip := []string{".git", "bin", "dist", "bench", "test"}
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case d.IsDir() && (slices.Contains(skip, name) || d.Name() == "node_modules"):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(target, text, info.Mode()&0o700)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An upgrade goes to what sorts higher. A release that sorts below its candidate
// would never be installed.
func TestVersionsOfPackagesSort(t *testing.T) {
	var sorted []string
	for _, c := range []struct{ described, want string }{ // the oldest first
		{"c58955f", "0~20231114.221320.c58955f"},
		{"c58955f-dirty", "0~20231114.221320.c58955f.dirty"},
		{"v0.1.0", "0.1.0"},
		{"v1.3.0-rc.1", "1.3.0~rc.1"},
		{"v1.3.0-rc.1-4-gc58955f", "1.3.0~rc.1+4.gc58955f"},
		{"v1.3.0-rc.2", "1.3.0~rc.2"},
		{"v1.3.0", "1.3.0"},
		{"v1.3.0-4-gc58955f", "1.3.0+4.gc58955f"},
		{"v1.3.0-4-gc58955f-dirty", "1.3.0+4.gc58955f.dirty"},
		{"v1.3.0-12-g12345", "1.3.0+12.g12345"},
		{"v1.10.0", "1.10.0"},
	} {
		cmd := exec.Command("../../scripts/package-version", c.described)
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
		out, err := cmd.Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
			t.Errorf("%s is version %q (%v), want %s", c.described, got, err, c.want)
		}
		sorted = append(sorted, c.want)
	}
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("dpkg is not installed: the order is NOT checked")
	}
	for i := range len(sorted) - 1 {
		if err := exec.Command("dpkg", "--compare-versions", sorted[i], "lt", sorted[i+1]).Run(); err != nil {
			t.Errorf("%s is not older than %s: %v", sorted[i], sorted[i+1], err)
		}
	}
}
