package twin

import (
	"errors"
	"strconv"
	"strings"
)

// Ports are the ports from First to Last.
type Ports struct{ First, Last uint16 }

// ParsePorts reads a port or a range of ports: 8100 or 8000-8999.
func ParsePorts(text string) (Ports, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	if checkPort(first) != nil || checkPort(last) != nil {
		return Ports{}, errors.New("a port is a number from 1 to 65535, and a range two of them with a hyphen between")
	}
	from, _ := strconv.ParseUint(first, 10, 16) // checkPort has parsed both
	to, _ := strconv.ParseUint(last, 10, 16)
	if to < from {
		return Ports{}, errors.New("the range ends before it begins")
	}
	return Ports{First: uint16(from), Last: uint16(to)}, nil
}

// contain reports whether a port is one of them.
func (p Ports) contain(port uint16) bool { return p.First <= port && port <= p.Last }
