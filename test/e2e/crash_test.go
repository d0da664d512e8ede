package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// A batch is numbered requests of one site to one service, of which each must be
// executed once and answered once, whatever happens meanwhile.
type batch struct {
	t    testing.TB
	a, b *site
	work *service
	n    int // pushed so far
	got  int // answered and looked at so far
}

func newBatch(t testing.TB, a, b *site) *batch {
	t.Helper()
	return &batch{t: t, a: a, b: b, work: b.serve("work", func(m message) (string, error) { return m.data(), nil })}
}

func (w *batch) push(n int) {
	w.t.Helper()
	var all []any
	for range n {
		// Relays that are killed are attempts that fail: those must not run out.
		m := request("work", fmt.Sprint(w.n), w.b.id).with("ret", fmt.Sprintf("ret-%d", w.n)).with("try", 10_000).with("exp", 600)
		all = append(all, m.String())
		w.n++
	}
	if err := w.a.rdb.RPush(w.t.Context(), "msgbus.system.local", all...).Err(); err != nil {
		w.t.Fatal(err)
	}
}

// answers waits for the next n answers.
func (w *batch) answers(n int) {
	w.t.Helper()
	for range n {
		if reply := w.a.pop(fmt.Sprintf("ret-%d", w.got)); reply.text("err") != "" || reply.data() != fmt.Sprint(w.got) {
			w.t.Errorf("the reply to %d is %s", w.got, reply)
		}
		w.got++
	}
}

// wantAllOnce waits for what is left and wants nothing to have happened twice.
func (w *batch) wantAllOnce() {
	w.t.Helper()
	w.answers(w.n - w.got)
	w.a.awaitQuiet()
	w.b.awaitQuiet()
	w.work.wantOnce(w.t, w.n)
	w.a.wantNoMore(w.n)
	w.a.wantNoDead()
	w.b.wantNoDead()
}

// The relay of the app is down when the answer comes: the answer must wait for
// it, not for the app's deadline.
func TestReplyWaitsForTheRelayOfItsApp(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			_, a, b := pair(t)
			asked := b.serveMessages("slow", func(message) message { return nil })
			m := request("slow", "x", b.id)
			a.push(m)
			slow := asked.next(t)
			if how == "stopped" {
				a.daemon.stop()
			} else {
				a.daemon.kill()
			}

			reply := slow.with("src", b.id).with("dst", []uint32{a.id}).with("dat", encode("done"))
			b.pushRaw("reply", reply.String())
			b.daemon.wantSaid("twin cannot be joined")
			a.start()
			if got := a.pop(m.text("ret")); got.text("err") != "" || got.data() != "done" {
				t.Errorf("the reply is %s", got)
			}
			a.awaitQuiet()
			b.awaitQuiet()
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
			_, a, b := pair(t)
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
					for m := w.work.next(t); m.data() != fmt.Sprint(w.n-each); m = w.work.next(t) {
					}
				case 2: // when the first of these has been answered
					w.answers(w.n - each + 1 - w.got)
				case 3: // while it is starting
					victim.daemon.kill()
					victim.launch()
				}
				victim.daemon.kill()
				if i%5 == 4 {
					w.push(1) // nobody is there
				}
				victim.start()
			}
			w.wantAllOnce()
		})
	}
}

// An upgrade under load: SIGTERM must end the relay well, with nothing lost and
// nothing done twice.
func TestNothingIsLostOrDoneTwiceWhenARelayIsStoppedUnderLoad(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	w := newBatch(t, a, b)
	for i, victim := range []*site{a, b, a, b} {
		w.push(100)
		w.answers(10 + i)
		victim.daemon.stop() // wants status 0
		if said := victim.daemon.said(); !strings.Contains(said, "stopped") || strings.Contains(said, "could not give claims back") {
			t.Errorf("the relay of %d ends with %s", victim.id, tail(said, 500))
		}
		w.push(10)
		victim.start()
	}
	w.wantAllOnce()
}

// Ctrl-C on both relays at once, then both come back.
func TestBothRelaysStopAtOnce(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	w := newBatch(t, a, b)
	for range 2 {
		w.push(50)
		w.answers(5)
		a.daemon.interrupt()
		b.daemon.interrupt()
		a.daemon.wantExit(0)
		b.daemon.wantExit(0)
		a.launch()
		b.launch()
		a.daemon.awaitReady()
		b.daemon.awaitReady()
	}
	w.wantAllOnce()
}
