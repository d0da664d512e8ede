package backlog

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A State is what is wrong with a message, or with what stands for it.
type State string

// The states in which no message of a sound store is, at any instant.
const (
	WrongType      State = "wrong_type"      // a key of ours holds another type
	Unreadable     State = "unreadable"      // what stands there was not written by a relay
	NoEntry        State = "no_entry"        // a deadline or a place on a lane, and no request
	NoDeadline     State = "no_deadline"     // it will never end
	WrongDeadline  State = "wrong_deadline"  // it ends later than it says
	NoTries        State = "no_tries"        // on a lane, but its tries are not counted
	NotOnLane      State = "not_on_lane"     // its tries are counted, or its reply kept, but no lane has it
	WrongLane      State = "wrong_lane"      // on the lane to another twin
	WrongPlace     State = "wrong_place"     // on its lane out of its order
	NoReply        State = "no_reply"        // a reply's deadline or place on a lane, and no reply
	NoRecord       State = "no_record"       // the deadline of an open request, and no record
	Unserved       State = "unserved"        // on a lane that no relay will look at
	Overdue        State = "overdue"         // should have ended, and a relay lives that ends such
	UnknownSession State = "unknown_session" // claimed, and nobody will give it back
	NotAnnounced   State = "not_announced"   // taken by a service, and nobody will give it back when that ends
	NotCounted     State = "not_counted"     // an open request that is not counted as its twin's, or the reverse
	InBoth         State = "in_both"         // in two places of which it can have one
	NoWindow       State = "no_window"       // repeats of what was accepted cannot be told
)

// A Finding names something that is in no state that it can be in, or in two.
type Finding struct {
	Key   string `json:"key"` // in Redis
	ID    string `json:"id"`  // of the message (or twin, command, epoch's slot) in the key; may be empty
	State State  `json:"state"`
	Text  string `json:"text"` // says it in words
}

// A Report is what a Check found.
type Report struct {
	Findings []Finding // the first ones
	More     int       // how many others there are, about
	Messages int       // requests, replies and open records that were looked at
}

const (
	mostFindings = 100
	// overdueAfter is when a relay has certainly ended what is due.
	overdueAfter = 5 * time.Second
	// takeOver is when another relay has certainly given back what an ended
	// session claimed.
	takeOver = 30 * time.Second
	// Redis reads this much in one step. Entries and replies may be large.
	bodiesStep = 64
	namesStep  = 512
	keysStep   = 1000
)

// Check walks what is kept and names each message that is in no state, or in
// two. Each invariant that it looks at holds between any two scripts, and is
// looked at in one: relays that are at work make no findings. Overdue is the one
// that passes: a relay makes it by being late, for example just after its start.
//
// What Check cannot know is whether a message of a claim is in the backlog too:
// a request has no name before admit.
func (s *Store) Check(ctx context.Context) (*Report, error) {
	c := &checker{Store: s, report: &Report{}, named: map[Finding]bool{}}
	match := escapeGlob(s.keys.system("")) + "*"
	var cursor uint64
	for {
		page, next, err := c.scanKeys(ctx, cursor, match)
		if err != nil {
			return nil, fmt.Errorf("list the keys: %w", translate(err))
		}
		for _, k := range page {
			if err := c.look(ctx, k); err != nil {
				return nil, fmt.Errorf("look at %s: %w", k.name, err)
			}
		}
		if cursor = next; cursor == 0 {
			return c.report, nil
		}
	}
}

// A checker is one walk.
type checker struct {
	*Store
	report *Report
	named  map[Finding]bool // in report.Findings: SCAN may tell a name twice
}

func (c *checker) found(key, id string, state State, format string, args ...any) {
	f := Finding{Key: key, ID: id, State: state, Text: fmt.Sprintf(format, args...)}
	switch {
	case c.named[f]:
	case len(c.report.Findings) < mostFindings:
		c.named[f] = true
		c.report.Findings = append(c.report.Findings, f)
	default:
		c.report.More++
	}
}

// A typedKey is a key that exists, or did a moment ago.
type typedKey struct{ name, kind string }

func (c *checker) scanKeys(ctx context.Context, cursor uint64, match string) ([]typedKey, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	names, next, err := c.rdb.Scan(ctx, cursor, match, keysStep).Result()
	if err != nil || len(names) == 0 {
		return nil, next, err
	}
	pipe := c.rdb.Pipeline()
	for _, name := range names {
		pipe.Type(ctx, name)
	}
	kinds, err := pipe.Exec(ctx)
	if err != nil {
		return nil, 0, err
	}
	page := make([]typedKey, len(names))
	for i, name := range names {
		page[i] = typedKey{name, kinds[i].(interface{ Val() string }).Val()}
	}
	return page, next, nil
}

