package backlog

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Group returns the twins of a group, in order; none of one that nobody has made.
func (s *Store) Group(ctx context.Context, name string) ([]uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	members, err := s.rdb.SMembers(ctx, s.keys.group(name)).Result()
	if err != nil && !isWrongType(err) {
		return nil, fmt.Errorf("read group %s: %w", name, translate(err))
	}
	var twins []uint32
	for _, m := range members {
		if twin, err := strconv.ParseUint(m, 10, 32); err == nil && twin > 0 {
			twins = append(twins, uint32(twin))
		}
	}
	slices.Sort(twins)
	return twins, nil
}

// AddToGroup makes twins members of a group, which it makes if need be, and returns how
// many were none.
func (s *Store) AddToGroup(ctx context.Context, name string, twins []uint32) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	n, err := s.rdb.SAdd(ctx, s.keys.group(name), membersOf(twins)...).Result()
	if err != nil {
		return 0, fmt.Errorf("add to group %s: %w", name, translate(err))
	}
	return n, nil
}

// RemoveFromGroup takes twins out of a group, and returns how many were in it. A group
// without members is none.
func (s *Store) RemoveFromGroup(ctx context.Context, name string, twins []uint32) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	n, err := s.rdb.SRem(ctx, s.keys.group(name), membersOf(twins)...).Result()
	if err != nil {
		return 0, fmt.Errorf("remove from group %s: %w", name, translate(err))
	}
	return n, nil
}

func membersOf(twins []uint32) []any {
	members := make([]any, len(twins))
	for i, twin := range twins {
		members[i] = id(twin)
	}
	return members
}

// Groups returns the names of the groups, in order. It looks through all keys of Redis.
func (s *Store) Groups(ctx context.Context) ([]string, error) {
	prefix := s.keys.group("")
	var names []string
	for cursor := uint64(0); ; {
		page, next, err := s.scanGroups(ctx, cursor, escapeGlob(prefix)+"*")
		if err != nil {
			return nil, fmt.Errorf("list the groups: %w", translate(err))
		}
		for _, key := range page {
			names = append(names, strings.TrimPrefix(key, prefix))
		}
		if cursor = next; cursor == 0 {
			slices.Sort(names)
			return slices.Compact(names), nil // SCAN may tell a key twice
		}
	}
}

func (s *Store) scanGroups(ctx context.Context, cursor uint64, match string) (page []string, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.rdb.ScanType(ctx, cursor, match, keysStep, "set").Result()
}
