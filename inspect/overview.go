package inspect

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/internal/recent"
)

// An Overview is how the relay of this machine fares.
type Overview struct {
	At       time.Time      `json:"at"` // by Redis's clock
	Stats    backlog.Stats  `json:"stats"`
	Census   backlog.Census `json:"census"`
	Queues   QueueCounts    `json:"queues"`
	Lanes    LaneCounts     `json:"lanes"`
	Troubled []Trouble      `json:"troubled"` // lanes that do not go on by themselves at once, the fullest first
}

type QueueCounts struct {
	Local    int64 `json:"local"`
	Remote   int64 `json:"remote"`
	Reply    int64 `json:"reply"`
	Claimed  int64 `json:"claimed"` // by relays
	Services int64 `json:"services"`
	Unserved int64 `json:"unserved"` // queues that no service was ever seen to take from, nor has announced
	Waiting  int64 `json:"waiting"`  // messages in the queues of services
}

type LaneCounts struct {
	States   map[backlog.LaneState]int `json:"states"`
	Requests int64                     `json:"requests"`
	PutOff   int64                     `json:"put_off"`
	Replies  int64                     `json:"replies"`
}

// A Trouble is a lane that fails, or is put off or paused.
type Trouble struct {
	backlog.LaneView
	OldestSince time.Time `json:"oldest_since"` // when its oldest request was admitted; zero without one
}

// kept is how long an overview is good for.
const kept = time.Second

// Watch is an overview that all of a relay share who ask again and again: it is read once
// a second at most, however many they are.
func Watch(s *backlog.Store) *recent.Look[*Overview] {
	return recent.NewLook(kept, func(ctx context.Context) (*Overview, error) { return ReadOverview(ctx, s) })
}

// troubles is how many troubled lanes an overview names.
const troubles = 10

// ReadOverview reads how the relay fares from its store.
func ReadOverview(ctx context.Context, s *backlog.Store) (*Overview, error) {
	if err := s.ReadClock(ctx); err != nil {
		return nil, err
	}
	o := &Overview{At: s.Now(), Lanes: LaneCounts{States: map[backlog.LaneState]int{}}, Troubled: []Trouble{}}
	var err error
	if o.Stats, err = s.Stats(ctx); err != nil {
		return nil, err
	}
	if o.Census, err = s.Census(ctx); err != nil {
		return nil, err
	}
	queues, err := s.ViewQueues(ctx)
	if err != nil {
		return nil, err
	}
	o.Queues.add(queues)
	lanes, err := s.ViewLanes(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range lanes {
		o.Lanes.States[l.State]++
		o.Lanes.Requests += l.Requests
		o.Lanes.PutOff += l.PutOff
		o.Lanes.Replies += l.Replies
		if l.State == backlog.LaneFailing || l.State == backlog.LanePaused || l.State == backlog.LanePutOff {
			o.Troubled = append(o.Troubled, Trouble{LaneView: l})
		}
	}
	return o, rankTroubles(ctx, s, o)
}

// rankTroubles keeps the fullest of the troubled lanes, and finds out how long they
// have been waited for.
func rankTroubles(ctx context.Context, s *backlog.Store, o *Overview) error {
	slices.SortStableFunc(o.Troubled, func(a, b Trouble) int { return cmp.Compare(b.Requests+b.Replies, a.Requests+a.Replies) })
	if len(o.Troubled) > troubles {
		o.Troubled = o.Troubled[:troubles]
	}
	var uids []string
	for _, t := range o.Troubled {
		if t.Oldest != "" {
			uids = append(uids, t.Oldest)
		}
	}
	views, err := s.ViewNamed(ctx, uids...)
	if err != nil {
		return err
	}
	for _, v := range views { // without those that have just ended
		at := slices.IndexFunc(o.Troubled, func(t Trouble) bool { return t.Oldest == v.UID })
		o.Troubled[at].OldestSince = v.Admitted
	}
	return nil
}

func (q *QueueCounts) add(views []backlog.QueueView) {
	for _, v := range views {
		switch {
		case v.Service:
			q.Services++
			q.Waiting += max(0, v.Length)
			if v.Unserved() {
				q.Unserved++
			}
		case v.Name == "local":
			q.Local = v.Length
		case v.Name == "remote":
			q.Remote = v.Length
		default:
			q.Reply = v.Length
		}
		if !v.Service {
			q.Claimed += v.Claimed
		}
	}
}

// Oldest returns the lane that has been waited for longest, of those that are named
// because they do not go on; nil if there is none.
func (o *Overview) Oldest() *Trouble {
	var oldest *Trouble
	for i, t := range o.Troubled {
		if !t.OldestSince.IsZero() && (oldest == nil || t.OldestSince.Before(oldest.OldestSince)) {
			oldest = &o.Troubled[i]
		}
	}
	return oldest
}
