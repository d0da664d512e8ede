// Package freeport gives out ports that no other test has, in whichever process.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Above what services usually have, and below what Linux gives to outgoing
// connections by itself.
const low, high = 10_000, 32_000

// Address is 127.0.0.1 with a port of [Draw].
func Address(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", Draw(t))
}

// Draw returns a TCP port on which nobody listens at 127.0.0.1, and which nobody else
// draws before the test ends: it may stay free for as long as a server is down.
func Draw(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := low + rand.IntN(high-low)
		// An abstract socket of Linux: other test processes see it, and it leaves
		// nothing behind.
		reservation, err := net.Listen("unix", fmt.Sprintf("@msgbusd-test-port-%d", port))
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			_ = reservation.Close()
			continue
		}
		_ = l.Close()
		t.Cleanup(func() { _ = reservation.Close() })
		return port
	}
	t.Fatal("no port is free")
	return 0
}
