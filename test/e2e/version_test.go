package e2e

import (
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// A relay on a Redis that is too old takes messages and fails at the first command that is
// not there. It must say so at the start, and with a status after which systemd tries
// again: the operator upgrades Redis, and need not think of the relay.
func TestTheRelayRefusesARedisThatIsTooOld(t *testing.T) {
	t.Parallel()
	a := fleettest.New(t).Site(1001)
	a.Without("--redis")
	a.Launch("--redis", redistest.Told(t, "# Server\r\nredis_version:6.0.16\r\n"))
	a.Daemon.WantSaid("is version 6.0.16, and msgbusd needs 6.2 or newer", "hint: upgrade it")
	a.Daemon.WantExit(1)
}
