package backlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Server is what Redis tells of itself. What it does not tell is "".
type Server struct {
	Version         string  `json:"version"`
	Address         string  `json:"address"`
	AppendOnly      string  `json:"appendonly"`
	AppendFsync     string  `json:"appendfsync"`
	Save            *string `json:"save"` // nil: not told
	MaxMemoryPolicy string  `json:"maxmemory_policy"`
	UsedMemory      int64   `json:"used_memory"` // of what counts for MaxMemory, in bytes
	MaxMemory       int64   `json:"maxmemory"`   // 0: no limit, or not told
	Survives        string  `json:"survives"`    // what a crash of Redis loses

	Replication *Replication `json:"replication"` // nil without sentinels

	lastSave time.Time // zero: not told
	now      time.Time
}

// ViewServer asks CONFIG GET and, where that is refused, as providers of Redis do,
// INFO.
func (s *Store) ViewServer(ctx context.Context) (Server, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return Server{}, fmt.Errorf("read Redis's clock: %w", translate(err))
	}
	info := func(section, field string) string { return s.rdb.InfoMap(ctx, section).Item(section, field) }
	get := func(name string) *string {
		if value, ok := s.rdb.ConfigGet(ctx, name).Val()[name]; ok {
			return &value
		}
		return nil
	}
	f := Server{Version: info("Server", "redis_version"), Address: s.opts.Redis.String(), Save: get("save"), now: now}
	f.Version = orUnknown(f.Version)
	f.AppendFsync = text(get("appendfsync"))
	if f.AppendOnly = text(get("appendonly")); f.AppendOnly == "" {
		f.AppendOnly = map[string]string{"0": "no", "1": "yes"}[info("Persistence", "aof_enabled")]
	}
	if f.MaxMemoryPolicy = text(get("maxmemory-policy")); f.MaxMemoryPolicy == "" {
		f.MaxMemoryPolicy = info("Memory", "maxmemory_policy")
	}
	number := func(field string) int64 {
		n, _ := strconv.ParseInt(info("Memory", field), 10, 64)
		return n
	}
	f.UsedMemory, f.MaxMemory = number("used_memory")-number("mem_not_counted_for_evict"), number("maxmemory")
	if at, err := strconv.ParseInt(info("Persistence", "rdb_last_save_time"), 10, 64); err == nil {
		f.lastSave = time.Unix(at, 0)
	}
	f.Survives = f.survives()
	f.Replication = s.viewReplication(ctx, get)
	return f, nil
}

// Version asks Redis which one it is. One that does not tell is of the version "".
func (s *Store) Version(ctx context.Context) (Server, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	sections, err := s.rdb.InfoMap(ctx, "server").Result()
	if err != nil && failureOf(err) != FailedRefused {
		return Server{}, translate(err)
	}
	return Server{Version: sections["Server"]["redis_version"], Address: s.rdb.Options().Addr}, nil
}

// survives says what a crash of Redis loses.
func (f Server) survives() string {
	switch {
	case f.AppendOnly == "yes" && f.AppendFsync == "always":
		return "a crash of Redis loses nothing acknowledged"
	case f.AppendOnly == "yes" && f.AppendFsync == "everysec":
		return "a crash of Redis's machine loses up to about 2 s"
	case f.AppendOnly == "yes" && f.AppendFsync == "no":
		return "a crash of Redis's machine loses what the system has not written yet, about 30 s"
	case f.AppendOnly == "yes":
		return "a crash of Redis's machine loses up to about 2 s with everysec, nothing with always; Redis does not tell which it is"
	case f.AppendOnly == "":
		return "Redis does not tell what a crash of it loses"
	case f.Save != nil && *f.Save == "":
		return "a crash of Redis loses everything"
	case f.lastSave.IsZero():
		return "a crash of Redis loses everything since the last snapshot"
	}
	return fmt.Sprintf("a crash of Redis loses everything since the last snapshot, %s ago", max(0, f.now.Sub(f.lastSave)).Round(time.Second))
}

// Persistence names the settings that decide what a crash loses.
func (f Server) Persistence() string {
	out := []string{"appendonly " + orUnknown(f.AppendOnly)}
	if f.AppendOnly != "no" {
		out = append(out, "appendfsync "+orUnknown(f.AppendFsync))
	}
	if f.Save != nil {
		out = append(out, fmt.Sprintf("save %q", *f.Save))
	}
	return strings.Join(out, ", ")
}

// OldestRedis is the oldest version that has all that the scripts use.
const OldestRedis = "6.2"

// TooOld tells whether the relay needs a newer one.
func (f Server) TooOld() bool {
	major, rest, _ := strings.Cut(f.Version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	return errA == nil && errB == nil && (a < 6 || a == 6 && b < 2)
}

// Memory says what is wrong with how much Redis may have, or ok.
func (f Server) Memory() string {
	switch {
	case f.Evicts():
		return "Redis may drop messages"
	case f.Full():
		return "Redis is full"
	}
	return "ok"
}

// Full tells whether Redis refuses what would take more memory.
func (f Server) Full() bool {
	return f.MaxMemory > 0 && f.UsedMemory >= f.MaxMemory && !f.Evicts()
}

// Evicts tells whether Redis drops keys when it is full.
func (f Server) Evicts() bool {
	return f.MaxMemoryPolicy != "" && f.MaxMemoryPolicy != "noeviction"
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
