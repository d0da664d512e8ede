package main

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// notify tells systemd; without systemd nobody listens.
func notify(states ...string) {
	_, _ = daemon.SdNotify(false, strings.Join(states, "\n"))
}

// status is the line that systemctl status shows.
func status(text string) string {
	return "STATUS=" + strings.ReplaceAll(text, "\n", "; ")
}

// reloadBegan says when a reload begins, which Type=notify-reload needs to know: a
// READY=1 that was on its way before is not its end.
func reloadBegan() string {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000)
}

// beat tells systemd's watchdog that the relay makes progress. A relay that
// waits for Redis does: it would not be better off after a restart.
func beat() { notify(daemon.SdNotifyWatchdog) }
