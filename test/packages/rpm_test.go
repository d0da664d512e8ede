package packages

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The rpm package installs the same.
func TestRPMHoldsTheSame(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("rpm is not installed: the rpm package is NOT checked")
	}
	file := packageOf(t, v1, "rpm")
	query := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("rpm", append(append([]string{"-qp"}, args...), file)...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("rpm -qp %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	have := map[string]bool{}
	for line := range strings.Lines(query("--qf", `[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME} %{FILEFLAGS:fflags}\n]`)) {
		have[strings.TrimSpace(line)] = true
	}
	for _, want := range []string{
		"/usr/bin/msgbusd 100755 root",
		"/usr/lib/systemd/system/msgbusd.service 100644 root",
		"/usr/share/man/man1/msgbusd.1.gz 100644 root",
		"/usr/share/bash-completion/completions/msgbusd 100644 root",
		"/usr/share/fish/vendor_completions.d/msgbusd.fish 100644 root",
		"/usr/share/zsh/site-functions/_msgbusd 100644 root",
		"/usr/share/doc/msgbusd 40755 root",
		"/usr/share/doc/msgbusd/docs 40755 root",
		"/usr/share/doc/msgbusd/docs/monitoring 40755 root",
		"/usr/share/doc/msgbusd/docs/troubleshooting.md 100644 root",
		"/usr/share/doc/msgbusd/systemd 40755 root",
		"/etc/msgbusd 40755 root",
		"/etc/msgbusd/msgbusd.env.example 100644 root cn", // a configuration that is not replaced
	} {
		if !have[want] {
			t.Errorf("it does not hold %q but %v", want, have)
		}
		delete(have, want)
	}
	for other := range have {
		if !strings.HasPrefix(other, "/usr/share/doc/msgbusd/") {
			t.Errorf("it holds %q, too", other)
		}
	}
	if got := query("--qf", "%{NAME} %{VERSION} %{RELEASE} %{LICENSE} %{BUILDHOST} %{BUILDTIME}"); got != "msgbusd 1.0.0 1 Apache-2.0 localhost 1700000000" {
		t.Errorf("it is %q", got)
	}
}

// What rpm installs into a root of its own runs there, is replaced by a newer version
// and goes again, without what its operator has put there. The root has no shell for
// the scripts, which the next test is about.
func TestRPMIsInstalledUpgradedAndErased(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("rpm is not installed: the rpm package is NOT tested")
	}
	if os.Getuid() != 0 {
		t.Skip("only root may use another root with rpm: installing it is NOT tested")
	}
	m := newMachine(t)
	rpm := func(args ...string) {
		t.Helper()
		cmd := exec.Command("rpm", append([]string{"--root", m.root, "--dbpath", "/var/lib/rpm", "--nodeps", "--noscripts"}, args...)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("rpm %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	rpm("--install", packageOf(t, v1, "rpm"))
	m.wantVersion("v1.0.0")
	m.configure()
	rpm("--upgrade", packageOf(t, v2, "rpm"))
	m.wantVersion("v1.0.1")
	rpm("--erase", "msgbusd")
	for name := range m.files() {
		switch name {
		case "/etc/msgbusd", "/etc/msgbusd/mnemonic", "/etc/msgbusd/msgbusd.env":
		default:
			if strings.Contains(name, "msgbusd") {
				t.Errorf("an erasure leaves %s", name)
			}
		}
	}
	for _, name := range []string{"mnemonic", "msgbusd.env"} {
		if _, err := os.Stat(m.path("etc/msgbusd/" + name)); err != nil {
			t.Errorf("an erasure takes %s along: %v", name, err)
		}
	}
}

// rpm calls the same scripts as dpkg with a number. In an upgrade it runs the new
// version's first and then the old one's, which must not stop the relay.
func TestScriptsUnderRPM(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	run := func(script, count string) {
		t.Helper()
		cmd := exec.Command("sh", "../../packaging/"+script+".sh", count)
		cmd.Env = append(os.Environ(), "PATH="+m.bin+":"+os.Getenv("PATH"), "DPKG_ROOT="+m.root)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s %s: %v\n%s", script, count, err, out)
		}
	}
	run("postinstall", "1")
	m.wantTold("daemon-reload")
	m.configure()
	run("postinstall", "2")
	run("preremove", "1")
	run("postremove", "1")
	m.wantTold("daemon-reload", "--no-block try-restart msgbusd.service")
	run("preremove", "0")
	run("postremove", "0")
	m.wantTold("disable --now msgbusd.service", "daemon-reload")
	if _, err := os.Stat(m.path("etc/msgbusd/mnemonic")); err != nil {
		t.Errorf("the key is gone: %v", err)
	}
}
