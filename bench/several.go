package main

import (
	"context"
	"fmt"
	"slices"
)

// several returns groups of rows that differ in how many relays share the Redis of a
// twin: between two such twins, and from one to ten of a fleet, whose lanes the relays
// can share out.
func several() (groups [][]setting) {
	for _, apps := range []kind{ordinary, batching} {
		for _, fleet := range []int{0, 10} {
			var group []setting
			for _, relays := range []int{1, 2, 4} {
				s := usual(apps)
				s.fleet, s.relays = fleet, relays
				group = append(group, s)
			}
			groups = append(groups, group)
		}
	}
	return groups
}

// measureInTurn adds the rows of a group that were asked for. They take turns, each
// time with processes of their own: those of another row would take their share of
// this machine, idle as they are.
func (t *table) measureInTurn(ctx context.Context, group []setting) error {
	group = slices.DeleteFunc(group, func(s setting) bool { return !t.options.only.MatchString(s.String()) })
	rows := make([]row, len(group))
	for range t.options.rounds {
		for i, s := range group {
			m, err := measureAlone(ctx, t.options, s)
			if err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
			rows[i].setting, rows[i].ours = s, append(rows[i].ours, m)
		}
	}
	for _, r := range rows {
		fmt.Println(r)
	}
	t.rows = append(t.rows, rows...)
	return nil
}

// measureAlone measures a setting once.
func measureAlone(ctx context.Context, o options, s setting) (measurement, error) {
	p, err := newPair(ctx, o.program, s)
	if err != nil {
		return measurement{}, err
	}
	defer p.stop()
	if err := p.warmUp(ctx, s, o.duration/4); err != nil {
		return measurement{}, err
	}
	return p.measure(ctx, s, o.duration)
}
