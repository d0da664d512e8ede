package client_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A front end does not see that a service has come, or goes on to ask one that has gone; or
// it takes one for gone that only stood still for a while.
func TestAServerTellsThatItComesAndGoes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := client.NewServer(r.c, client.ServerOptions{Lease: 3 * time.Second}) // renewed every second
	for _, cmd := range []string{"render", "render@2", "no topic"} {
		s.HandleFunc(cmd, func(context.Context, *client.Request) (any, error) { return nil, nil })
	}
	v := r.serve(s)
	name := r.consumer()
	r.wantTold(name, "up", "render", "render@2")
	r.awaitTaker()
	r.must(r.rdb.Del(r.Context(), "msgbus.system.consumer."+name).Err())
	r.wantTold(name, "up", "render", "render@2")
	v.stop()
	r.wantTold(name, "down", "render", "render@2")
	if n := r.length("msgbus.system.local"); n != 0 {
		t.Errorf("it tells %d times more", n)
	}
}

// wantTold wants events about a consumer, one a command.
func (r *rig) wantTold(consumer, what string, commands ...string) {
	r.Helper()
	var topics, want []string
	for _, cmd := range commands {
		m := r.asked()
		wantEqual(r, "the command", m.Text("cmd"), "msgbus.event")
		wantEqual(r, "the data", m.Text("dat"), fleettest.Encode(`{"consumer":"`+consumer+`"}`))
		topics = append(topics, extOf(m).text("topic"))
		want = append(want, "msgbus/service."+what+"."+cmd)
	}
	slices.Sort(topics)
	if !slices.Equal(topics, want) {
		r.Errorf("it tells %q, want %q", topics, want)
	}
}
