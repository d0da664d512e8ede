package backlog_test

import (
	"fmt"
	"testing"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A publisher hands in requests for commands of the relay itself, one after another.
type publisher struct {
	*rig
	s    *backlog.Store
	next uint64 // number of a request
}

// effect returns what became of requests with these effects.
func (p *publisher) effect(source uint32, effects ...*msgbus.Effect) string {
	p.Helper()
	var all []msgbus.Acceptance
	for _, e := range effects {
		p.next++
		a := arrival(p.next)
		a.Command, a.IsReply, a.Body, a.OneWay, a.Effect = msgbus.EventCommand, true, nil, true, e
		all = append(all, a)
	}
	return p.accept(p.s, source, sample, all...)
}

func retained(source uint32, topic, event string) *msgbus.Effect {
	return &msgbus.Effect{Event: event, Retained: fmt.Sprintf("%d %s", source, topic), At: 1}
}

// One twin that somebody wants events of has used up the room for the latest events of all
// others, this machine's apps among them, for ever.
//
// Breaks it: in effects.lua, retain without the look at the quarter, or at the half.
func TestOtherTwinsLeaveRoomForWhatIsRetained(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		p := &publisher{rig: r, s: s}
		kept := func() string { return fmt.Sprint(r.rdb.HLen(r.Context(), "msgbus.system.retained").Val()) }
		for source := uint32(1002); source <= 1004; source++ {
			for n := range 300 {
				p.effect(source, retained(source, fmt.Sprint(n), "{}"))
			}
			wantEqual(r, "of twins up to this", kept(), fmt.Sprint(min(250*(source-1001), 500)))
		}
		p.effect(1002, retained(1002, "7", `{"new":1}`))
		wantEqual(r, "a topic that is there", r.rdb.HGet(r.Context(), "msgbus.system.retained", "1002 7").Val(), `{"new":1}`)
		for n := range 600 {
			p.effect(self, retained(self, fmt.Sprint(n), "{}"))
		}
		wantEqual(r, "with those of this machine", kept(), "1000")
		wantEqual(r, "one for which there is no room", p.effect(self, retained(self, "more", "{}")), "[accepted]")
		forget := retained(self, "1", "")
		forget.Forget = true
		p.effect(self, forget)
		wantEqual(r, "after one was forgotten", kept(), "999")
		p.effect(self, retained(self, "more", "{}"))
		wantEqual(r, "and another came", kept(), "1000")
		r.wantSound(s, "in the end")
	})
}

// A twin makes up exchanges, and durable events of this machine are not kept any more.
func TestOtherTwinsLeaveRoomForStreams(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		p := &publisher{rig: r, s: s}
		event := func(n int) *msgbus.Effect {
			return &msgbus.Effect{Event: "{}", Exchange: fmt.Sprint("x", n)}
		}
		for n := range 502 {
			p.effect(1002, event(n))
		}
		wantEqual(r, "of another twin", r.rdb.ZCard(r.Context(), "msgbus.system.streams").Val(), int64(500))
		p.effect(1002, event(7))
		wantEqual(r, "of an exchange that is there", r.rdb.XLen(r.Context(), "msgbus.system.stream.x7").Val(), int64(2))
		p.effect(self, event(1000))
		wantEqual(r, "of this machine", r.rdb.XLen(r.Context(), "msgbus.system.stream.x1000").Val(), int64(1))
		r.wantSound(s, "in the end")
	})
}

// One twin wants so much that no other can want anything.
//
// Breaks it: in effects.lua, effect_fits without planned.
func TestOneTwinDoesNotUseUpAllSubscriptions(t *testing.T) {
	onBoth(t, func(r *rig) {
		p := &publisher{rig: r, s: r.join()}
		wish := func(n int) *msgbus.Effect {
			e := &msgbus.Effect{Lease: 60_000}
			for i := range 100 {
				e.Patterns = append(e.Patterns, fmt.Sprintf("p%d.%d", n, i))
			}
			return e
		}
		var all []*msgbus.Effect
		for n := range 51 {
			all = append(all, wish(n))
		}
		p.effect(1002, all[:10]...)
		p.effect(1002, all[10:]...)
		count := func() int64 { return r.rdb.ZCard(r.Context(), "msgbus.system.subscribers").Val() }
		wantEqual(r, "of one twin", count(), int64(5000))
		wantEqual(r, "what it wants already", p.effect(1002, wish(7)), "[accepted]")
		wantEqual(r, "of another", p.effect(1003, wish(0)), "[accepted]")
		wantEqual(r, "of both", count(), int64(5100))
		wantEqual(r, "less", p.effect(1002, &msgbus.Effect{Patterns: wish(7).Patterns}), "[accepted]")
		wantEqual(r, "after that", count(), int64(5000))
	})
}
