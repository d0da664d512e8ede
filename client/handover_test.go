package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// A stubborn service tells of each request, and works until it is let go or told to stop.
type stubborn struct {
	came chan *client.Request
	work chan struct{}
}

func newStubborn() *stubborn {
	return &stubborn{came: make(chan *client.Request, 100), work: make(chan struct{})}
}

func (s *stubborn) handle(ctx context.Context, q *client.Request) (any, error) {
	s.came <- q
	select {
	case <-s.work:
		return string(q.Data), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A service crashes, and nobody has what it had: the relay knows neither that there was
// one nor what it had taken.
func TestWhatAServiceWorksOnIsInRedis(t *testing.T) {
	r := newRig(t)
	work := newStubborn()
	s := client.NewServer(r.c, client.ServerOptions{})
	s.HandleFunc("a", work.handle)
	s.HandleFunc("b.c@2", work.handle)
	v := r.serve(s)
	name := r.consumer()
	members, err := r.rdb.ZRangeWithScores(t.Context(), "msgbus.system.consumers", 0, -1).Result()
	r.must(err)
	wantEqual(t, "consumers", fmt.Sprint(members), fmt.Sprintf("[{0 %s a} {0 %s b.c@2}]", name, name))
	ttl := r.rdb.PTTL(t.Context(), "msgbus.system.consumer."+name).Val()
	if ttl <= 10*time.Second || ttl > 15*time.Second {
		t.Errorf("the lease is of %v", ttl)
	}
	fleettest.Parse(t, r.rdb.Get(t.Context(), "msgbus.system.consumer."+name).Val())

	m := request("a", "x")
	r.push("msgbus.a", m)
	await(t, work.came, "the request")
	taken := "msgbus.system.taken." + name + ".a"
	wantEqual(t, "taken", fmt.Sprint(r.rdb.LRange(t.Context(), taken, 0, -1).Val()), "["+m.String()+"]")
	close(work.work)
	wantEqual(t, "answer", r.pop("msgbus.system.reply").Data(), `"x"`)
	wantEqual(t, "taken", r.length(taken), 0)

	v.stop()
	r.wantSignedOff(name)
}

// wantSignedOff wants nothing of a consumer to be left.
func (r *rig) wantSignedOff(name string) {
	r.Helper()
	left := r.rdb.Keys(r.Context(), "msgbus.system.*"+name+"*").Val()
	left = append(left, r.rdb.ZRange(r.Context(), "msgbus.system.consumers", 0, -1).Val()...)
	if len(left) > 0 {
		r.Errorf("the service has left %v", left)
	}
}

// An upgrade of a service: what it works on gets its answer.
func TestAServiceThatStopsFinishesItsWork(t *testing.T) {
	r := newRig(t)
	work := newStubborn()
	s := client.NewServer(r.c, client.ServerOptions{})
	s.HandleFunc("a", work.handle)
	v := r.serve(s)
	name := r.consumer()
	r.push("msgbus.a", request("a", "x"))
	await(t, work.came, "the request")
	r.awaitTaker()
	v.end()
	fleettest.Eventually(t, "it takes no more", func() error {
		if n := r.takers(); n > 0 {
			return fmt.Errorf("%d clients wait", n)
		}
		return nil
	})
	r.push("msgbus.a", request("a", "next"))
	close(work.work)
	v.stop()
	wantEqual(t, "answer", r.pop("msgbus.system.reply").Data(), `"x"`)
	wantEqual(t, "left for others", r.length("msgbus.a"), 1)
	r.wantSignedOff(name)
}

// A service that does not get ready in time: what it had taken must be done by others, in its
// order, and before what came later.
func TestAServiceThatStopsGivesBackWhatItCannotFinish(t *testing.T) {
	r := newRig(t)
	work := newStubborn()
	s := client.NewServer(r.c, client.ServerOptions{Workers: 2, Grace: 100 * time.Millisecond})
	s.HandleFunc("a", work.handle)
	var all []fleettest.Message
	for i := range 5 {
		all = append(all, request("a", fmt.Sprint(i)).With("uid", fmt.Sprintf("1002.%d", i+1)))
	}
	r.push("msgbus.a", all...)
	v := r.serve(s)
	name := r.consumer()
	await(t, work.came, "the first request")
	await(t, work.came, "the second request")
	v.stop()
	for i := range 5 {
		wantEqual(t, "given back", r.pop("msgbus.a").Data(), fmt.Sprint(i))
	}
	wantEqual(t, "answers", r.length("msgbus.system.reply"), 0)
	r.wantSignedOff(name)
}

// A handler that heeds nothing must not keep the program from its end, and what it says
// afterwards must not be told: another service has its request.
func TestAHandlerThatDoesNotEndIsLeft(t *testing.T) {
	r := newRig(t)
	came, work := make(chan struct{}), make(chan struct{})
	var working sync.WaitGroup
	s := client.NewServer(r.c, client.ServerOptions{Grace: 50 * time.Millisecond})
	s.HandleFunc("a", func(context.Context, *client.Request) (any, error) {
		working.Add(1)
		defer working.Done()
		close(came)
		<-work
		return nil, errors.New("too late")
	})
	v := r.serve(s)
	name := r.consumer()
	r.push("msgbus.a", request("a", "x"))
	await(t, came, "the request")
	v.stop()
	r.awaitSaid("do not heed their contexts")
	wantEqual(t, "given back", r.length("msgbus.a"), 1)
	close(work)
	working.Wait()
	wantEqual(t, "answers", r.length("msgbus.system.reply"), 0)
	r.wantSignedOff(name)
}

// The service's connections break while it takes: a request is on its list of which it
// knows nothing, and its app waits until the deadline.
func TestNoRequestIsLostWithAConnection(t *testing.T) {
	r := newRig(t)
	s := client.NewServer(r.c, client.ServerOptions{})
	s.HandleFunc("echo", func(_ context.Context, q *client.Request) (any, error) { return q.Data, nil })
	v := r.serve(s)
	name := r.consumer()
	const requests = 500
	for i := range requests {
		r.push("msgbus.echo", request("echo", fmt.Sprint(i)).With("uid", fmt.Sprintf("1002.%d", i+1)))
		if i%50 == 0 {
			r.cut()
		}
	}
	seen := make(map[string]int)
	for len(seen) < requests {
		seen[r.pop("msgbus.system.reply").Data()]++
	}
	// As if Redis had moved one for a connection that was gone.
	r.awaitTaker()
	r.push("msgbus.system.taken."+name+".echo", request("echo", "astray"))
	r.cut()
	for seen["astray"] == 0 {
		seen[r.pop("msgbus.system.reply").Data()]++
	}
	v.stop()
	r.wantSignedOff(name)
}

// Redis is away when a handler is ready: what it did is not told, and perhaps done again.
func TestAnAnswerWaitsForRedis(t *testing.T) {
	r := newRig(t, redistest.AppendOnly("always"))
	work := newStubborn()
	s := client.NewServer(r.c, client.ServerOptions{})
	s.HandleFunc("a", work.handle)
	v := r.serve(s)
	r.push("msgbus.a", request("a", "x"))
	await(t, work.came, "the request")
	r.server.Kill()
	close(work.work)
	r.awaitSaid("an answer cannot be pushed")
	r.awaitSaid("requests cannot be taken")
	r.server.Restart()
	wantEqual(t, "answer", r.pop("msgbus.system.reply").Data(), `"x"`)
	r.push("msgbus.a", request("a", "y"))
	wantEqual(t, "answer", r.pop("msgbus.system.reply").Data(), `"y"`)
	v.stop()
}

// A service whose lease has ended goes on taking what the relay takes for lost.
func TestAServiceWithoutALeaseTakesNothing(t *testing.T) {
	r := newRig(t)
	s := client.NewServer(r.c, client.ServerOptions{Lease: 3 * time.Second})
	client.Handle(s, "add", add)
	v := r.serve(s)
	r.consumer()
	ctx := t.Context()
	r.must(r.rdb.Rename(ctx, "msgbus.system.consumers", "aside").Err())
	r.must(r.rdb.Set(ctx, "msgbus.system.consumers", "no set", 0).Err())
	r.awaitSaid("the lease cannot be renewed")
	r.awaitSaid("nothing is taken until it is renewed")
	r.push("msgbus.add", request("add", "[1,2]"))
	wantEqual(t, "what waits", r.length("msgbus.add"), 1)
	r.must(r.rdb.Del(ctx, "msgbus.system.consumers").Err())
	wantEqual(t, "answer, with the lease", r.pop("msgbus.system.reply").Data(), "3")
	r.awaitSaid("the lease is renewed again")
	v.stop()
}

// An answer that no list takes is tried for ever, and its worker does nothing else.
func TestAnAnswerThatNobodyCanTakeIsGivenUp(t *testing.T) {
	r := newRig(t)
	r.must(r.rdb.Set(t.Context(), "wrong", "text", 0).Err())
	s := client.NewServer(r.c, client.ServerOptions{Workers: 1})
	client.Handle(s, "add", add)
	v := r.serve(s)
	r.push("msgbus.add", request("add", "[1]").With("ret", "wrong"), request("add", "[2]"))
	wantEqual(t, "the next answer", r.pop("msgbus.system.reply").Data(), "2")
	r.awaitSaid("WRONGTYPE")
	v.stop()
	wantEqual(t, "what is left", r.length("msgbus.add"), 0)
}

// A program that stops while Redis is away hangs, or says that all is well.
func TestAServiceThatCannotSignOffSaysSo(t *testing.T) {
	r := newRig(t)
	s := client.NewServer(r.c, client.ServerOptions{})
	client.Handle(s, "add", add)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r.consumer()
	r.server.Kill()
	cancel()
	if err := await(t, ended, "the end of Run"); err == nil {
		t.Error("Run says that it has signed off")
	}
}
