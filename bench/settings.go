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
	dead        int    // twins that are not there, for each of which ten requests wait
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
	if s.dead > 0 {
		text += fmt.Sprintf(", %d dead twins", s.dead)
	}
	return text
}

// settings returns the rows in the order of the table.
func settings() []setting {
	var all []setting
	for _, apps := range []kind{ordinary, batching} {
		for _, size := range []int{64, 1024, 16 << 10} {
			for _, outstanding := range []int{1, 16, 128, 512} {
				all = append(all, setting{apps: apps, outstanding: outstanding, size: size, key: "sr25519"})
			}
		}
		usual := setting{apps: apps, outstanding: 128, size: 64, key: "sr25519"}
		for _, outstanding := range []int{1, 16, 128, 512} {
			old := usual
			old.version1, old.outstanding = true, outstanding
			all = append(all, old)
		}
		other := usual
		other.key = "ed25519"
		all = append(all, other)
		for _, fsync := range []string{"everysec", "always"} {
			kept := usual
			kept.fsync = fsync
			all = append(all, kept)
		}
		for _, dead := range []int{9, 900} {
			some := usual
			some.dead = dead
			all = append(all, some)
		}
	}
	return all
}
