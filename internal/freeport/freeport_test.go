package freeport

import (
	"fmt"
	"net"
	"testing"
)

// Two tests that draw the same port: the second one's server does not start.
func TestDrawnPortIsNobodyElsesUntilTheTestEnds(t *testing.T) {
	reserved := func(port int) bool {
		l, err := net.Listen("unix", fmt.Sprintf("@msgbusd-test-port-%d", port))
		if err == nil {
			_ = l.Close()
		}
		return err != nil
	}
	var port int
	t.Run("while it runs", func(t *testing.T) {
		if port = Draw(t); !reserved(port) {
			t.Errorf("port %d can be drawn twice", port)
		}
	})
	if reserved(port) {
		t.Errorf("port %d is still held", port)
	}
}
