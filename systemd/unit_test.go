// Package systemd_test keeps what the operator gets to its word, as far as that
// can be told without a running systemd.
package systemd_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const unit = "msgbusd.service"

// A twin faces the whole network. Without the sandbox, a hole in the relay is a
// hole in the machine. Take DynamicUser= and PrivateUsers= out, for one, and this fails.
func TestUnitIsHardened(t *testing.T) {
	analyze(t, "security", "--offline=true", "--threshold=15", "--no-pager", unit)
}

// systemd ignores a line that it does not understand, and nobody looks into the
// journal for that: a misspelt setting is a setting that is off.
func TestUnitHasNoLineThatSystemdIgnores(t *testing.T) {
	// The program need not be installed to check the unit.
	text := regexp.MustCompile(`(?m)^ExecStart=\S+`).ReplaceAll(read(t, unit), []byte("ExecStart=/bin/true"))
	copied := filepath.Join(t.TempDir(), unit)
	if err := os.WriteFile(copied, text, 0o644); err != nil {
		t.Fatal(err)
	}
	analyze(t, "verify", "--man=no", "--recursive-errors=no", copied)
}

// The name in ExecStart is a promise about where `make install` puts the
// program. Where the two differ, the unit fails with 203/EXEC.
func TestInstalledUnitStartsTheInstalledProgram(t *testing.T) {
	for _, prefix := range []string{"/usr/local", "/usr"} {
		dest := t.TempDir()
		program := filepath.Join(t.TempDir(), "msgbusd")
		if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{"install", "uninstall"} {
			// The program stands in for the built one, which make takes for up to date.
			cmd := exec.Command("make", "-C", "..", "--no-print-directory", "--old-file="+program,
				target, "BIN="+program, "PREFIX="+prefix, "DESTDIR="+dest)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("make %s: %v\n%s", target, err, out)
			}
			if target == "install" {
				checkInstalled(t, dest, prefix)
			}
		}
		if left := files(t, dest); len(left) > 0 {
			t.Errorf("PREFIX=%s: make uninstall leaves %q", prefix, left)
		}
	}
}

func checkInstalled(t *testing.T, dest, prefix string) {
	t.Helper()
	text := read(t, filepath.Join(dest, prefix, "lib/systemd/system", unit))
	start := regexp.MustCompile(`(?m)^ExecStart=(\S+)`).FindSubmatch(text)
	if start == nil {
		t.Fatalf("PREFIX=%s: the installed unit has no ExecStart:\n%s", prefix, text)
	}
	info, err := os.Stat(filepath.Join(dest, string(start[1])))
	if err != nil {
		t.Fatalf("PREFIX=%s: what the unit starts is not installed: %v", prefix, err)
	}
	if info.Mode().Perm() != 0o755 {
		t.Errorf("PREFIX=%s: %s has mode %v, want 0755", prefix, start[1], info.Mode().Perm())
	}
	for file, asked := range map[string]string{
		"man/man1/msgbusd.1":                     "manual",
		"bash-completion/completions/msgbusd":    "completion bash",
		"fish/vendor_completions.d/msgbusd.fish": "completion fish",
		"zsh/site-functions/_msgbusd":            "completion zsh",
	} {
		if text := string(read(t, filepath.Join(dest, prefix, "share", file))); text != asked+"\n" {
			t.Errorf("PREFIX=%s: %s is %q, want what msgbusd %s prints", prefix, file, text, asked)
		}
	}
}

// An operator copies the example and fills in three lines. A line that systemd
// does not take is skipped, and the relay starts with a default in its place.
func TestExampleEnvironmentIsLinesThatSystemdReads(t *testing.T) {
	// Neither spaces nor quotes nor a comment behind the value: systemd would take
	// each of them for a part of it, or not, by rules that nobody has in mind.
	setting := regexp.MustCompile(`^#?(MSGBUSD_[A-Z_]+)=([^\s"'\\#]+)$`)
	values := map[string]string{}
	for n, line := range strings.Split(string(read(t, "msgbusd.env.example")), "\n") {
		m := setting.FindStringSubmatch(line)
		switch {
		case m != nil && values[m[1]] != "":
			t.Errorf("line %d sets %s again", n+1, m[1])
		case m != nil:
			values[m[1]] = m[2]
		case line != "" && line != "#" && !strings.HasPrefix(line, "# "):
			t.Errorf("line %d is neither a setting nor a comment: %q", n+1, line)
		}
	}
	for _, name := range []string{"MSGBUSD_SUBSTRATE", "MSGBUSD_TWIN", "MSGBUSD_REDIS"} {
		if values[name] == "" {
			t.Errorf("the example does not set %s", name)
		}
	}
}

// analyze runs systemd-analyze and fails the test with what it says.
func analyze(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed, the unit is NOT checked; run: apt-get install systemd")
	}
	if out, err := exec.Command("systemd-analyze", args...).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func files(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
