package backlog_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/msgbusd/msgbusd/backlog"
)

// A handover is services of one command that come, take, answer and end, beside two
// relays, and what must be in Redis.
type handover struct {
	*rig
	stores []*backlog.Store
	pushed int
	queue  []handed
	taken  map[string][]handed
	alive  map[string]bool
	buried []handed
}

// A handed is a request that three services may have.
type handed struct{ id, returns int }

func (q handed) String() string {
	if q.returns == 0 {
		return nth(q.id)
	}
	return returned(q.returns, nth(q.id))
}

// A request is lost between two services, or two have it; it comes out of its order, or
// for ever.
//
// Breaks it: in give_back.lua, LPOP for RPOP, RPUSH for LPUSH, or times + 2.
func TestEachRequestIsWithOneServiceAtATime(t *testing.T) {
	onBoth(t, func(r *rig) {
		stores := []*backlog.Store{r.join(instance("a")), r.join(instance("b"))}
		rapid.Check(r.T, func(rt *rapid.T) {
			for _, pattern := range []string{"msgbus.x", "msgbus.system.consumer*", "msgbus.system.taken*", "msgbus.system.dead"} {
				for _, key := range r.rdb.Keys(rt.Context(), pattern).Val() {
					noErr(rt, r.rdb.Del(rt.Context(), key).Err())
				}
			}
			h := &handover{rig: r, stores: stores, taken: make(map[string][]handed), alive: make(map[string]bool)}
			rt.Repeat(map[string]func(*rapid.T){
				"push": h.push, "announce": h.announces, "take": h.takes, "acknowledge": h.acknowledges,
				"end": h.ends, "look": func(rt *rapid.T) { h.look(rt) }, "": h.same,
			})
		})
	})
}

func anyOf(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"c1", "c2", "c3"}).Draw(rt, "service")
}

func (h *handover) push(rt *rapid.T) {
	for range rapid.IntRange(1, 4).Draw(rt, "requests") {
		q := handed{id: h.pushed}
		noErr(rt, h.rdb.RPush(rt.Context(), "msgbus.x", q.String()).Err())
		h.queue = append(h.queue, q)
		h.pushed++
	}
}

func (h *handover) announces(rt *rapid.T) {
	c := anyOf(rt)
	h.announce(c, "x")
	h.alive[c] = true
}

func (h *handover) takes(rt *rapid.T) {
	c := anyOf(rt)
	if !h.alive[c] || len(h.queue) == 0 {
		rt.Skip("nothing to take")
	}
	h.moveTo(c, "x", 1)
	h.taken[c] = append(h.taken[c], h.queue[0])
	h.queue = h.queue[1:]
}

func (h *handover) acknowledges(rt *rapid.T) {
	c := anyOf(rt)
	if len(h.taken[c]) == 0 {
		rt.Skip("nothing to acknowledge")
	}
	i := rapid.IntRange(0, len(h.taken[c])-1).Draw(rt, "which")
	noErr(rt, h.rdb.LRem(rt.Context(), takenBy(c, "x"), 1, h.taken[c][i].String()).Err())
	h.taken[c] = slices.Delete(h.taken[c], i, i+1)
}

func (h *handover) ends(rt *rapid.T) {
	c := anyOf(rt)
	h.dies(c)
	h.alive[c] = false
	had := h.taken[c]
	h.taken[c] = nil
	var back []handed
	var buried []handed
	for _, q := range had {
		if q.returns++; q.returns == 3 {
			buried = append(buried, q)
		} else {
			back = append(back, q)
		}
	}
	h.queue = append(back, h.queue...)
	h.buried = append(h.buried, buried...)
	h.look(rt)
}

// look has one of the relays give back what there is.
func (h *handover) look(rt *rapid.T) {
	h.giveBack(h.stores[rapid.IntRange(0, 1).Draw(rt, "relay")])
}

func (h *handover) same(rt *rapid.T) {
	got, want := fmt.Sprint(h.list("msgbus.x")), fmt.Sprint(h.queue)
	for _, c := range []string{"c1", "c2", "c3"} {
		got += fmt.Sprint(" ", c, h.list(takenBy(c, "x")))
		want += fmt.Sprint(" ", c, h.taken[c])
	}
	got += fmt.Sprint(" buried ", len(h.dead()))
	want += fmt.Sprint(" buried ", len(h.buried))
	if got != want {
		rt.Fatalf("Redis has\n%s\nwant\n%s", got, want)
	}
}
