package gateway_test

import (
	"context"
	"testing"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/gateway"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

var user666 = gateway.Claims{User: "666", Topics: []string{"srv_msg", "user.666"}, Publish: []string{"chat.666"}, Single: true}

// Users see nothing of what happens on another machine, or are signed in twice: whatever
// the tests of the gateway say, a browser does not understand it.
func TestABrowserHearsAnotherTwinsApp(t *testing.T) {
	t.Parallel()
	for _, page := range []struct{ name, replaced string }{{"source", "closed"}, {"socket", "closed 4002"}} {
		t.Run(page.name, func(t *testing.T) {
			s := newStage(t)
			b := launch(t)
			ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
			defer cancel()
			if err := s.own.Publish(ctx, "srv_msg", map[string]string{"text": "before"}, client.Retain()); err != nil {
				t.Fatal(err)
			}
			fleettest.Eventually(t, "the event before", func() error {
				return s.relay.RDB.HGet(ctx, "msgbus.system.retained", "1001 srv_msg").Err()
			})
			chat, err := s.own.Subscribe(ctx, "chat.*")
			if err != nil {
				t.Fatal(err)
			}
			defer chat.Close()

			b.open(s.page(page.name, s.token(user666)))
			b.wants("state", "open")
			b.wants("told", `event srv_msg of 1001: {"text":"before"}`)
			if err := s.other.Publish(ctx, "user.666", map[string]int{"job": 17}); err != nil {
				t.Fatal(err)
			}
			b.wants("told", `event user.666 of 1002: {"job":17}`)
			if page.name == "socket" {
				if e, err := chat.Next(ctx); err != nil || e.Topic != "chat.666" || string(e.Data) != `{"text":"hello"}` {
					t.Errorf("an app hears %+v, %v", e, err)
				}
			}

			newer := b.another()
			newer.open(s.page(page.name, s.token(user666)))
			newer.wants("state", "open")
			b.wants("told", "kick replaced")
			b.wants("state", page.replaced)
			if err := s.other.Publish(ctx, "user.666", map[string]int{"job": 18}); err != nil {
				t.Fatal(err)
			}
			newer.wants("told", `event user.666 of 1002: {"job":18}`)
		})
	}
}

// A page of another site, or one whose token is not good, hears what is not for it.
func TestABrowserIsKeptOut(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	b := launch(t)
	good := s.token(user666)
	b.open(s.page("source", good[:len(good)-4]+"AAAA"))
	b.wants("state", "closed")
	b.open(s.page("socket", good[:len(good)-4]+"AAAA"))
	b.wants("state", "closed 1006")
	elsewhere := newStage(t) // whose pages are of another site
	b.open(elsewhere.pages + "/source.html?gateway=" + s.gateway + "&token=" + good)
	b.wants("state", "closed")
	b.open(elsewhere.pages + "/socket.html?gateway=" + s.gateway + "&token=" + good)
	b.wants("state", "closed 1006")
}
