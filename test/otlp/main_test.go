// Package otlp has real relays export their spans to the OTLP receiver of the
// OpenTelemetry collector. It is a module of its own, so that what that needs is not in
// the product's go.mod.
package otlp

import (
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

func TestMain(m *testing.M) { fleettest.Main(m, "4") }
