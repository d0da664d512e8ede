package main

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// longestSilence of a browser's machine ends its connection: what is sent to one whose network has
// gone would otherwise wait in the kernel for a quarter of an hour, and count as a
// connection of its user.
const longestSilence = 30 * time.Second

// endSilent is set on the listener; what it accepts has it, too.
func endSilent(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(longestSilence.Milliseconds()))
	})
	return errors.Join(err, set)
}
