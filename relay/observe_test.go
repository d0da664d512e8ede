package relay_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// A tally counts what a relay tells.
type tally struct {
	mu    sync.Mutex
	count map[string]int // guarded by mu
}

func (c *tally) add(n int, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = make(map[string]int)
	}
	c.count[strings.TrimSpace(fmt.Sprintf(format, args...))] += n
}

func (c *tally) MessagesAccepted(kind msgbus.Kind, n int) { c.add(n, "%s accepted", kind) }
func (c *tally) MessagesFinished(kind msgbus.Kind, how msgbus.Ending, why msgbus.Reason, n int) {
	c.add(n, "%s %s %s", kind, how, why)
}
func (c *tally) MessageAged(kind msgbus.Kind, age time.Duration, _ *msgbus.Trace) {
	if age < 0 || age > patience {
		c.add(1, "%s of age %v", kind, age)
		return
	}
	c.add(1, "%s aged", kind)
}
func (c *tally) MessageRepeated() { c.add(1, "repeated") }
func (c *tally) TransferAttempted(why msgbus.Reason, messages int, took time.Duration) {
	c.add(1, "attempt %s", why)
}

func (c *tally) told() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.count)
}

// want waits until exactly these have been told.
func (c *tally) want(t *testing.T, want map[string]int) {
	t.Helper()
	defer func() {
		if got := c.told(); !maps.Equal(got, want) {
			for _, what := range slices.Sorted(maps.Keys(got)) {
				if got[what] != want[what] {
					t.Errorf("%q is told %d times, want %d", what, got[what], want[what])
				}
			}
		}
	}()
	eventually(t, fmt.Sprintf("the relay has told %v", want), func() bool { return maps.Equal(c.told(), want) })
}

// The ways in which a message ends without an answer are many and rare. One that is not
// told leaves a message that is accepted and never ends, as far as anybody can see.
func TestEachEndingIsTold(t *testing.T) {
	t.Parallel()
	w := newWire()
	w.to(1003, func(_ context.Context, messages []msgbus.Outgoing) []error {
		return all(messages, msgbus.Refuse(msgbus.RefusedByPeer, "no"))
	})
	w.to(1004, func(context.Context, []msgbus.Outgoing) []error { panic("bad") })
	w.to(1005, dead(1005))
	var c tally
	a := run(t, w, 1001, withRelay(func(o *relay.Options) { o.Observer = &c }))
	ctx := t.Context()
	if err := a.rdb.HSet(ctx, "app.hash", "no", "list").Err(); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]int)
	tells := func(what ...string) {
		for _, each := range what {
			want[each]++
		}
	}

	// To the own twin, and its app waits on what is no list.
	a.request(ask("x", "app.hash", 1001))
	a.reply(a.service("x"), nil)
	tells("request accepted", "arrival accepted", "arrival answered", "arrival aged", "reply accepted", "reply delivered", "request buried wrong_type", "request aged")

	// Of another twin, which does not want the answer; and whose relay makes ours panic.
	for _, source := range []uint32{1003, 1004} {
		m := &msgbus.Message{Version: 1, UID: "1001.1", Command: "y", Expiration: 60, Source: source, Destinations: []uint32{1001}, Now: time.Now().Unix(), Signature: fmt.Sprint(source)}
		for range 2 { // the second is a repeat
			if err := a.relay.AcceptRequest(ctx, m.Clone()); err != nil {
				t.Fatal(err)
			}
		}
		a.reply(a.service("y"), nil)
		tells("arrival accepted", "arrival answered", "arrival aged", "reply accepted", "repeated")
	}
	tells("reply failed refused_by_peer", "attempt")
	tells("reply buried poison", "attempt poison")

	// A request that makes the relay panic, and one that cannot be sent.
	a.request(ask("x", "app.4", 1004))
	expect(t, "of a panic", a.pop("app.4"), map[string]any{"src": 1004})
	tells("request accepted", "request failed poison", "request aged", "attempt poison")
	a.request(with(ask("x", "app.5", 1005), map[string]any{"try": 0}))
	expect(t, "of a dead twin", a.pop("app.5"), map[string]any{"src": 1005})
	tells("request accepted", "request failed retries_exhausted", "request aged", "attempt unreachable")

	// What is refused in each of the three queues, and an answer to nothing.
	a.push("msgbus.system.local", "no message")
	a.push("msgbus.system.remote", ask("x", "app.6", 1001))
	a.push("msgbus.system.reply", `{"ver":1}`)
	a.push("msgbus.system.reply", `{"ver":1,"uid":"1001.4711","src":1001,"dst":[1001]}`)
	tells("request refused malformed", "arrival refused wrong_source", "reply refused malformed", "reply dropped late")

	c.want(t, want)
	if waiting := a.waiting(); len(waiting) != 0 {
		t.Errorf("%q wait", waiting)
	}
}

// A stop cuts attempts off, and the next start sends those messages: no twin has failed.
func TestAttemptsThatTheStopCutsOffAreNotTold(t *testing.T) {
	t.Parallel()
	w := newWire()
	begun := make(chan struct{})
	w.to(1002, func(ctx context.Context, messages []msgbus.Outgoing) []error {
		close(begun)
		<-ctx.Done()
		return all(messages, &msgbus.Failure{Reason: msgbus.Timeout})
	})
	var c tally
	a := run(t, w, 1001, withRelay(func(o *relay.Options) { o.Observer, o.Drain = &c, 10*time.Millisecond }))
	a.request(ask("x", "app.1", 1002))
	receive(t, begun, "the attempt")
	a.stop()
	if got := c.told(); !maps.Equal(got, map[string]int{"request accepted": 1}) {
		t.Errorf("told: %v", got)
	}
}
