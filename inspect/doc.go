// Package inspect tells operators how a relay fares and where a message is, out of what
// is kept in Redis. The commands and the console say the same because both ask here. It
// changes nothing.
package inspect

import (
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Short is a length of time in the two largest of its units.
func Short(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	switch days := int(d.Hours()) / 24; {
	case days > 0:
		return fmt.Sprintf("%s%dd%dh", sign, days, int(d.Hours())%24)
	case d >= time.Hour:
		return fmt.Sprintf("%s%dh%dm", sign, int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%s%dm%ds", sign, int(d.Minutes()), int(d.Seconds())%60)
	case d >= time.Second:
		return fmt.Sprintf("%s%ds", sign, int(d.Seconds()))
	}
	return fmt.Sprintf("%s%dms", sign, d.Milliseconds())
}

// Because joins a reason with its detail; without any it is "-".
func Because(reason msgbus.Reason, detail string) string {
	switch {
	case reason == "":
		return "-"
	case detail == "":
		return string(reason)
	}
	return string(reason) + ": " + detail
}
