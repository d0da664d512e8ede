package packages

import (
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// From an empty machine to an empty machine. A relay that starts before it is
// configured fails, and its operator's first sight of it is a red line; a removal
// that takes the key along costs the twin.
func TestDebIsInstalledRemovedAndPurged(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.dpkg("--install", packageOf(t, v1, "deb"))
	m.wantTold("daemon-reload")
	m.wantVersion("v1.0.0")
	for name, mode := range map[string]fs.FileMode{
		"/usr/bin/msgbusd":                                  0o755,
		"/usr/lib/systemd/system/msgbusd.service":           0o644,
		"/usr/share/man/man1/msgbusd.1.gz":                  0o644,
		"/usr/share/bash-completion/completions/msgbusd":    0o644,
		"/usr/share/fish/vendor_completions.d/msgbusd.fish": 0o644,
		"/usr/share/zsh/vendor-completions/_msgbusd":        0o644,
		"/usr/share/doc/msgbusd/copyright":                  0o644,
		"/usr/share/doc/msgbusd/README.md":                  0o644,
		"/usr/share/doc/msgbusd/docs/troubleshooting.md":    0o644,
		"/etc/msgbusd":                     0o755 | fs.ModeDir,
		"/etc/msgbusd/msgbusd.env.example": 0o644,
	} {
		if got, ok := m.files()[name]; !ok || got != mode {
			t.Errorf("%s: there %t, mode %v; want %v", name, ok, got, mode)
		}
	}
	unit, err := os.ReadFile(m.path("usr/lib/systemd/system/msgbusd.service"))
	if err != nil || !regexp.MustCompile(`(?m)^ExecStart=/usr/bin/msgbusd$`).Match(unit) {
		t.Errorf("the unit does not start /usr/bin/msgbusd (%v):\n%s", err, unit)
	}
	if text := unzipped(t, m.path("usr/share/man/man1/msgbusd.1.gz")); !strings.HasPrefix(text, ".TH MSGBUSD 1 2023-11-14 \"msgbusd v1.0.0\"") {
		t.Errorf("the manual begins with %.80q", text)
	}

	// Removed, it can come back as it was. Purged, nothing is left.
	m.configure()
	m.dpkg("--remove", "msgbusd")
	m.wantTold("disable --now msgbusd.service", "daemon-reload")
	left := m.files()
	for _, name := range []string{"/etc/msgbusd/mnemonic", "/etc/msgbusd/msgbusd.env", "/etc/msgbusd/msgbusd.env.example"} {
		if _, ok := left[name]; !ok {
			t.Errorf("a removal takes %s along", name)
		}
	}
	if _, ok := left["/usr/bin/msgbusd"]; ok {
		t.Error("a removal leaves the program")
	}
	m.dpkg("--purge", "msgbusd")
	m.wantTold("daemon-reload")
	for name := range m.files() {
		if strings.Contains(name, "msgbusd") {
			t.Errorf("a purge leaves %s", name)
		}
	}
}

// A machine that is set up by a tool gets its configuration first. There the
// package must start the relay, and not wait for it: its Redis may come later.
func TestDebStartsARelayThatIsConfiguredAlready(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.configure()
	m.dpkg("--install", packageOf(t, v1, "deb"))
	m.wantTold("daemon-reload", "enable msgbusd.service", "--no-block start msgbusd.service")
}

// An image that is being built has no systemd to talk to; the one of the machine that
// builds it must be left alone.
func TestDebTellsNothingToASystemdOfAnotherRoot(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	if err := os.RemoveAll(m.path("run")); err != nil {
		t.Fatal(err)
	}
	m.configure()
	m.dpkg("--install", packageOf(t, v1, "deb"))
	m.dpkg("--purge", "msgbusd")
	m.wantTold()
}

// The daily case: a new version comes while requests flow, both ways. The old relay
// works until the new program is in place, then systemd restarts it. Not one request
// may be lost, or handled twice.
//
// Seen to fail it: postinstall.sh without try-restart.
func TestUpgradeUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.dpkg("--install", packageOf(t, v1, "deb"))
	m.wantTold("daemon-reload")
	packageOf(t, v2, "deb") // what takes long, before the load

	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	for _, s := range []*fleettest.Site{a, b} {
		s.Program = m.path("usr/bin/msgbusd")
		s.Launch()
	}
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()
	service := b.Serve("work", func(m fleettest.Message) (string, error) { return m.Data(), nil })

	l := fleettest.NewLoad(a, b.ID)
	service.Next(t) // it flows
	m.dpkg("--install", packageOf(t, v2, "deb"))
	m.wantTold("daemon-reload", "--no-block try-restart msgbusd.service")
	m.wantVersion("v1.0.1")
	// What systemd does then.
	for _, s := range []*fleettest.Site{a, b} {
		s.Daemon.Stop()
		s.Start()
	}
	l.GoOn() // through the new ones
	all := l.End()

	a.AwaitQuiet()
	b.AwaitQuiet()
	service.WantOnce(t, all)
	a.WantNoMore(all)
	a.WantNoDead()
	b.WantNoDead()
	if now, err := os.Readlink("/proc/" + strconv.Itoa(a.Daemon.Proc.Pid()) + "/exe"); err == nil && now != a.Program {
		t.Errorf("the relay that runs is %s", now)
	}

	m.dpkg("--purge", "msgbusd")
}

func unzipped(t *testing.T, name string) string {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
