package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/msgbus"
)

// The relay refuses what the app asks, or takes it for the other dialect.
func TestARequestIsAsTheSpecificationSays(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	before := time.Now().Unix()
	ended := r.ask(ctx, nil, client.Tag(map[string]int{"job": 4}), client.Retries(7), client.Schema("text/plain"),
		client.Mandatory(), client.OnProgress(func(client.Progress) {}))
	m := r.asked()
	now, err := m["now"].(json.Number).Int64()
	r.must(err)
	if now < before || now > time.Now().Unix() {
		t.Errorf("now is %d", now)
	}
	if exp := m.Text("exp"); exp != "20" && exp != "21" {
		t.Errorf("exp is %s, and the context lives for 20 s", exp)
	}
	wantEqual(t, "the rest", m.Without("now", "exp").String(), compact(t, fleettest.Message{
		"ver": 1, "uid": "", "src": 0, "dst": []int{1002}, "cmd": "calc", "try": 7, "dat": fleettest.Encode(`"question"`),
		"ret": r.c.List(), "shm": "text/plain", "err": "",
		"ext": map[string]any{"id": r.c.List() + ".1", "tag": map[string]int{"job": 4}, "progress": r.c.List(), "mandatory": true},
	}))
	r.give(replyFrom(m, 1002, "null"))
	r.must(await(t, ended, "the answer"))
}

// A program gives a time limit, and the request lives for another one.
func TestARequestLivesAsLongAsItsCallerWaits(t *testing.T) {
	r := newRig(t)
	for _, v := range []struct {
		what string
		ctx  time.Duration
		opts []client.CallOption
		want []string // the second it begins in is a part of one
	}{
		{"nothing said", 0, nil, []string{"60", "61"}},
		{"a short context", 300 * time.Millisecond, nil, []string{"1", "2"}},
		{"a long one", 200 * 365 * 24 * time.Hour, nil, []string{"1000000000"}},
		{"Expire", 0, []client.CallOption{client.Expire(1500 * time.Millisecond)}, []string{"2", "3"}},
		{"both", time.Hour, []client.CallOption{client.Expire(5 * time.Second)}, []string{"5", "6"}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if v.ctx > 0 {
			ctx, cancel = context.WithTimeout(t.Context(), v.ctx)
		}
		ended := r.ask(ctx, nil, v.opts...)
		if exp := r.asked().Text("exp"); !slices.Contains(v.want, exp) {
			t.Errorf("%s: exp is %s, want one of %v", v.what, exp, v.want)
		}
		cancel()
		if err := await(t, ended, "the end"); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", v.what, err)
		}
	}
}

// An app with many users hands one of them the answer of another.
func TestEveryCallerGetsItsOwnAnswer(t *testing.T) {
	r := newRig(t)
	const callers, each = 50, 20
	var calling sync.WaitGroup
	for i := range callers {
		calling.Go(func() {
			for n := range each {
				want := fmt.Sprintf("%d/%d", i, n)
				got, err := client.Call[string](r.context(), r.c, 1002, "echo", want)
				if err != nil || got != want {
					t.Errorf("asked %q, got %q, %v", want, got, err)
				}
			}
		})
	}
	// As many at once, each time in the other order.
	for range each {
		var batch []fleettest.Message
		for range callers {
			m := r.asked()
			batch = append(batch, replyFrom(m, 1002, m.Data()))
		}
		slices.Reverse(batch)
		r.push(r.c.List(), batch...)
	}
	calling.Wait()
	r.awaitIdle()
}

// awaitIdle waits until nobody reads, and wants nothing to be left in Redis.
func (r *rig) awaitIdle() {
	r.Helper()
	fleettest.Eventually(r, "the client rests", func() error {
		if n, reading := r.c.Waiting(); n > 0 || reading {
			return fmt.Errorf("%d requests wait, reading: %t", n, reading)
		}
		return nil
	})
	wantEqual(r, "answers that are left", r.length(r.c.List()), 0)
}

// A handler of the app hangs in a call although its own caller has gone.
func TestACallEndsWithItsContextAtOnce(t *testing.T) {
	r := newRig(t)
	for _, frozen := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		if frozen {
			r.server.Stop()
		}
		ended := r.ask(ctx, nil)
		if !frozen {
			r.asked()
		}
		cancel()
		begun := time.Now()
		wantErrorIs(t, await(t, ended, "the end"), context.Canceled)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %v (Redis frozen: %t)", took, frozen)
		}
	}
	r.server.Continue()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErrorIs(t, r.c.Call(ctx, 1002, "calc", nil, nil), context.Canceled)
	r.awaitIdle()
}

