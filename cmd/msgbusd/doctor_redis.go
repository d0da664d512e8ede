package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisFacts are what Redis tells of itself. What it does not tell is "".
type redisFacts struct {
	Version         string  `json:"version"`
	Address         string  `json:"address"`
	AppendOnly      string  `json:"appendonly"`
	AppendFsync     string  `json:"appendfsync"`
	Save            *string `json:"save"` // nil: not told
	MaxMemoryPolicy string  `json:"maxmemory_policy"`
	Survives        string  `json:"survives"` // what a crash of Redis loses

	lastSave time.Time // zero: not told
	now      time.Time
}

// readRedisFacts asks CONFIG GET and, where that is refused, as providers of
// Redis do, INFO.
func readRedisFacts(ctx context.Context, rdb *redis.Client) (redisFacts, error) {
	now, err := rdb.Time(ctx).Result()
	if err != nil {
		return redisFacts{}, fmt.Errorf("read Redis's clock: %w", err)
	}
	info := func(section, field string) string { return rdb.InfoMap(ctx, section).Item(section, field) }
	get := func(name string) *string {
		if value, ok := rdb.ConfigGet(ctx, name).Val()[name]; ok {
			return &value
		}
		return nil
	}
	f := redisFacts{Version: info("Server", "redis_version"), Address: rdb.Options().Addr, Save: get("save"), now: now}
	f.Version = known(f.Version)
	f.AppendFsync = text(get("appendfsync"))
	if f.AppendOnly = text(get("appendonly")); f.AppendOnly == "" {
		f.AppendOnly = map[string]string{"0": "no", "1": "yes"}[info("Persistence", "aof_enabled")]
	}
	if f.MaxMemoryPolicy = text(get("maxmemory-policy")); f.MaxMemoryPolicy == "" {
		f.MaxMemoryPolicy = info("Memory", "maxmemory_policy")
	}
	if s, err := strconv.ParseInt(info("Persistence", "rdb_last_save_time"), 10, 64); err == nil {
		f.lastSave = time.Unix(s, 0)
	}
	f.Survives = f.survives()
	return f, nil
}

// survives says what a crash of Redis loses.
func (f *redisFacts) survives() string {
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

func (f *redisFacts) settings() string {
	out := []string{"appendonly " + known(f.AppendOnly)}
	if f.AppendOnly != "no" {
		out = append(out, "appendfsync "+known(f.AppendFsync))
	}
	if f.Save != nil {
		out = append(out, fmt.Sprintf("save %q", *f.Save))
	}
	return strings.Join(out, ", ")
}

// oldestRedis is the oldest version that has all that the scripts use.
const oldestRedis = "6.2"

func (f *redisFacts) tooOld() bool {
	major, rest, _ := strings.Cut(f.Version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	return errA == nil && errB == nil && (a < 6 || a == 6 && b < 2)
}

// evicts tells whether Redis drops keys when it is full.
func (f *redisFacts) evicts() bool {
	return f.MaxMemoryPolicy != "" && f.MaxMemoryPolicy != "noeviction"
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func known(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
