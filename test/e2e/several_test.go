package e2e

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
)

// Two relays of one twin on one Redis share its work, for a site that wants one
// to go on when the other fails. An answer may come to either.
func TestTwoRelaysOfOneTwinShareItsRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	second := f.siteOn(1001, a.redis)
	f.register(a.id, a.identity.Account(), a.listen)
	b := f.site(1002)
	a.launch("--instance", "first")
	second.launch("--instance", "second")
	b.start()
	a.daemon.awaitReady()
	second.daemon.awaitReady()

	w := newBatch(t, a, b)
	w.push(100)
	w.wantAllOnce()

	// One dies for good, with what it has in its hands: the other has it when the
	// lease has ended. The record of the twin points to the survivor.
	w.push(100)
	w.answers(1)
	second.daemon.kill()
	w.push(20)
	w.wantAllOnce()

	// The other side asks too, and is answered by whoever is there.
	a.echo()
	b.wantAnswer(a.id)
}

// The same with services: two relays answer for one twin.
func TestTwoRelaysOfTheServicesTwinAnswerOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001), f.site(1002)
	second := f.siteOn(1002, b.redis)
	f.register(b.id, b.identity.Account(), b.listen)
	a.start()
	b.launch("--instance", "first")
	second.launch("--instance", "second")
	b.daemon.awaitReady()
	second.daemon.awaitReady()
	w := newBatch(t, a, b)
	w.push(100)
	w.answers(10)
	second.daemon.stop() // in good order: its claims go back at once
	w.push(20)
	w.wantAllOnce()
}

// Somebody starts a relay a second time, by hand, beside the one of systemd. The
// older must not work on under a name that it has lost.
func TestOlderRelayOfTheSameNameEndsItself(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	second := f.siteOn(1001, a.redis)
	older := a.start("--instance", "the-one")
	newer := second.start("--instance", "the-one")
	older.wantExit(78)
	older.wantSaid("another relay has started under the same instance name", "--instance")
	f.register(a.id, a.identity.Account(), second.listen)
	a.echo()
	a.wantAnswer(a.id)
	if newer.hasEnded() {
		t.Error("the newer relay has ended too")
	}
}

// Fifty twins are gone, or accept connections and say nothing. None of that may
// hold up a message to one that lives.
func TestDeadPeersDoNotDelayALiveOne(t *testing.T) {
	t.Parallel()
	f, a, b := pair(t)
	b.echo()
	silent := silentListener(t)
	const dead = 50
	all := make([]uint32, dead)
	for i := range all {
		all[i] = uint32(3001 + i)
		address := silent
		if i%2 == 0 {
			address = freeAddress(t)
		}
		f.stranger(all[i], address)
	}
	const waiting = 4
	for i := range waiting {
		a.push(request("echo", "to the dead", all...).with("ret", fmt.Sprintf("dead-%d", i)).with("try", 1000).with("exp", 600))
	}
	// One to a dead and a live one: the live half is answered.
	both := request("echo", "to both", 3001, b.id).with("try", 1000).with("exp", 600)
	a.push(both)
	if reply := a.pop(both.text("ret")); reply.text("src") != "1002" || reply.text("err") != "" {
		t.Errorf("the reply is %s", reply)
	}
	for range 100 {
		a.wantAnswer(b.id)
	}
	for i := range waiting {
		if n := a.length(fmt.Sprintf("dead-%d", i)); n != 0 {
			t.Errorf("%d messages to the dead have ended", n)
		}
	}
	if n := a.rdb.HLen(t.Context(), "msgbus.system.backlog").Val(); n != waiting*dead+1 {
		t.Errorf("%d requests are in the backlog, want those to the dead: %d", n, waiting*dead+1)
	}

	// And it stops at once, with 25 connections that nobody answers: what is in
	// flight there is given up, and is in Redis.
	b.wantNoDead()
	a.launchAgainWithShortDrain()
	a.wantAnswer(b.id)
}

// launchAgainWithShortDrain stops the relay and starts it with a drain of a
// second, so that the test's end need not wait for ten.
func (s *site) launchAgainWithShortDrain() {
	s.t.Helper()
	s.daemon.stop()
	s.start("--drain", "1s")
}

// silentListener accepts connections and says nothing.
func silentListener(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			open = append(open, c)
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
		for _, c := range open {
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// A machine sleeps, or its disk hangs: its relay is frozen for longer than its
// lease, another one takes over, and then the first wakes up with messages in
// its hands. It must not go on with what is no longer its own.
func TestRelayThatWasFrozenLongerThanItsLeaseBeginsAnew(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001), f.site(1002)
	second := f.siteOn(1001, a.redis)
	f.register(a.id, a.identity.Account(), a.listen)
	a.launch("--instance", "first")
	second.launch("--instance", "second")
	b.start()
	a.daemon.awaitReady()
	second.daemon.awaitReady()

	w := newBatch(t, a, b)
	w.push(100)
	w.answers(1)
	if err := second.daemon.proc.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.push(20)
	w.answers(w.n - w.got) // what the frozen one had comes after the lease
	if err := second.daemon.proc.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	second.daemon.wantSaid("silent for longer than its lease")
	second.daemon.awaitReady()
	w.push(20)
	w.wantAllOnce()
}
