// Package freeport gives out ports that nobody else who asks it has, in whichever
// process.
package freeport

import (
	"errors"
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
	return at(Draw(t))
}

// Draw returns a TCP port on which nobody listens at 127.0.0.1, and which nobody else
// draws before the test ends: it may stay free for as long as a server is down.
func Draw(t testing.TB) int {
	t.Helper()
	port, release, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return port
}

// Reserve is [Draw] for what is no test: the port is nobody else's until release.
func Reserve() (port int, release func(), err error) {
	for range 1000 {
		port := low + rand.IntN(high-low)
		// An abstract socket of Linux: other processes see it, and it leaves nothing
		// behind.
		reservation, err := net.Listen("unix", fmt.Sprintf("@msgbusd-test-port-%d", port))
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", at(port))
		if err != nil {
			_ = reservation.Close()
			continue
		}
		_ = l.Close()
		return port, func() { _ = reservation.Close() }, nil
	}
	return 0, nil, errors.New("no port is free")
}

func at(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
