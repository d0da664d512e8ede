package main

import (
	"errors"
	"testing"

	"github.com/msgbusd/msgbusd/client"
)

// A broadcast misses a browser of the other machine, or a publisher believes that a message
// was heard which nobody has.
func TestABroadcastReachesAllWhoListenAndIsLostOtherwise(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	if heard := a.publish(Broadcast, "to nobody"); heard != 0 {
		t.Errorf("%d have heard it, and nobody listens", heard)
	}
	players := []*player{a.open("666.1"), b.open("667.1"), b.open("668.1")}
	const machines = 2 // each of which gives it to its sessions
	for _, from := range []*site{a, b} {
		if heard := from.publish(Broadcast, "to all"); heard != machines {
			t.Errorf("%d machines have heard twin %d, want %d", heard, from.ID, machines)
		}
		for _, p := range players {
			if got := p.nextDebug(t); got != "to all" {
				t.Errorf("user %s is shown %q", p.authUID, got)
			}
		}
	}
}

// A user reads what is another's, or nothing, because he plays at the other machine.
func TestAUsersChannelReachesHisSessionAndNobodyElses(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	players := []*player{a.open("666.1"), b.open("667.1")}
	for _, from := range []*site{a, b} {
		for _, p := range players {
			if heard := from.publish(UserChannel(p.authUID), "for "+p.authUID); heard != 1 {
				t.Errorf("%d have heard it", heard)
			}
			if got := p.nextDebug(t); got != "for "+p.authUID {
				t.Errorf("user %s is shown %q", p.authUID, got)
			}
		}
	}
	// A token plays in its user's name: one page must not get that of another.
	for _, token := range []string{"666.1", "666.2"} {
		m := message(t, ActionDebug, Debug{Message: "of a session"})
		m.Token = token
		if err := b.Publish(patient(t), UserChannel("666"), m); err != nil {
			t.Fatal(err)
		}
	}
	if own, others := players[0].next(t), players[0].next(t); own.Token != "666.1" || others.Token != "" {
		t.Errorf("the page gets the tokens %q and %q, want only its own", own.Token, others.Token)
	}
	if heard := a.publish(UserChannel("669"), "for one who does not play"); heard != 0 {
		t.Errorf("%d have heard what is for nobody here", heard)
	}
	for _, p := range players {
		p.wantNothing(t)
	}
}

// A token of a session that is over, or one that somebody has made up, shows a user's
// messages or plays in his name.
func TestATokenThatIsNobodysOpensNothingAndQueuesNothing(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.serve((&RPC{Messenger: a.Messenger, Tokens: a.handlers.Tokens, Workers: twinB}).Register)
	for _, token := range []string{"", "forged"} {
		if _, err := a.handlers.Open(patient(t), token, newRecorder()); !isUnauthorized(err) {
			t.Errorf("token %q opens a session: %v", token, err)
		}
		if _, err := a.submit(token, "node-1"); !isUnauthorized(err) {
			t.Errorf("token %q queues a task: %v", token, err)
		}
	}
	if n := b.Length("msgbus." + TaskQueue); n != 0 {
		t.Errorf("%d tasks are queued", n)
	}
}

// One browser on a bad line makes the server keep all its messages, or shows an old state
// without knowing it.
func TestASlowPageIsToldHowMuchItHasMissed(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.handlers.Buffer = 2
	page := &stuck{recorder: newRecorder(), free: make(chan struct{})}
	session, err := a.handlers.Open(patient(t), "666.1", page)
	if err != nil {
		t.Fatal(err)
	}
	a.play(session, page.recorder)
	const n = 10
	for range n {
		if heard := b.publish(UserChannel("666"), "x"); heard != 1 {
			t.Errorf("%d have heard it", heard)
		}
	}
	close(page.free)
	shown, missing := 0, 0
	for shown+missing < n {
		select {
		case <-page.pushed:
			shown++
		case lost := <-page.missed:
			missing += lost
		case <-patient(t).Done():
			t.Fatalf("%d are shown and %d said to be missing, of %d", shown, missing, n)
		}
	}
	if missing == 0 {
		t.Error("nothing is said to be missing")
	}
}

// A stuck page takes nothing until it is free.
type stuck struct {
	*recorder
	free chan struct{}
}

func (p *stuck) Push(m Message) {
	<-p.free
	p.recorder.Push(m)
}

// isUnauthorized tells whether a token was refused, here or by a service.
func isUnauthorized(err error) bool {
	var e *client.Error
	return errors.Is(err, ErrUnauthorized) || errors.As(err, &e) && e.Class == ClassUnauthorized
}
