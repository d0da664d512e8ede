package packages

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A machine is a root of its own for dpkg, on which a systemd seems to run: what it
// is told is written down.
type machine struct {
	t    *testing.T
	root string
	bin  string // holds the systemctl
	log  string // what systemctl was told
	read int    // of the log, by told
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("dpkg is not installed: the deb package is NOT tested")
	}
	dir := t.TempDir()
	m := &machine{t: t, root: filepath.Join(dir, "root"), bin: filepath.Join(dir, "bin"), log: filepath.Join(dir, "log")}
	for _, d := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "run/systemd/system"} {
		m.mkdir(d)
	}
	for _, f := range []string{"status", "available"} {
		m.write("var/lib/dpkg/"+f, "")
	}
	if err := os.Mkdir(m.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"$@\" >>'" + m.log + "'\n"
	if err := os.WriteFile(filepath.Join(m.bin, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) mkdir(name string) {
	m.t.Helper()
	if err := os.MkdirAll(m.path(name), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// configure does what the README says is to be done after an installation.
func (m *machine) configure() {
	m.t.Helper()
	m.mkdir("etc/msgbusd")
	m.write("etc/msgbusd/mnemonic", "a phrase\n")
	m.write("etc/msgbusd/msgbusd.env", "MSGBUSD_TWIN=1001\n")
}

// dpkg runs it on this root. Scripts of packages run outside of the root, since it
// has no shell, and are told where it is.
func (m *machine) dpkg(args ...string) {
	m.t.Helper()
	cmd := exec.Command("dpkg", append([]string{
		"--root=" + m.root, "--force-not-root", "--force-script-chrootless", "--force-bad-path",
		"--log=" + m.path("dpkg.log"), "--no-debsig"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+m.bin+":"+os.Getenv("PATH"), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("dpkg %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// wantTold wants systemctl to have been told just this since wantTold was asked last.
func (m *machine) wantTold(wants ...string) {
	m.t.Helper()
	text, err := os.ReadFile(m.log)
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	got := string(text)[m.read:]
	m.read = len(text)
	if want := strings.Join(append(wants, ""), "\n"); got != want {
		m.t.Errorf("systemctl is told\n%swant\n%s", got, want)
	}
}

// wantVersion wants the installed program to run, and to say which it is.
func (m *machine) wantVersion(version string) {
	m.t.Helper()
	out, err := exec.Command(m.path("usr/bin/msgbusd"), "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "msgbusd "+version+" (0123456789abcdef,") {
		m.t.Errorf("msgbusd version: %v, %q; want %s", err, out, version)
	}
}

// files returns what is installed, with modes; not dpkg's own.
func (m *machine) files() map[string]fs.FileMode {
	m.t.Helper()
	found := map[string]fs.FileMode{}
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, m.root)
		if name == "/var" || name == "/run" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err == nil && name != "" && name != "/dpkg.log" {
			found[name] = info.Mode()
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return found
}
