package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A relay is killed, by the kernel or by an impatient operator: a node that a user has paid
// for is never charged, or twice, or a publisher believes that all have heard him.
func TestNothingQueuedIsLostOrDoneTwiceWhenRelaysAreKilled(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	owner, other := a.open("666.1"), b.open("667.1")
	a.serve((&RPC{Messenger: a.Messenger, Tokens: a.handlers.Tokens, Workers: twinB}).Register)
	w := newWorkers()
	b.serve(w.register(b))
	const n = 20
	submit := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if _, err := a.submit("666.1", fmt.Sprint("node-", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	charged, shown := newRecorder(), false
	take := func() {
		t.Helper()
		if m := owner.next(t); m.Action == ActionDebug {
			shown = true
		} else {
			charged.Push(m)
		}
	}

	submit(0, n/2)
	take() // it is in the middle
	b.Daemon.Kill()
	submit(n/2, n) // nobody needs to know
	heard, err := a.tryPublish(Broadcast, "of a moment", client.Expire(time.Second))
	if heard != 1 || err == nil {
		t.Errorf("%d have heard it, with the error %v; want one, and an error about machine 1002", heard, err)
	}
	b.Start()
	take()
	a.Daemon.Kill()
	a.Start()
	for len(charged.pushed) < 2*n || !shown {
		take()
	}
	charged.wantCharged(t, n, "666.1")
	w.wantOnce(t, n)

	// What was lost does not come late.
	if heard := a.publish(Broadcast, "after"); heard != 2 {
		t.Errorf("%d have heard it, want both", heard)
	}
	if got := other.nextDebug(t); got != "after" {
		t.Errorf("machine 1002 is shown %q", got)
	}
	a.AwaitQuiet()
	b.AwaitQuiet()
	a.WantNoDead()
	b.WantNoDead()
}

// A machine is down, and nobody can play at the other one; or a game there goes on beside
// the newer one when it is back.
func TestALogInWorksWhileTheOtherMachineIsDown(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	older := b.open("666.1")
	b.Daemon.Kill()
	a.JoinWait = time.Second / 5
	newer := a.open("666.2")
	if err := a.Publish(patient(t), UserChannel("666"), message(t, ActionDebug, Debug{Message: "here"})); err != nil {
		t.Fatal(err)
	}
	if got := newer.nextDebug(t); got != "here" {
		t.Errorf("the page shows %q", got)
	}
	b.Start()
	older.wantKicked(t)
	fleettest.Eventually(t, "machine 1001 hears machine 1002 again", func() error {
		heard, err := b.tryPublish(UserChannel("666"), "again")
		if err == nil && heard != 1 {
			err = fmt.Errorf("%d have heard it", heard)
		}
		return err
	})
	if got := newer.nextDebug(t); got != "again" {
		t.Errorf("the page shows %q", got)
	}
}
