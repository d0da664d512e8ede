package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// Redis is down, and the app hangs until its deadline instead of being told.
func TestARequestThatRedisDoesNotTakeFailsAtOnce(t *testing.T) {
	r := newRig(t)
	r.server.Kill()
	begun := time.Now()
	err := r.c.Call(r.context(), 1002, "calc", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "push request") || time.Since(begun) > 10*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	if err := r.c.Notify(r.context(), 1002, "calc", nil); err == nil {
		t.Error("nobody has the notification, and it is well")
	}
	for reply := range r.c.CallAll(r.context(), []uint32{1002, 1003}, "calc", nil) {
		if reply.Err == nil {
			t.Errorf("twin %d has answered", reply.Twin)
		}
	}
	r.server.Restart()
	ended := r.ask(r.context(), nil)
	r.give(replyFrom(r.asked(), 1002, "1"))
	r.must(await(t, ended, "the answer"))
}

// Redis hangs, and whoever asked has given up by the time that it goes on: what nobody
// waits for, and nothing of which was sent, must not be done.
func TestARequestThatHasNotLeftWhenItsCallerGoesIsNotSent(t *testing.T) {
	r := newRig(t)
	r.server.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	first := r.c.Go(r.context(), 1002, "calc", "first") // with Redis, for all that we know
	fleettest.Eventually(t, "the first is on its way", func() error {
		if n := r.c.Unsent(); n > 0 {
			return fmt.Errorf("%d are not", n)
		}
		return nil
	})
	second := r.c.Go(ctx, 1002, "calc", "second")
	cancel()
	await(t, second.Done(), "the end")
	r.server.Continue()
	m := r.asked()
	wantEqual(t, "sent", m.Data(), `"first"`)
	r.give(replyFrom(m, 1002, "1"))
	await(t, first.Done(), "the answer")
	r.must(first.Reply().Err)
	r.must(r.c.Notify(t.Context(), 1002, "calc", "last"))
	wantEqual(t, "sent", r.asked().Data(), `"last"`)
}

// Redis is full: the app must know that its request is not there.
func TestARequestForWhichRedisHasNoRoomFails(t *testing.T) {
	r := newRig(t, redistest.Arg("--maxmemory", "1"))
	err := r.c.Call(r.context(), 1002, "calc", nil, nil)
	var refused redis.Error
	if !errors.As(err, &refused) {
		t.Errorf("got %v, want what Redis says", err)
	}
}

// Redis restarts while an app waits, as for an upgrade: the answer is there, and the app
// does not look.
func TestAnAnswerIsFoundAfterRedisHasRestarted(t *testing.T) {
	r := newRig(t, redistest.AppendOnly("always"))
	var got string
	ended := r.ask(r.context(), &got)
	m := r.asked()
	r.must(r.c.Notify(t.Context(), 1002, "calc", nil)) // then the push before it is known to have been taken
	r.server.Kill()
	r.awaitSaid("answers cannot be read")
	r.server.Restart()
	r.give(replyFrom(m, 1002, `"here"`))
	r.must(await(t, ended, "the answer"))
	wantEqual(t, "answer", got, "here")
	r.awaitSaid("answers can be read again")
}

