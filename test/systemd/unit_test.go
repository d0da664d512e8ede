package systemd

import (
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/systemdtest"
)

// boot installs a relay on a machine, for a twin with a Redis of its own. It is not
// configured.
func boot(t *testing.T) *systemdtest.Relay {
	t.Helper()
	m := systemdtest.Boot(t)
	m.Run("cp", "-a", installed+"/.", "/")
	m.Run("systemctl", "daemon-reload")
	return m.RelayOf(fleettest.New(t).Site(1001))
}

// The life of a relay as systemd sees it, while apps ask: whatever becomes of the
// process, each request is handled once and answered.
//
// Seen to fail it: a unit that is not restarted after status 2, with which Go programs
// crash.
func TestUnitStartsGuardsReloadsAndStopsTheRelay(t *testing.T) {
	r := boot(t)
	if out, err := r.Try("systemctl", "start", systemdtest.Unit); err == nil || !strings.Contains(out, "Assertion failed") {
		t.Errorf("the start without a key ends with %v: %s", err, out)
	}

	// Its Redis is away: it waits, says so, and nobody kills it for that.
	r.Configure()
	r.Write("/etc/systemd/system/msgbusd.service.d/watchdog.conf", "644", "[Service]\nWatchdogSec=8\nTimeoutAbortSec=1\n")
	r.Run("systemctl", "daemon-reload")
	r.Site.Redis.Kill()
	r.Run("systemctl", "start", "--no-block", systemdtest.Unit)
	r.Await("StatusText~Redis")
	r.Await("ActiveState=activating", "TimeoutStartUSec=infinity", "NRestarts=0")

	// From here apps ask.
	r.Site.Redis.Restart()
	r.Await("ActiveState=active", "StatusText~serving twin 1001: queued ")
	service := r.Site.Serve("work", func(m fleettest.Message) (string, error) { return m.Data(), nil })
	asking := fleettest.NewLoad(r.Site, r.Site.ID)
	asking.GoOn()

	r.Run("kill", "-KILL", r.Property("MainPID"))
	r.Await("NRestarts=1", "ActiveState=active")
	asking.GoOn()

	// One that hangs is as bad as one that is gone, but nobody sees it. It is told to say
	// what it was doing, which Go programs do, and end with status 2.
	r.Run("kill", "-STOP", r.Property("MainPID"))
	r.Await("NRestarts=2", "ActiveState=active")
	r.AwaitLog("Watchdog timeout")
	asking.GoOn()

	r.Write("/etc/msgbusd/msgbusd.yaml", "644", "log-level: loud\n")
	r.Run("systemctl", "reload", systemdtest.Unit)
	r.AwaitLog("the settings are wrong, and stay what they were")
	r.Write("/etc/msgbusd/msgbusd.yaml", "644", "log-level: debug\n")
	r.Run("systemctl", "reload", systemdtest.Unit)
	r.AwaitLog("request ended") // which is said at this level only
	asking.GoOn()

	r.Run("systemctl", "restart", systemdtest.Unit)
	asking.GoOn()
	all := asking.End()
	r.Site.AwaitQuiet()
	service.WantOnce(t, all)
	r.Site.WantNoMore(all)
	r.Site.WantNoDead()

	r.Run("systemctl", "stop", systemdtest.Unit)
	r.Await("ActiveState=inactive", "Result=success", "ExecMainStatus=0", "StatusText~")
	if log := r.Log("--priority=err", "--since=-2s"); log != "" {
		t.Errorf("the stop is not quiet:\n%s", log)
	}
}

// A mistake in the settings is not mended by trying again, and its operator must not
// search for the first of a thousand tries.
//
// Seen to fail it: no RestartPreventExitStatus.
func TestUnitLeavesARelayWithWrongSettings(t *testing.T) {
	r := boot(t)
	r.Configure("MSGBUSD_WORKERS=many")
	if out, err := r.Try("systemctl", "start", systemdtest.Unit); err == nil {
		t.Errorf("the start succeeds: %s", out)
	}
	r.Await("ActiveState=failed", "ExecMainStatus=78", "NRestarts=0")
	r.AwaitLog("MSGBUSD_WORKERS")
}
