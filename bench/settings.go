package main

import "fmt"

// A kind is how apps use their Redis: see msgbusd bench --help.
type kind string

const (
	ordinary kind = "ordinary"
	batching kind = "batching"
)

// A setting is what one row of the table measures.
type setting struct {
	apps        kind
	outstanding int
	size        int    // bytes of data
	key         string // type of both twins' keys
	version1    bool   // a message a POST between the relays, as with published ones
	fsync       string // appendfsync of both Redis servers, or "" without an AOF

	fleet   int // twins that are asked in turn; 0: one, with a relay and a Redis of its own
	dead    int // twins that are not there
	waiting int // requests that wait for those

	relays int // of each twin that has a Redis, and share it; 0: one, where that is not what grows
}

func (s setting) String() string {
	size := fmt.Sprintf("%d B", s.size)
	if s.size >= 1024 {
		size = fmt.Sprintf("%d KiB", s.size/1024)
	}
	text := fmt.Sprintf("%s, %d × %s, %s", s.apps, s.outstanding, size, s.key)
	if s.version1 {
		text += ", v1"
	}
	if s.fsync != "" {
		text += ", appendfsync " + s.fsync
	}
	switch {
	case s.fleet > 0:
		text += fmt.Sprintf(", %d destination", s.fleet+s.dead)
		if s.fleet+s.dead > 1 {
			text += "s"
		}
		text += fmt.Sprintf(", %d %% dead", s.percentDead())
	case s.waiting > 0:
		text += fmt.Sprintf(", %d waiting for %d dead twins", s.waiting, s.dead)
	}
	if s.relays > 0 {
		text += fmt.Sprintf(", relays: %d", s.relays)
	}
	return text
}

func (s setting) percentDead() int { return 100 * s.dead / (s.fleet + s.dead) }

// isLoaded tells of a setting whose rows show what it costs that there is a lot of
// something.
func (s setting) isLoaded() bool { return s.fleet > 0 || s.waiting > 0 }

// grows returns how much there is of what grows from row to row, and what the rows
// have in common; 0 where nothing grows.
func (s setting) grows() (name string, amount int) {
	switch {
	case s.relays > 0:
	case s.fleet > 0:
		return fmt.Sprintf("%s, destinations, %d %% dead", s.apps, s.percentDead()), s.fleet + s.dead
	case s.waiting > 0:
		return fmt.Sprintf("%s, requests waiting", s.apps), s.waiting
	}
	return "", 0
}

// usual is the row that others differ from in one thing.
func usual(apps kind) setting { return setting{apps: apps, outstanding: 128, size: 64, key: "sr25519"} }

// settings returns the rows in the order of the table.
func settings() []setting {
	var all []setting
	for _, apps := range []kind{ordinary, batching} {
		all = append(all, matrix(apps)...)
	}
	for _, apps := range []kind{ordinary, batching} {
		all = append(all, destinations(apps)...)
	}
	for _, apps := range []kind{ordinary, batching} {
		for _, waiting := range []int{1000, 10_000, 100_000, 1_000_000} {
			s := usual(apps)
			s.dead, s.waiting = 1000, waiting
			all = append(all, s)
		}
	}
	return all
}

// matrix is one relay that asks another.
func matrix(apps kind) []setting {
	var all []setting
	each := []int{1, 16, 128, 512}
	for _, size := range []int{64, 1024, 16 << 10} {
		for _, outstanding := range each {
			s := usual(apps)
			s.size, s.outstanding = size, outstanding
			all = append(all, s)
		}
	}
	for _, outstanding := range each {
		s := usual(apps)
		s.version1, s.outstanding = true, outstanding
		all = append(all, s)
	}
	s := usual(apps)
	s.key = "ed25519"
	all = append(all, s)
	for _, fsync := range []string{"everysec", "always"} {
		s := usual(apps)
		s.fsync = fsync
		all = append(all, s)
	}
	return all
}

// destinations is one relay that asks many. Ten requests wait for each that is dead.
func destinations(apps kind) []setting {
	var all []setting
	for _, percent := range []int{0, 10, 90} {
		for _, count := range []int{1, 10, 100, 1000} {
			s := usual(apps)
			s.dead = count * percent / 100
			s.fleet, s.waiting = count-s.dead, 10*s.dead
			if percent == 0 || s.dead > 0 {
				all = append(all, s)
			}
		}
	}
	return all
}
