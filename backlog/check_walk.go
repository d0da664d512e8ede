package backlog

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A name is a field of a hash or a member of a sorted set, as of one instant.
type name struct {
	id      string
	score   float64
	missing []string // those of the other keys in which it is not
	unsure  bool     // one of those is no key to look in
}

func (n name) lacks(key string) bool { return slices.Contains(n.missing, key) }

// walk reads the names in keys[0], a step at a time, and tells of each whether it
// is in the others as well.
func (c *checker) walk(ctx context.Context, step int, keys []string, visit func([]name) error) error {
	for cursor := "0"; ; {
		page, err := c.run(ctx, c.scripts.walk, keys, cursor, step).Slice()
		if err != nil {
			return err
		}
		var names []name
		for i := 2; i+2 < len(page); i += 3 {
			id, _ := page[i].(string)
			text, _ := page[i+1].(string)
			score, _ := strconv.ParseFloat(text, 64)
			missing, _ := page[i+2].(string)
			n := name{id: id, score: score, unsure: strings.Contains(missing, "?")}
			for at, key := range keys {
				if strings.Contains(missing, strconv.Itoa(at+1)) {
					n.missing = append(n.missing, key)
				}
			}
			names = append(names, n)
		}
		if err := visit(names); err != nil {
			return err
		}
		if cursor, _ = page[0].(string); cursor == "0" {
			return nil
		}
	}
}

// findings reads a key by a script that names what is wrong itself. It returns
// how much was read.
func (c *checker) findings(ctx context.Context, key string, script *redis.Script, keys []string, more ...any) (int, error) {
	total := 0
	for cursor := "0"; ; {
		page, err := c.run(ctx, script, keys, append([]any{cursor, bodiesStep}, more...)...).StringSlice()
		if err != nil {
			return total, err
		}
		n, _ := strconv.Atoi(page[1])
		total += n
		for i := 2; i+2 < len(page); i += 3 {
			c.found(key, page[i], State(page[i+1]), "%s", page[i+2])
		}
		if cursor = page[0]; cursor == "0" {
			return total, nil
		}
	}
}

func (c *checker) entries(ctx context.Context) error {
	k := c.keys
	n, err := c.findings(ctx, k.backlog(), c.scripts.checkEntries, []string{k.backlog(), k.deadlines()})
	c.report.Messages += n
	return err
}

func (c *checker) deadlines(ctx context.Context) error {
	k := c.keys
	if err := c.overdue(ctx, k.deadlines(), "the app still waits"); err != nil {
		return err
	}
	return c.walk(ctx, namesStep, []string{k.deadlines(), k.backlog()}, func(names []name) error {
		for _, n := range names {
			if n.lacks(k.backlog()) {
				c.found(k.deadlines(), n.id, NoEntry, "the request is in the backlog no more, and did not end")
			}
		}
		return nil
	})
}

// overdue names what an index of deadlines should not hold any more.
func (c *checker) overdue(ctx context.Context, index, consequence string) error {
	result, err := c.run(ctx, c.scripts.overdue, []string{c.keys.sessions(), index, c.keys.hold()}, overdueAfter.Milliseconds(), mostFindings).Slice()
	if err != nil {
		return err
	}
	total, _ := result[0].(int64)
	named := (len(result) - 1) / 2
	for i := range named {
		id, _ := result[1+2*i].(string)
		text, _ := result[2+2*i].(string)
		ms, _ := strconv.ParseInt(text, 10, 64)
		late := (time.Duration(ms) * time.Millisecond).Round(time.Second)
		c.found(index, id, Overdue, "its deadline was %s ago: %s", late, consequence)
	}
	c.report.More += int(total) - named
	return nil
}

// lanes looks at an index of lanes.
func (c *checker) lanes(ctx context.Context, index string) error {
	return c.walk(ctx, namesStep, []string{index}, func(names []name) error {
		for _, n := range names {
			if _, err := strconv.ParseUint(n.id, 10, 32); err != nil {
				c.found(index, n.id, Unreadable, "no twin has this id, and the lanes behind it are not served")
			}
		}
		return nil
	})
}

// lane tells whether a lane will be served.
func (c *checker) lane(ctx context.Context, twin string) error {
	k := c.keys
	result, err := c.run(ctx, c.scripts.checkLane, []string{k.lanes(), k.laneRequests(twin), k.laneReplies(twin), k.laneLater(twin), k.lanesLater(), k.lanesPaused()}, twin).Slice()
	if err != nil {
		return err
	}
	state, _ := result[1].(string)
	held, _ := result[0].(int64)
	if State(state) == Unserved {
		c.found(k.lanes(), twin, Unserved, "%d messages wait for twin %s, whose lane no relay will look at", held, twin)
	}
	return nil
}

