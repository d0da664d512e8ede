package backlog

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Replication is what a master and its sentinels tell of a fail-over. Replicas get what is
// written a moment later, so a fail-over loses the last moments, and what a master that was
// cut off took until it noticed.
type Replication struct {
	Replicas  int        `json:"replicas"`              // that are attached
	MinToHave string     `json:"min_replicas_to_write"` // "": not told
	MaxLag    string     `json:"min_replicas_max_lag"`  // in seconds
	Sentinels []Sentinel `json:"sentinels"`             // of the address
}

// A Sentinel is what one of them tells.
type Sentinel struct {
	Address string        `json:"address"`
	Error   string        `json:"error"` // why it tells nothing, or ""
	Master  string        `json:"master"`
	Known   int           `json:"sentinels"` // that watch the master
	Quorum  int           `json:"quorum"`
	Down    time.Duration `json:"down_after"`
}

func (s *Store) viewReplication(ctx context.Context, get func(string) *string) *Replication {
	told := s.opts.Redis.Sentinels(ctx)
	if len(told) == 0 {
		return nil
	}
	f := &Replication{MinToHave: text(get("min-replicas-to-write")), MaxLag: text(get("min-replicas-max-lag"))}
	f.Replicas, _ = strconv.Atoi(s.rdb.InfoMap(ctx, "replication").Item("Replication", "connected_slaves"))
	for _, v := range told {
		one := Sentinel{Address: v.Address, Master: v.Master, Known: v.Sentinels, Quorum: v.Quorum, Down: v.DownAfter}
		if v.Err != nil {
			one = Sentinel{Address: v.Address, Error: v.Err.Error()}
		}
		f.Sentinels = append(f.Sentinels, one)
	}
	return f
}

// answered is one of the sentinels that tell something, and how many those are.
func (f *Replication) answered() (one Sentinel, n int) {
	for _, s := range f.Sentinels {
		if s.Error == "" {
			one = s
			n++
		}
	}
	return one, n
}

// Loses says what a fail-over loses.
func (f *Replication) Loses() string {
	if f.Unbounded() {
		return "a fail-over loses what no replica had; a master that is cut off goes on to take messages, and all of those are lost"
	}
	return fmt.Sprintf("a fail-over loses what no replica had; a master that is cut off takes messages for %s s more, which are lost", orUnknown(f.MaxLag))
}

// Unbounded tells whether a master that is cut off takes messages for ever.
func (f *Replication) Unbounded() bool { return f.MinToHave == "0" }

// Alone tells whether nothing could become the master.
func (f *Replication) Alone() bool { return f.Replicas == 0 }

// Few tells whether the death of one machine leaves too few sentinels to agree on another
// master.
func (f *Replication) Few() bool {
	one, _ := f.answered()
	return one.Known < 3 || one.Quorum > one.Known/2+1
}

// Missing is how many sentinels of the address tell nothing.
func (f *Replication) Missing() int {
	_, n := f.answered()
	return len(f.Sentinels) - n
}

// String is for people.
func (f *Replication) String() string {
	one, n := f.answered()
	return fmt.Sprintf("%d replicas, min-replicas-to-write %s; %d of %d sentinels answer, %d watch %s, quorum %d, down after %s",
		f.Replicas, orUnknown(f.MinToHave), n, len(f.Sentinels), one.Known, one.Master, one.Quorum, one.Down)
}
