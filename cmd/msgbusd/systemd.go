package main

import (
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notify tells systemd; without systemd nobody listens.
func notify(states ...string) {
	_, _ = daemon.SdNotify(false, strings.Join(states, "\n"))
}

// status is the line that systemctl status shows.
func status(text string) string {
	return "STATUS=" + strings.ReplaceAll(text, "\n", "; ")
}

// beat tells systemd's watchdog that the relay makes progress. A relay that
// waits for Redis does: it would not be better off after a restart.
func beat() { notify(daemon.SdNotifyWatchdog) }