// Connections break while answers come, and the answers that were in them are gone: their
// callers wait until the deadline. Seen to fail with BLPOP in redisLink.pull.
func TestNoAnswerIsLostWithAConnection(t *testing.T) {
	r := newRig(t)
	const calls = 2000
	var all []*client.Pending
	for i := range calls {
		all = append(all, r.c.Go(r.context(), 1002, "calc", i))
	}
	// A request whose connection breaks is another matter.
	fleettest.Eventually(t, "all are asked", func() error {
		if n := r.length("msgbus.system.local"); n != calls {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	for i := range calls {
		m := r.asked()
		r.give(replyFrom(m, 1002, m.Data()))
		if i%20 == 0 {
			r.cut()
		}
	}
	for i, p := range all {
		await(t, p.Done(), "a reply")
		var got int
		if err := p.Reply().Decode(&got); err != nil || got != i {
			t.Fatalf("reply %d is %d, %v", i, got, err)
		}
	}
	r.awaitIdle()
}

// Something else stands where answers come: whoever waits must not spin, and the log must
// say why.
func TestAListThatIsNoneIsSaid(t *testing.T) {
	r := newRig(t)
	r.must(r.rdb.Set(t.Context(), r.c.List(), "text", 0).Err())
	ctx, cancel := context.WithCancel(t.Context())
	ended := r.ask(ctx, nil)
	r.awaitSaid("WRONGTYPE")
	r.must(r.rdb.Del(t.Context(), r.c.List()).Err())
	r.give(replyFrom(r.asked(), 1002, "1"))
	r.must(await(t, ended, "the answer"))
	cancel()
}

// Lists of apps that crashed stay in Redis for ever, because reading took their end away.
func TestReadingAnswersLeavesTheEndOfTheirList(t *testing.T) {
	r := newRig(t)
	var waiting sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	waiting.Go(func() { _ = r.c.Call(ctx, 1002, "calc", nil, nil) })
	waiting.Go(func() { _ = r.c.Call(ctx, 1002, "calc", nil, nil) })
	m := r.asked()
	watch := r.watch()
	r.give(replyFrom(m, 1002, "1"))
	fleettest.Eventually(t, "the answer is read", func() error {
		if n, _ := r.c.Waiting(); n != 1 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	for _, ttl := range watch() {
		if ttl == -1 {
			t.Error("the list has lost its end")
		}
	}
	cancel()
	waiting.Wait()
}

// watch looks at the TTL of the list of answers until it is called.
func (r *rig) watch() func() []time.Duration {
	var seen []time.Duration
	ctx, cancel := context.WithCancel(r.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			ttl, err := r.rdb.TTL(r.Context(), r.c.List()).Result()
			if err != nil {
				r.Error(err)
				return
			}
			seen = append(seen, ttl)
		}
	})
	return func() []time.Duration {
		cancel()
		watching.Wait()
		return seen
	}
}

// A program that ends leaves its list behind, or its goroutines.
func TestClosingEndsWhatWaits(t *testing.T) {
	r := newRig(t)
	c := r.open(client.Options{})
	p := c.Go(t.Context(), 1002, "calc", nil)
	r.push(c.List(), fleettest.Message{"a": "late one"})
	r.must(c.Close())
	r.must(c.Close())
	await(t, p.Done(), "the end")
	wantErrorIs(t, p.Reply().Err, client.ErrClosed)
	wantErrorIs(t, c.Call(t.Context(), 1002, "calc", nil, nil), client.ErrClosed)
	wantErrorIs(t, c.Notify(t.Context(), 1002, "calc", nil), client.ErrClosed)
	wantEqual(t, "answers that are left", r.length(c.List()), 0)
}

// An app without a limit of its own takes all memory while nothing answers.
func TestOnlySoManyRequestsMayWait(t *testing.T) {
	r := newRig(t)
	c := r.open(client.Options{MaxWaiting: 2})
	for range 2 {
		c.Go(r.context(), 1002, "calc", nil)
	}
	wantErrorIs(t, c.Call(t.Context(), 1002, "calc", nil, nil), client.ErrTooManyWait)
}

// The password of Redis is in the logs of every app that cannot reach it.
func TestAnAddressOfRedisIsReadAndNotRepeated(t *testing.T) {
	for _, bad := range []string{"localhost", "http://u:secret@host", "redis://u:secret@host:port/x", "redis://u:secret@h/notadb"} {
		_, err := client.Open(client.Options{Redis: bad})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	server := redistest.Start(t, redistest.Password("swordfish"), redistest.UnixSocket())
	tcp := "tcp" + strings.TrimPrefix(server.URL(), "redis")
	for _, good := range []string{server.URL(), tcp, server.SocketURL()} {
		c, err := client.Open(client.Options{Redis: good})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Notify(t.Context(), 1002, "calc", nil); err != nil {
			t.Errorf("%s: %v", good, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	c, err := client.Open(client.Options{Redis: strings.Replace(server.URL(), "swordfish", "wrong-one", 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Notify(t.Context(), 1002, "calc", nil); err == nil || strings.Contains(err.Error(), "wrong-one") {
		t.Errorf("with a wrong password: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
