package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseTTL reads a time to live as the original writes it: a number, and s, m, h or d, such
// as `90s` or `2d`; a number alone is of seconds.
func ParseTTL(s string) (time.Duration, error) {
	number, unit := s, time.Second
	for suffix, of := range map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour} {
		if n, ok := strings.CutSuffix(s, suffix); ok {
			number, unit = n, of
		}
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no time to live: a number with s, m, h or d", s)
	}
	if n > uint64(maxTTL/unit) {
		return 0, fmt.Errorf("%q is longer than %d days", s, maxTTL/(24*time.Hour))
	}
	return time.Duration(n) * unit, nil
}

// maxTTL is how long relays let requests live, as they are set up by default.
const maxTTL = 7 * 24 * time.Hour
