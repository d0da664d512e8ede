package client_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/msgbusd/msgbusd/client"
)

// Somebody follows a request from his app into his service, and its trace ends at the
// library; or one that is broken costs him the request.
func TestTheTraceOfACallReachesItsService(t *testing.T) {
	r := newRig(t)
	r.runRelay()
	s := client.NewServer(r.c, client.ServerOptions{})
	asked := make(chan *client.Request, 1)
	s.HandleFunc("look", func(_ context.Context, r *client.Request) (any, error) {
		asked <- r
		return nil, nil
	})
	r.serve(s)
	const parent, state = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "mine=7"
	for _, given := range [][2]string{{parent, state}, {parent, ""}, {"broken", ""}, {}} {
		r.must(r.c.Call(r.context(), 1002, "look", nil, nil, client.Trace(given[0], given[1])))
		got := await(t, asked, "the request")
		if got.Traceparent != given[0] || got.Tracestate != given[1] {
			t.Errorf("the service is told %q and %q, want %q", got.Traceparent, got.Tracestate, given)
		}
	}
}

// An app that writes something else there loses its requests.
func TestATraceThatIsNoTextCostsTheRequestNothing(t *testing.T) {
	r := newRig(t)
	s := client.NewServer(r.c, client.ServerOptions{})
	asked := make(chan *client.Request, 1)
	s.HandleFunc("look", func(_ context.Context, r *client.Request) (any, error) {
		asked <- r
		return nil, nil
	})
	r.serve(s)
	pending := r.c.Go(r.context(), 1002, "look", nil)
	m := r.asked()
	r.push("msgbus.look", m.With("traceparent", 7).With("tracestate", []int{1}).With("ret", m.Text("ret")))
	got := await(t, asked, "the request")
	wantEqual(t, "the trace", got.Traceparent, "")
	wantEqual(t, "when it was asked", fmt.Sprint(got.Time.Unix()), fmt.Sprint(m["now"]))
	r.must(pending.Reply().Err)
}
