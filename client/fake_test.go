package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/msgbus"
)

// An app passes its tests with the fake bus, and fails on the real one.
func TestTheFakeBusBehavesAsTheRealOne(t *testing.T) {
	r := newRig(t)
	r.runRelay()
	s := client.NewServer(r.c, client.ServerOptions{})
	fake := client.NewFake()
	defer fake.Close()
	for _, mux := range []client.Mux{s, fake.Twin(1002)} {
		client.Handle(mux, "add", add)
		client.Handle(mux, "fail", func(ctx context.Context, in string) (any, error) {
			if err := client.RequestFrom(ctx).Progress(ctx, 2, 1, nil); err != nil {
				return nil, err
			}
			return nil, &client.Error{Code: 4, Class: "Failed", Message: in, Data: []byte("[1]")}
		})
	}
	r.serve(s)
	var said [2]string
	for i, c := range []*client.Client{r.c, fake.Client} {
		ctx := r.context()
		sum, err := client.Call[int](ctx, c, 1002, "add", []int{1, 2})
		said[i] = fmt.Sprintln(sum, err)
		err = c.Call(ctx, 1002, "fail", "why", nil, client.OnProgress(func(p client.Progress) {
			said[i] += fmt.Sprintln(p.Twin, p.Status, p.Seq, p.Completed, p.Total)
		}))
		said[i] += fmt.Sprintf("%+v\n", *asError(t, err))
		for reply := range c.CallAll(ctx, []uint32{1002}, "add", []int{3}, client.Tag("mine")) {
			if reply.Time.IsZero() {
				t.Error("it does not say when it was answered")
			}
			reply.Time = time.Time{}
			said[i] += fmt.Sprintf("%+v\n", *reply)
		}
		said[i] += fmt.Sprintln(c.Notify(ctx, 1002, "add", []int{4}))
		said[i] += fmt.Sprintf("%s\n", c.Go(ctx, 1002, "add", []int{5}).Reply().Data)
	}
	if said[0] != said[1] {
		t.Errorf("the real bus says\n%s\nand the fake one\n%s", said[0], said[1])
	}
}

// A test cannot see what its app has asked, or what the bus says when something is wrong.
func TestTheFakeBusTellsWhatItWasAsked(t *testing.T) {
	bus := client.NewFake()
	defer bus.Close()
	client.Handle(bus.Twin(1002), "add", add)
	bus.Twin(1003)
	reasons := make(map[uint32]msgbus.Reason)
	for reply := range bus.CallAll(t.Context(), []uint32{1002, 1003, 1004}, "add", []int{1}) {
		var e *client.Error
		if errors.As(reply.Err, &e) {
			reasons[reply.Twin] = e.Reason()
		}
	}
	wantEqual(t, "reasons", fmt.Sprint(reasons), "map[1003:no_service 1004:twin_not_found]")
	var asked []string
	for _, q := range bus.Requests() {
		asked = append(asked, fmt.Sprintf("%d %s %s of %d", q.Twin, q.Command, q.Data, q.Source))
	}
	wantEqual(t, "asked", fmt.Sprint(asked), "[1002 add [1] of 1 1003 add [1] of 1 1004 add [1] of 1]")
}

// A test of a time-out takes as long as the time-out.
func TestTheFakeBusRunsOnAFakeClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := client.NewFake()
		defer bus.Close()
		bus.Twin(1002).HandleFunc("slow", func(ctx context.Context, _ *client.Request) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		begun := time.Now()
		err := bus.Call(t.Context(), 1002, "slow", nil, nil, client.Expire(time.Hour))
		wantEqual(t, "reason", asError(t, err).Reason(), msgbus.Expired)
		if took := time.Since(begun); took < time.Hour || took > time.Hour+2*time.Second {
			t.Errorf("it took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		wantErrorIs(t, bus.Call(ctx, 1002, "slow", nil, nil), context.DeadlineExceeded)
	})
}
