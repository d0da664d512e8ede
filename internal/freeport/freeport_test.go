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
	drawn := make(map[int]bool)
	t.Run("while it runs", func(t *testing.T) {
		for range 100 {
			port := Draw(t)
			if drawn[port] || !reserved(port) {
				t.Fatalf("port %d is given out twice", port)
			}
			drawn[port] = true
		}
	})
	for port := range drawn {
		if reserved(port) {
			t.Fatalf("port %d is still held", port)
		}
	}
}
