package systemdtest

import (
	"fmt"
	"strings"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// Unit is what is installed.
const Unit = "msgbusd.service"

// A Relay is the one of a site, on a machine whose systemd runs it.
type Relay struct {
	*Machine
	Site *fleettest.Site
}

// RelayOf returns the relay of a site, which has been installed on the machine.
func (m *Machine) RelayOf(site *fleettest.Site) *Relay {
	r := &Relay{m, site}
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.t.Logf("the journal of the relay:\n%s", fleettest.Tail(r.Log(), 12_000))
		}
	})
	return r
}

// Configure does what docs/systemd.md says, and adds some lines to the settings.
func (r *Relay) Configure(more ...string) {
	r.t.Helper()
	r.Write("/etc/msgbusd/mnemonic", "600", r.Site.Secret+"\n")
	r.Write("/etc/msgbusd/msgbusd.yaml", "644", "log-level: info\n")
	r.Write("/etc/msgbusd/msgbusd.env", "644", strings.Join(append([]string{
		"MSGBUSD_SUBSTRATE=" + r.Site.Fleet.Substrate,
		fmt.Sprintf("MSGBUSD_TWIN=%d", r.Site.ID),
		"MSGBUSD_REDIS=" + r.Site.Redis.URL(),
		"MSGBUSD_LISTEN=" + r.Site.Listen,
		"MSGBUSD_ADMIN_LISTEN=" + r.Site.Admin,
		"MSGBUSD_ALLOW_NETWORK=127.0.0.0/8",
		"MSGBUSD_CONFIG=/etc/msgbusd/msgbusd.yaml",
	}, more...), "\n")+"\n")
}

// Await waits until properties of the unit are what is wanted: NAME=VALUE, or
// NAME~PART of the value.
func (r *Relay) Await(wants ...string) {
	r.t.Helper()
	for _, want := range wants {
		name, value, whole := strings.Cut(want, "=")
		if !whole {
			name, value, _ = strings.Cut(want, "~")
		}
		fleettest.Eventually(r.t, "the unit has "+want, func() error {
			got := r.Property(name)
			if got != value && (whole || !strings.Contains(got, value)) {
				return fmt.Errorf("%s is %q", name, got)
			}
			return nil
		})
	}
}

// AwaitLog waits until the journal has a line of the relay.
func (r *Relay) AwaitLog(text string) {
	r.t.Helper()
	fleettest.Eventually(r.t, fmt.Sprintf("the journal has %q", text), func() error {
		if log := r.Log(); !strings.Contains(log, text) {
			return fmt.Errorf("it has only:\n%s", log)
		}
		return nil
	})
}

// Log returns what the journal has of the unit.
func (r *Relay) Log(filter ...string) string {
	r.t.Helper()
	return r.Run(append([]string{"journalctl", "--no-pager", "--output=cat", "--unit=" + Unit}, filter...)...)
}

// Property returns one of the unit's, such as ActiveState.
func (r *Relay) Property(name string) string {
	r.t.Helper()
	return r.Run("systemctl", "show", "--value", "--property", name, Unit)
}
