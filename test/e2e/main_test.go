// Package e2e runs the real thing: msgbusd processes, redis-server processes,
// HTTP between them, and looks at nothing but what apps, services, peers and
// operators see. With the race detector in the tests it is in the daemons too,
// and a race there fails the test.
package e2e

import (
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// parallel is how many tests run at once. They wait more than they compute:
// for back-offs, leases and deadlines.
const parallel = "6"

func TestMain(m *testing.M) { fleettest.Main(m, parallel) }
