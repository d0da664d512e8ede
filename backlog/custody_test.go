package backlog_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A custodian is a relay's storage under random use and crashes, and counts
// where each message is.
type custodian struct {
	*rig
	s      *backlog.Store
	claim  *msgbus.Claim
	pushed int
}

// Whatever a relay does and whenever it dies, a message is in one place: not
// lost, and not in two.
func TestEachMessageIsAlwaysInOnePlace(t *testing.T) {
	onBoth(t, func(r *rig) {
		rapid.Check(r.T, func(rt *rapid.T) {
			noErr(rt, r.rdb.FlushAll(rt.Context()).Err())
			c := &custodian{rig: r}
			c.restart(rt)
			defer func() { _ = c.s.Close() }()
			rt.Repeat(map[string]func(*rapid.T){
				"push":    c.push,
				"take":    c.take,
				"restart": c.restart,
				"join":    c.join,
				"admit":   c.admit,
				"refuse":  c.refuse,
				"answer":  c.answer,
				"leave":   c.leave,
				"panic":   c.panics,
				"":        c.count,
			})
		})
	})
}

func noErr(rt *rapid.T, err error) {
	rt.Helper()
	if err != nil {
		rt.Fatal(err)
	}
}

func (c *custodian) push(rt *rapid.T) {
	for range rapid.IntRange(1, 5).Draw(rt, "messages") {
		noErr(rt, c.rdb.RPush(rt.Context(), "msgbus.system.local", fmt.Sprintf("<%d>", c.pushed)).Err())
		c.pushed++
	}
}

// take skips an empty queue with an empty claim, where Take would wait.
func (c *custodian) take(rt *rapid.T) {
	if c.rdb.LLen(rt.Context(), "msgbus.system.local").Val() == 0 && (c.claim == nil || len(c.claim.Messages) == 0) {
		rt.Skip("nothing to take")
	}
	claim, err := c.s.Take(rt.Context(), msgbus.LocalQueue)
	noErr(rt, err)
	c.claim = claim
}

// restart is a crash, and the start of the next process.
func (c *custodian) restart(rt *rapid.T) {
	if c.s != nil {
		noErr(rt, c.s.Close())
	}
	addr, err := backlog.ParseURL(c.url)
	noErr(rt, err)
	c.s, err = backlog.Open(backlog.Options{Redis: addr, Twin: self, Instance: "a", MaxTake: 4})
	noErr(rt, err)
	noErr(rt, c.s.Join(rt.Context()))
	c.claim = nil
}

// join keeps the claim of the earlier session, as a worker would that does not
// know of it.
func (c *custodian) join(rt *rapid.T) {
	noErr(rt, c.s.Join(rt.Context()))
	if c.claim == nil || len(c.claim.Messages) == 0 {
		return
	}
	if _, err := c.s.Admit(rt.Context(), c.claim, c.admissions()); err == nil {
		rt.Fatal("a claim of an earlier session is admitted")
	}
	c.claim = nil
}

func (c *custodian) leave(rt *rapid.T) {
	noErr(rt, c.s.Leave(rt.Context()))
	c.restart(rt)
}

func (c *custodian) admissions() []msgbus.Admission {
	var out []msgbus.Admission
	for _, m := range c.claim.Messages {
		if m != msgbus.DealtWith {
			req := request(1002)
			req.Data, req.ReturnQueue = m, "msgbus.ret"
			out = append(out, msgbus.Admission{Message: req})
		}
	}
	return out
}

func (c *custodian) admit(rt *rapid.T) {
	if c.claim == nil || len(c.claim.Messages) == 0 {
		rt.Skip("no claim")
	}
	_, err := c.s.Admit(rt.Context(), c.claim, c.admissions())
	noErr(rt, err)
	c.claim = nil
}

func (c *custodian) refuse(rt *rapid.T) {
	if c.claim == nil || len(c.claim.Messages) == 0 {
		rt.Skip("no claim")
	}
	i := rapid.IntRange(0, len(c.claim.Messages)-1).Draw(rt, "position")
	queue := rapid.SampledFrom([]string{"", "msgbus.ret"}).Draw(rt, "return queue")
	noErr(rt, c.s.Refuse(rt.Context(), c.claim, i, refusal(), queue, []byte(c.claim.Messages[i]), false))
	c.claim.Messages[i] = msgbus.DealtWith
}

func (c *custodian) panics(rt *rapid.T) {
	if c.claim == nil || len(c.claim.Messages) == 0 {
		rt.Skip("no claim")
	}
	noErr(rt, c.s.SetApart(rt.Context(), c.claim))
	c.claim = nil
}

func (c *custodian) answer(rt *rapid.T) {
	all := c.rdb.HGetAll(rt.Context(), "msgbus.system.backlog").Val()
	if len(all) == 0 {
		rt.Skip("no entry")
	}
	uid := rapid.SampledFrom(slices.Sorted(maps.Keys(all))).Draw(rt, "uid")
	e, err := backlog.ParseEntry(all[uid])
	noErr(rt, err)
	_, err = c.s.Answer(rt.Context(), nil, []msgbus.Answer{reply(e, e.Message.Data)})
	noErr(rt, err)
}

// count finds each message that was pushed in exactly one place.
func (c *custodian) count(rt *rapid.T) {
	ctx := rt.Context()
	keys, err := c.rdb.Keys(ctx, "msgbus.system.claim.*").Result()
	noErr(rt, err)
	pipe := c.rdb.Pipeline()
	lists := map[string]*redis.StringSliceCmd{}
	for _, key := range append(keys, "msgbus.system.local", "msgbus.ret") {
		lists[key] = pipe.LRange(ctx, key, 0, -1)
	}
	entries := pipe.HVals(ctx, "msgbus.system.backlog")
	dead := pipe.XRange(ctx, "msgbus.system.dead", "-", "+")
	_, err = pipe.Exec(ctx)
	noErr(rt, err)

	places := map[string]string{"backlog": strings.Join(entries.Val(), "")}
	for key, list := range lists {
		places[key] = strings.Join(list.Val(), "")
	}
	for _, letter := range dead.Val() {
		places["dead"] += fmt.Sprint(letter.Values["message"])
	}
	for n := range c.pushed {
		var found []string
		for place, text := range places {
			for range strings.Count(text, fmt.Sprintf("<%d>", n)) {
				found = append(found, place)
			}
		}
		if len(found) != 1 {
			rt.Fatalf("message %d of %d is in %q", n, c.pushed, found)
		}
	}
}
