package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A batch is numbered requests of one site to one service, of which each must be
// executed once and answered once, whatever happens meanwhile.
type batch struct {
	t    testing.TB
	a, b *fleettest.Site
	work *fleettest.Service
	n    int // pushed so far
	got  int // answered and looked at so far
}

func newBatch(t testing.TB, a, b *fleettest.Site) *batch {
	t.Helper()
	return &batch{t: t, a: a, b: b, work: b.Serve("work", func(m fleettest.Message) (string, error) { return m.Data(), nil })}
}

func (w *batch) push(n int) {
	w.t.Helper()
	var all []any
	for range n {
		// Relays that are killed are attempts that fail: those must not run out.
		m := fleettest.Request("work", fmt.Sprint(w.n), w.b.ID).With("ret", fmt.Sprintf("ret-%d", w.n)).With("try", 10_000).With("exp", 600)
		all = append(all, m.String())
		w.n++
	}
	if err := w.a.RDB.RPush(w.t.Context(), "msgbus.system.local", all...).Err(); err != nil {
		w.t.Fatal(err)
	}
}

// answers waits for the next n answers.
func (w *batch) answers(n int) {
	w.t.Helper()
	for range n {
		if reply := w.a.Pop(fmt.Sprintf("ret-%d", w.got)); reply.Text("err") != "" || reply.Data() != fmt.Sprint(w.got) {
			w.t.Errorf("the reply to %d is %s", w.got, reply)
		}
		w.got++
	}
}

// wantAllOnce waits for what is left and wants nothing to have happened twice.
func (w *batch) wantAllOnce() {
	w.t.Helper()
	w.answers(w.n - w.got)
	w.a.AwaitQuiet()
	w.b.AwaitQuiet()
	w.work.WantOnce(w.t, w.n)
	w.a.WantNoMore(w.n)
	w.a.WantNoDead()
	w.b.WantNoDead()
}

// The relay of the app is down when the answer comes: the answer must wait for
// it, not for the app's deadline.
func TestReplyWaitsForTheRelayOfItsApp(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			_, a, b := fleettest.Pair(t)
			asked := b.ServeMessages("slow", func(fleettest.Message) fleettest.Message { return nil })
			m := fleettest.Request("slow", "x", b.ID)
			a.Push(m)
			slow := asked.Next(t)
			if how == "stopped" {
				a.Daemon.Stop()
			} else {
				a.Daemon.Kill()
			}

			reply := slow.With("src", b.ID).With("dst", []uint32{a.ID}).With("dat", fleettest.Encode("done"))
			b.PushRaw("reply", reply.String())
			b.Daemon.WantSaid("twin cannot be joined")
			a.Start()
			if got := a.Pop(m.Text("ret")); got.Text("err") != "" || got.Data() != "done" {
				t.Errorf("the reply is %s", got)
			}
			a.AwaitQuiet()
			b.AwaitQuiet()
		})
	}
}

// A relay is killed again and again, by the kernel or by an impatient operator:
// no request may be lost, executed twice or answered twice.
func TestNothingIsLostOrDoneTwiceWhenARelayIsKilled(t *testing.T) {
	t.Parallel()
	const kills, each = 15, 14
	for _, who := range []string{"of the app", "of the service", "of both", "of a twin that asks itself"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			_, a, b := fleettest.Pair(t)
			if who == "of a twin that asks itself" {
				b = a
			}
			w := newBatch(t, a, b)
			for i := range kills {
				victim := a
				if who == "of the service" || who == "of both" && i%2 == 1 {
					victim = b
				}
				w.push(each)
				switch i % 4 {
				case 0: // right after the push
				case 1: // when the first of these has reached the service
					for m := w.work.Next(t); m.Data() != fmt.Sprint(w.n-each); m = w.work.Next(t) {
					}
				case 2: // when the first of these has been answered
					w.answers(w.n - each + 1 - w.got)
				case 3: // while it is starting
					victim.Daemon.Kill()
					victim.Launch()
				}
				victim.Daemon.Kill()
				// Three relays that end with one message bury it, by rule. These do not
				// end because of it, which only we know.
				victim.RDB.Del(t.Context(), victim.Prefix+".system.suspects")
				if i%5 == 4 {
					w.push(1) // nobody is there
				}
				victim.Start()
			}
			w.wantAllOnce()
		})
	}
}

// An upgrade under load: SIGTERM must end the relay well, with nothing lost and
// nothing done twice.
func TestNothingIsLostOrDoneTwiceWhenARelayIsStoppedUnderLoad(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	w := newBatch(t, a, b)
	for i, victim := range []*fleettest.Site{a, b, a, b} {
		w.push(100)
		w.answers(10 + i)
		victim.Daemon.Stop() // wants status 0
		if said := victim.Daemon.Said(); !strings.Contains(said, "stopped") || strings.Contains(said, "could not give claims back") {
			t.Errorf("the relay of %d ends with %s", victim.ID, fleettest.Tail(said, 500))
		}
		w.push(10)
		victim.Start()
	}
	w.wantAllOnce()
}

// Ctrl-C on both relays at once, then both come back.
func TestBothRelaysStopAtOnce(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	w := newBatch(t, a, b)
	for range 2 {
		w.push(50)
		w.answers(5)
		a.Daemon.Interrupt()
		b.Daemon.Interrupt()
		a.Daemon.WantExit(0)
		b.Daemon.WantExit(0)
		a.Launch()
		b.Launch()
		a.Daemon.AwaitReady()
		b.Daemon.AwaitReady()
	}
	w.wantAllOnce()
}
