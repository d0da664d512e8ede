package redistest_test

import (
	"testing"

	"github.com/msgbusd/msgbusd/internal/redistest"
)

// What a fail-over is tested with must fail over, and again when the first master is
// back, or a row that asks for fifty of them hangs at the second one.
func TestGroupFailsOverAndBecomesWholeAgain(t *testing.T) {
	g := redistest.StartGroup(t, redistest.Passwords{Servers: "p@ss:1", Sentinels: "other/2"})
	first := g.Servers[0]
	first.Kill()
	second := g.AwaitOther(first)
	g.Rejoin(first)
	g.AwaitWhole()
	if now, err := g.Master(); now != second {
		t.Errorf("the master is not the second server any more: %v", err)
	}
}