// An answer that comes too late for its caller fills Redis, or is taken for another's.
func TestAnAnswerThatComesTooLateIsDropped(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := r.ask(ctx, nil)
	late := r.asked()
	cancel()
	wantErrorIs(t, await(t, ended, "the end"), context.Canceled)

	var got string
	ended = r.ask(r.context(), &got)
	m := r.asked()
	r.give(replyFrom(late, 1002, `"late"`))
	r.give(replyFrom(m, 1003, `"of another twin"`))
	r.give(replyFrom(m, 1002, `"right"`))
	r.give(replyFrom(m, 1002, `"again"`))
	r.must(await(t, ended, "the answer"))
	wantEqual(t, "answer", got, "right")
	fleettest.Eventually(t, "the list is read", func() error {
		if n := r.length(r.c.List()); n > 1 { // the last may come when nobody reads any more
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
}

// The relay is down, and the app waits for ever, or is told nothing that helps.
func TestACallTellsThatNotEvenTheBusAnswers(t *testing.T) {
	r := newRig(t)
	r.c.SetGrace(100 * time.Millisecond)
	err := r.c.Call(t.Context(), 1002, "calc", nil, nil, client.Expire(50*time.Millisecond))
	wantErrorIs(t, err, client.ErrNoAnswer)
	r.awaitIdle()
}

// An app cannot tell what went wrong, and shows people a text of the bus.
func TestErrorsSayWhatTheServiceAndTheBusSay(t *testing.T) {
	r := newRig(t)
	fail := func(change func(m fleettest.Message) fleettest.Message) *client.Error {
		t.Helper()
		ended := r.ask(r.context(), nil)
		r.give(change(r.asked()))
		return asError(t, await(t, ended, "the error"))
	}
	text := func(m fleettest.Message) fleettest.Message {
		return replyFrom(m, 1002, "").With("err", "no such wallet")
	}

	e := fail(text)
	wantEqual(t, "text alone", fmt.Sprintf("%+v", *e), fmt.Sprintf("%+v", client.Error{Twin: 1002, Message: "no such wallet"}))
	wantEqual(t, "as text", e.Error(), "twin 1002: no such wallet")
	wantEqual(t, "reason of a service's error", e.Reason(), "")

	e = fail(func(m fleettest.Message) fleettest.Message {
		return with(text(m), "error", map[string]any{"code": 17, "class": "NotFound", "message": "…", "data": []int{1}})
	})
	wantEqual(t, "all of it", fmt.Sprintf("%+v", *e), fmt.Sprintf("%+v", client.Error{
		Twin: 1002, Code: 17, Class: "NotFound", Message: "no such wallet", Data: json.RawMessage("[1]"),
	}))

	e = fail(func(m fleettest.Message) fleettest.Message {
		return replyFrom(m, 1002, "").With("err", map[string]any{"code": 255, "message": "of the newer dialect"})
	})
	wantEqual(t, "newer dialect", fmt.Sprint(e.Code, e.Message), "255of the newer dialect")

	e = fail(func(m fleettest.Message) fleettest.Message { return busError(m, 1002, "expired", "request timeout") })
	wantEqual(t, "reason", e.Reason(), msgbus.Expired)
}

// A request that is wrong gets one error, of the own twin, and the app waits for the
// twins that it asked.
func TestARequestThatIsRefusedAsAWholeEndsForAllTwins(t *testing.T) {
	r := newRig(t)
	for _, refuser := range []uint32{1001, 7} { // 1001 is one of those that are asked
		replies := r.all([]uint32{1001, 1002, 1003}, func(m fleettest.Message) {
			r.give(busError(m, refuser, "too_large", "received invalid message").With("uid", ""))
		})
		wantEqual(t, "replies", len(replies), 3)
		for twin, reply := range replies {
			e := asError(t, reply.Err)
			wantEqual(t, "error", fmt.Sprint(e.Twin, e.Reason()), fmt.Sprint(twin, msgbus.TooLarge))
		}
	}
}

// all asks twins and returns their replies, which answer gives.
func (r *rig) all(twins []uint32, answer func(m fleettest.Message)) map[uint32]*client.Reply {
	r.Helper()
	replies := make(map[uint32]*client.Reply)
	var answering sync.WaitGroup
	answering.Go(func() { answer(r.asked()) })
	for reply := range r.c.CallAll(r.context(), twins, "calc", nil, client.Tag("mine")) {
		if replies[reply.Twin] != nil {
			r.Errorf("twin %d has two replies", reply.Twin)
		}
		replies[reply.Twin] = reply
	}
	answering.Wait()
	return replies
}

// An app adds as much as the pages say, and its request is refused here, or by the relay.
func TestATagMayBeAsLongAsTheRelayCarries(t *testing.T) {
	bus := client.NewFake()
	defer bus.Close()
	client.Handle(bus.Twin(1002), "length", func(ctx context.Context, _ any) (int, error) {
		return len(client.RequestFrom(ctx).Tag), nil
	})
	longest := strings.Repeat("x", msgbus.MaxTag-len(`""`))
	got, err := client.Call[int](t.Context(), bus.Client, 1002, "length", nil, client.Tag(longest))
	if err != nil || got != msgbus.MaxTag {
		t.Errorf("the tag that comes has %d bytes, %v, want %d", got, err, msgbus.MaxTag)
	}
	if _, err := client.Call[int](t.Context(), bus.Client, 1002, "length", nil, client.Tag(longest+"x")); err == nil {
		t.Error("a longer tag is taken")
	}
}

// An app that asks its whole farm waits for the slowest, or counts one twin twice.
func TestAskingManyYieldsEachReplyWhenItComes(t *testing.T) {
	r := newRig(t)
	next, stop := iterate(r.c.CallAll(r.context(), []uint32{1002, 1003, 1002, 1004}, "calc", nil, client.Tag("mine")))
	defer stop()
	first := make(chan *client.Reply, 1)
	var asking sync.WaitGroup
	asking.Go(func() { first <- next() })
	m := r.asked()
	wantEqual(t, "twins", compact(t, m["dst"]), "[1002,1003,1004]")
	r.give(replyFrom(m, 1003, "3"))
	reply := await(t, first, "the first reply")
	asking.Wait()
	var got int
	r.must(reply.Decode(&got))
	wantEqual(t, "reply", fmt.Sprintf("%d %d %s", reply.Twin, got, reply.Tag), `1003 3 "mine"`)

	r.give(busError(m, 1002, "twin_not_found", "destination not found"))
	wantEqual(t, "reason", asError(t, next().Err).Reason(), msgbus.TwinNotFound)
	r.give(replyFrom(m, 1004, "not JSON"))
	reply = next()
	if err := reply.Decode(&got); reply.Err != nil || err == nil {
		t.Errorf("the reply is %+v, decoded: %v", reply, err)
	}
	if reply := next(); reply != nil {
		t.Errorf("one more reply: %+v", reply)
	}
	r.awaitIdle()
}

// Whoever waits for half of the twins knows of the others only that the time is up.
func TestTwinsThatDoNotAnswerHaveAReplyToo(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	replies := make(map[uint32]*client.Reply)
	var answering sync.WaitGroup
	answering.Go(func() { r.give(replyFrom(r.asked(), 1003, "3")) })
	for reply := range r.c.CallAll(ctx, []uint32{1002, 1003, 1004}, "calc", nil) {
		replies[reply.Twin] = reply
		cancel()
	}
	answering.Wait()
	wantEqual(t, "replies", len(replies), 3)
	r.must(replies[1003].Err)
	wantErrorIs(t, replies[1002].Err, context.Canceled)
	wantErrorIs(t, replies[1004].Err, context.Canceled)
}

// A loop that has what it wants leaks what it still waits for.
func TestALoopOverRepliesMayBeLeft(t *testing.T) {
	r := newRig(t)
	var answering sync.WaitGroup
	answering.Go(func() { r.give(replyFrom(r.asked(), 1003, "3")) })
	for reply := range r.c.CallAll(r.context(), []uint32{1002, 1003, 1004}, "calc", nil) {
		wantEqual(t, "twin", reply.Twin, 1003)
		break
	}
	answering.Wait()
	r.awaitIdle()
	for range r.c.CallAll(r.context(), nil, "calc", nil) {
		t.Error("nobody was asked, and somebody answers")
	}
	wantEqual(t, "pushed", r.length("msgbus.system.local"), 0)
}

// Requests of one goroutine overtake each other.
func TestRequestsLeaveInTheOrderOfTheCalls(t *testing.T) {
	r := newRig(t)
	var all []*client.Pending
	for i := range 300 {
		all = append(all, r.c.Go(r.context(), 1002, "calc", i))
	}
	for i := range 300 {
		m := r.asked()
		wantEqual(t, "data", m.Data(), fmt.Sprint(i))
		r.give(replyFrom(m, 1002, m.Data()))
	}
	for i, p := range all {
		await(t, p.Done(), "a reply")
		var got int
		r.must(p.Reply().Decode(&got))
		wantEqual(t, "reply", got, i)
	}
	p := r.c.Go(r.context(), 0, "calc", nil)
	await(t, p.Done(), "the error")
	if p.Reply().Err == nil {
		t.Error("twin 0 was asked")
	}
}

// A notification waits for an answer that never comes, or is gone before Redis has it.
func TestANotificationReturnsWhenRedisHasIt(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r.must(r.c.NotifyAll(ctx, []uint32{1002, 1003, 1002}, "log", "it happened", client.Tag(1)))
	wantEqual(t, "pushed", r.length("msgbus.system.local"), 1)
	m := r.asked()
	wantEqual(t, "ext", compact(t, m["ext"]), `{"id":"`+r.c.List()+`.1","oneway":true,"tag":1}`)
	wantEqual(t, "the rest", fmt.Sprintf("%v %v %v %s", m["dst"], m["cmd"], m["try"], m.Data()), `[1002 1003] log 1000 "it happened"`)
	if exp := m.Text("exp"); exp != "3600" && exp != "3601" {
		t.Errorf("exp is %s: the context bounds only the push", exp)
	}
	r.awaitIdle()
}

// iterate is iter.Pull whose end is a nil.
func iterate(seq iter.Seq[*client.Reply]) (next func() *client.Reply, stop func()) {
	n, stop := iter.Pull(seq)
	return func() *client.Reply {
		v, _ := n()
		return v
	}, stop
}