// laneRequests looks at requests on a lane: those that are next, or put off.
func (c *checker) laneRequests(ctx context.Context, key, twin string) error {
	k := c.keys
	if err := c.lane(ctx, twin); err != nil {
		return err
	}
	return c.walk(ctx, namesStep, []string{key, k.backlog(), k.laneTries(twin)}, func(names []name) error {
		for _, n := range names {
			dst, number, ok := msgbus.ParseUID(n.id)
			switch {
			case !ok:
				c.found(key, n.id, Unreadable, "it is no uid")
			case id(dst) != twin:
				c.found(key, n.id, WrongLane, "a request for twin %d is on the lane to twin %s", dst, twin)
			case n.lacks(k.backlog()):
				c.found(key, n.id, NoEntry, "it is on the lane, but not in the backlog: there is nothing to send")
			case n.lacks(k.laneTries(twin)):
				c.found(key, n.id, NoTries, "failed attempts are not counted for it")
			case n.score != float64(number):
				c.found(key, n.id, WrongPlace, "it stands at %.0f", n.score)
			}
		}
		return nil
	})
}

func (c *checker) laneTries(ctx context.Context, twin string) error {
	key, next, later := c.keys.laneTries(twin), c.keys.laneRequests(twin), c.keys.laneLater(twin)
	return c.walk(ctx, namesStep, []string{key, next, later}, func(names []name) error {
		for _, n := range names {
			switch {
			case n.lacks(next) && n.lacks(later):
				c.found(key, n.id, NotOnLane, "failed attempts are counted for what is not to be sent")
			case len(n.missing) == 0 && !n.unsure:
				c.found(later, n.id, InBoth, "it is put off, and in %s too", next)
			}
		}
		return nil
	})
}

// replyTwin returns the twin that a reply is for: its id is "<twin> <epoch> <uid>".
func replyTwin(replyID string) (twin string, ok bool) {
	twin, _, _ = strings.Cut(replyID, " ")
	_, err := strconv.ParseUint(twin, 10, 32)
	return twin, err == nil && strings.Count(replyID, " ") == 2
}

func (c *checker) laneReplies(ctx context.Context, twin string) error {
	key := c.keys.laneReplies(twin)
	if err := c.lane(ctx, twin); err != nil {
		return err
	}
	return c.walk(ctx, namesStep, []string{key, c.keys.replies()}, func(names []name) error {
		for _, n := range names {
			switch own, ok := replyTwin(n.id); {
			case ok && own != twin:
				c.found(key, n.id, WrongLane, "a reply to twin %s is on the lane to twin %s", own, twin)
			case n.lacks(c.keys.replies()):
				c.found(key, n.id, NoReply, "it is on the lane, but not among the replies: there is nothing to send")
			}
		}
		return nil
	})
}

func (c *checker) replies(ctx context.Context) error {
	k := c.keys
	return c.walk(ctx, bodiesStep, []string{k.replies(), k.repliesDeadlines()}, func(names []name) error {
		c.report.Messages += len(names)
		keys := []string{k.replies()}
		var ids []any
		for _, n := range names {
			twin, ok := replyTwin(n.id)
			if !ok {
				c.found(k.replies(), n.id, Unreadable, "it is not twin, epoch and uid")
				continue
			}
			if n.lacks(k.repliesDeadlines()) {
				c.found(k.replies(), n.id, NoDeadline, "the reply is kept for ever if it cannot be sent")
			}
			keys, ids = append(keys, k.laneReplies(twin)), append(ids, n.id)
		}
		if len(ids) == 0 {
			return nil
		}
		astray, err := c.run(ctx, c.scripts.checkReplies, keys, ids...).StringSlice()
		if err != nil {
			return err
		}
		for _, replyID := range astray {
			c.found(k.replies(), replyID, NotOnLane, "the reply is kept, and nobody will send it")
		}
		return nil
	})
}

func (c *checker) repliesDeadlines(ctx context.Context) error {
	k := c.keys
	if err := c.overdue(ctx, k.repliesDeadlines(), "the reply is still kept"); err != nil {
		return err
	}
	return c.walk(ctx, namesStep, []string{k.repliesDeadlines(), k.replies()}, func(names []name) error {
		for _, n := range names {
			if _, ok := replyTwin(n.id); !ok {
				c.found(k.repliesDeadlines(), n.id, Unreadable, "it is not twin, epoch and uid, and the deadlines behind it are not looked at")
			} else if n.lacks(k.replies()) {
				c.found(k.repliesDeadlines(), n.id, NoReply, "a deadline stands without what it ends")
			}
		}
		return nil
	})
}

func (c *checker) open(ctx context.Context) error {
	k := c.keys
	n, err := c.findings(ctx, k.open(), c.scripts.checkOpen, []string{k.open(), k.openDeadlines(), k.openCounts()}, "records")
	c.report.Messages += n
	return err
}

