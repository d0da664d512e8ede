package packages

import (
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/systemdtest"
)

// From an empty machine to an empty machine once more, with a real systemd, and with an
// upgrade under load in between.
func TestDebOnAMachineWithSystemd(t *testing.T) {
	old, next := packageOf(t, v1, "deb"), packageOf(t, v2, "deb")
	r := systemdtest.Boot(t).RelayOf(fleettest.New(t).Site(1001))
	r.Run("cp", old, "/root/old.deb") // not where they were built: a booting machine empties /tmp
	r.Run("cp", next, "/root/next.deb")

	r.Run("dpkg", "--install", "/root/old.deb")
	r.Await("ActiveState=inactive", "NRestarts=0", "UnitFileState=disabled") // nobody has configured it
	r.Configure()
	r.Run("systemctl", "enable", "--now", systemdtest.Unit)
	r.Await("ActiveState=active")
	if score := r.Run("systemd-analyze", "security", "--threshold=15", "--no-pager", systemdtest.Unit); !strings.Contains(score, "OK") {
		t.Errorf("the score of the unit is not OK:\n%s", score)
	}

	service := r.Site.Serve("work", func(m fleettest.Message) (string, error) { return m.Data(), nil })
	asking := fleettest.NewLoad(r.Site, r.Site.ID)
	asking.GoOn()
	before := r.Property("MainPID")
	r.Run("dpkg", "--install", "/root/next.deb")
	fleettest.Eventually(t, "the new version runs", func() error {
		_, err := r.Try("sh", "-c", `test "$(systemctl show --value --property MainPID msgbusd)" != `+before+` && systemctl is-active msgbusd`)
		return err
	})
	if version := r.Run("sh", "-c", `/proc/$(systemctl show --value --property MainPID msgbusd)/exe version`); !strings.HasPrefix(version, "msgbusd v1.0.1 ") {
		t.Errorf("what runs is %s", version)
	}
	asking.GoOn()
	all := asking.End()
	r.Site.AwaitQuiet()
	service.WantOnce(t, all)
	r.Site.WantNoMore(all)
	r.Site.WantNoDead()

	r.Run("dpkg", "--purge", "msgbusd")
	if left := r.Run("sh", "-c", "systemctl is-active msgbusd; ls -d /etc/msgbusd /usr/bin/msgbusd 2>&1; find /usr/lib/systemd /etc/systemd -name '*msgbusd*'"); left !=
		"inactive\nls: cannot access '/etc/msgbusd': No such file or directory\nls: cannot access '/usr/bin/msgbusd': No such file or directory" {
		t.Errorf("a purge leaves:\n%s", left)
	}
}