// look checks what one key holds. Keys under our prefix that are none of ours
// concern nobody.
func (c *checker) look(ctx context.Context, k typedKey) error {
	r := c.role(k.name)
	switch {
	case r.kind == "" || k.kind == "none":
		return nil
	case r.kind != k.kind:
		c.found(k.name, "", WrongType, "the key holds a %s, a relay needs a %s", k.kind, r.kind)
		return nil
	case r.look == nil:
		return nil
	}
	return r.look(ctx)
}

// A role is what a key is for.
type role struct {
	kind string // of Redis; "" of no key of ours
	look func(context.Context) error
}

// role tells what a key is for by its name.
func (c *checker) role(key string) role {
	k := c.keys
	switch key {
	case k.queue("local"), k.queue("remote"), k.queue("reply"):
		return role{"list", nil}
	case k.hold():
		return role{"string", nil}
	case k.dead(), k.ended():
		return role{"stream", nil}
	case k.archivedRetry(), k.instances(), k.suspects(), k.epoch(), k.stats():
		return role{"hash", nil}
	case k.sessions():
		return role{"zset", nil}
	case k.served():
		return role{"zset", nil}
	case k.unread():
		return role{"zset", c.commands}
	case k.consumers():
		return role{"zset", c.consumers}
	case k.subscriptions():
		return role{"zset", c.subscriptions}
	case k.subscribed(), k.subscribers(), k.streams(), k.presence():
		return role{"zset", nil}
	case k.retained():
		return role{"hash", nil}
	case k.backlog():
		return role{"hash", c.entries}
	case k.deadlines():
		return role{"zset", c.deadlines}
	case k.lanes(), k.lanesLater(), k.lanesPaused():
		return role{"zset", func(ctx context.Context) error { return c.lanes(ctx, key) }}
	case k.replies():
		return role{"hash", c.replies}
	case k.repliesDeadlines():
		return role{"zset", c.repliesDeadlines}
	case k.open():
		return role{"hash", c.open}
	case k.openCounts():
		return role{"hash", c.openCounts}
	case k.openDeadlines():
		return role{"zset", c.openDeadlines}
	}
	if rest, ok := strings.CutPrefix(key, k.lane("")); ok {
		return c.laneRole(key, rest)
	}
	if rest, ok := strings.CutPrefix(key, k.system("claim.")); ok {
		session, queue, _ := strings.Cut(rest, ".")
		return role{"list", func(ctx context.Context) error { return c.claim(ctx, key, session, queue) }}
	}
	if rest, ok := strings.CutPrefix(key, k.system("taken.")); ok {
		consumer, cmd, _ := strings.Cut(rest, ".")
		return role{"list", func(ctx context.Context) error { return c.taken(ctx, key, consumer, cmd) }}
	}
	if rest, ok := strings.CutPrefix(key, k.seen("")); ok {
		if strings.Contains(rest, ".") {
			return role{"string", nil}
		}
		return role{"hash", func(ctx context.Context) error { return c.windows(ctx, rest) }}
	}
	switch {
	case strings.HasPrefix(key, k.stream("")):
		return role{"stream", nil}
	case strings.HasPrefix(key, k.group("")):
		return role{"set", nil}
	case strings.HasPrefix(key, k.system("signatures.")):
		return role{"hash", nil}
	case strings.HasPrefix(key, k.result("")), strings.HasPrefix(key, k.system("twin.")), strings.HasPrefix(key, k.system("peer.")),
		strings.HasPrefix(key, k.system("transfer.keys.")), strings.HasPrefix(key, k.consumer("")), strings.HasPrefix(key, k.present("")):
		return role{"string", nil}
	}
	return role{}
}

// laneRole is role for what begins like a lane; rest is what follows.
func (c *checker) laneRole(key, rest string) role {
	twin, _, _ := strings.Cut(rest, ".")
	switch key {
	case c.keys.lane(twin):
		return role{"hash", nil}
	case c.keys.laneRequests(twin), c.keys.laneLater(twin):
		return role{"zset", func(ctx context.Context) error { return c.laneRequests(ctx, key, twin) }}
	case c.keys.laneTries(twin):
		return role{"zset", func(ctx context.Context) error { return c.laneTries(ctx, twin) }}
	case c.keys.laneReplies(twin):
		return role{"zset", func(ctx context.Context) error { return c.laneReplies(ctx, twin) }}
	}
	return role{}
}