func (c *checker) openDeadlines(ctx context.Context) error {
	k := c.keys
	if err := c.overdue(ctx, k.openDeadlines(), "the record is still kept"); err != nil {
		return err
	}
	_, err := c.findings(ctx, k.openDeadlines(), c.scripts.checkOpen, []string{k.open(), k.openDeadlines(), k.openCounts()}, "deadlines")
	return err
}

// openCounts tells whether each twin has as many requests open as is believed.
func (c *checker) openCounts(ctx context.Context) error {
	k := c.keys
	result, err := c.run(ctx, c.scripts.checkCounts, []string{k.openCounts(), k.openDeadlines()}, keysStep*10).Slice()
	if err != nil {
		return err
	}
	sum, _ := result[0].(int64)
	records, _ := result[1].(int64)
	for _, v := range result[2:] {
		name, _ := v.(string)
		c.found(k.openCounts(), name, Unreadable, "it is no number of open requests")
	}
	if sum != records && len(result) == 2 {
		c.found(k.openCounts(), "", NotCounted, "%d requests are counted as open, and %d are", sum, records)
	}
	return nil
}

// claim tells whether what a session has claimed will come back.
func (c *checker) claim(ctx context.Context, key, session, queue string) error {
	if !slices.Contains(queues[:], msgbus.Queue(queue)) {
		c.found(key, "", Unreadable, "%q is no queue that relays claim from: nobody will give the messages back", queue)
		return nil
	}
	result, err := c.run(ctx, c.scripts.checkClaim, []string{c.keys.sessions(), key}, session, takeOver.Milliseconds()).Slice()
	if err != nil {
		return err
	}
	held, _ := result[0].(int64)
	state, _ := result[1].(string)
	switch State(state) {
	case UnknownSession:
		c.found(key, "", UnknownSession, "%d messages are claimed by session %s, which no relay knows", held, session)
	case Overdue:
		c.found(key, "", Overdue, "session %s has ended, and nobody gives its %d messages back", session, held)
	}
	return nil
}

// consumers tells whether those who have announced themselves are looked after.
func (c *checker) consumers(ctx context.Context) error {
	k := c.keys
	return c.walk(ctx, namesStep, []string{k.consumers()}, func(names []name) error {
		for _, n := range names {
			if _, _, ok := parseConsumer(n.id); !ok {
				c.found(k.consumers(), n.id, Unreadable, "it is not a service's name and a command: nobody looks after what it takes")
			}
		}
		return nil
	})
}

// subscriptions tells whether what apps want of other twins can be asked for.
func (c *checker) subscriptions(ctx context.Context) error {
	k := c.keys
	return c.walk(ctx, namesStep, []string{k.subscriptions()}, func(names []name) error {
		for _, n := range names {
			if _, wanted, _ := strings.Cut(n.id, " "); len(parseSubscriptions([]string{wanted})) == 0 {
				c.found(k.subscriptions(), n.id, Unreadable, "it is not an app's name, a twin and a pattern: nobody is asked for such events")
			}
		}
		return nil
	})
}

// taken tells whether what a service has taken will come back when that ends.
func (c *checker) taken(ctx context.Context, key, consumer, cmd string) error {
	k := c.keys
	keys := []string{k.sessions(), k.consumers(), k.hold(), k.consumer(consumer), key}
	result, err := c.run(ctx, c.scripts.checkTaken, keys, consumer+" "+cmd, takeOver.Milliseconds()).Slice()
	if err != nil {
		return err
	}
	has, _ := result[0].(int64)
	state, _ := result[1].(string)
	switch State(state) {
	case NotAnnounced:
		c.found(key, "", NotAnnounced, "service %s has taken %d requests and has not announced itself for command %q", consumer, has, cmd)
	case Overdue:
		c.found(key, "", Overdue, "service %s has ended, and nobody gives its %d requests back", consumer, has)
	}
	return nil
}

func (c *checker) commands(ctx context.Context) error {
	k := c.keys
	return c.walk(ctx, namesStep, []string{k.unread(), k.served()}, func(names []name) error {
		for _, n := range names {
			if len(n.missing) == 0 && !n.unsure {
				c.found(k.unread(), n.id, InBoth, "the command is in %s too", k.served())
			}
		}
		return nil
	})
}

// windows tells whether repeats of a source can be told.
func (c *checker) windows(ctx context.Context, twin string) error {
	k := c.keys
	keys := []string{k.seen(twin)}
	for slot := range 4 {
		keys = append(keys, k.window(twin, slot))
	}
	result, err := c.run(ctx, c.scripts.checkSeen, keys, Window).Slice()
	if err != nil {
		return err
	}
	texts := map[State]string{
		Unreadable: "it is not epoch, highest number and last use",
		InBoth:     "two windows are of the same epoch",
		NoWindow:   "the highest number is not marked in the window: repeats would be accepted",
	}
	for i := 0; i+1 < len(result); i += 2 {
		state := State(fmt.Sprint(result[i+1]))
		c.found(k.seen(twin), fmt.Sprint(result[i]), state, "%s", texts[state])
	}
	return nil
}
