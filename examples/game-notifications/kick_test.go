package main

import (
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A user plays twice at once, and each game overwrites what the other has saved.
func TestANewerSessionOfAUserEndsTheOlder(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for name, where := range map[string]struct {
		user         string
		older, newer *site
	}{
		"on the same machine":  {"666", a, a},
		"on the other machine": {"667", a, b},
		"and back":             {"668", b, a},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			older := where.older.open(where.user + ".1")
			newer := where.newer.open(where.user + ".2")
			older.wantKicked(t)
			newer.wantOpen(t, a)
			for _, s := range []*site{a, b} {
				playing, err := s.handlers.Playing(patient(t), where.user)
				if err != nil || playing != (s == where.newer) {
					t.Errorf("user %s plays at %d: %v (%v)", where.user, s.ID, playing, err)
				}
			}
		})
	}
}

// A user who clicks twice is sent away from both games, as in the original.
func TestOfTwoSessionsThatBeginAtOnceOneIsLeft(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	sites, pages := [2]*site{a, b}, [2]*recorder{newRecorder(), newRecorder()}
	var sessions [2]*Session
	var errs [2]error
	var opening sync.WaitGroup
	for i, s := range sites {
		s.handlers.Now = longAgo
		opening.Go(func() {
			sessions[i], errs[i] = s.handlers.Open(t.Context(), []string{"666.1", "666.2"}[i], pages[i])
		})
	}
	opening.Wait()
	var both [2]*player
	for i, s := range sites {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		both[i] = s.play(sessions[i], pages[i])
	}
	older, newer := both[0], both[1]
	if newer.login.isOlder(older.login) {
		older, newer = newer, older
	}
	older.wantKicked(t)
	newer.wantOpen(t, a)
}

// An operator cannot end the games of a user, or ends that of another.
func TestAnOperatorsKickEndsTheSessionsOfAUserButOneThatItNames(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	player, other := a.open("666.1"), a.open("667.1")
	kick := message(t, ActionKick, nil)
	kick.Token = "666.1"
	if err := b.Publish(patient(t), UserChannel("666"), kick); err != nil {
		t.Fatal(err)
	}
	player.wantOpen(t, b) // behind the kick, which is not for it
	kick.Token = ""
	if err := b.Publish(patient(t), UserChannel("666"), kick); err != nil {
		t.Fatal(err)
	}
	player.wantKicked(t)
	other.wantOpen(t, b)
}

// What tells of a newer session is lost, as anything published may be, and both games go on.
func TestALogInThatAnotherSessionDidNotHearOfIsMadeUpFor(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	t.Run("by the name, on the same machine", func(t *testing.T) {
		t.Parallel()
		older := a.open("666.1")
		// As Announce does, but for the event.
		newer := `{"id":"1","since":1,"info":{"session":"of which nobody tells","since":9999999999999}}`
		if err := a.RDB.Set(t.Context(), "msgbus.system.presence.user.666", newer, fleettest.Patience).Err(); err != nil {
			t.Fatal(err)
		}
		older.wantKicked(t)
	})
	t.Run("by saying it again, on another machine", func(t *testing.T) {
		t.Parallel()
		newer := b.open("667.2", func(h *Handlers) { h.TellAgain = time.Second / 10 })
		// It begins when the newer one has told, and has not heard of it.
		older := a.open("667.1", func(h *Handlers) { h.Now = longAgo })
		older.wantKicked(t)
		newer.wantOpen(t, a)
	})
	t.Run("and an older session does not keep the name", func(t *testing.T) {
		t.Parallel()
		newer := a.open("668.1")
		hears, err := a.Bus.Subscribe(patient(t), "msgbus/presence.replaced.user.668")
		if err != nil {
			t.Fatal(err)
		}
		older := a.announce(t, "668", Login{Session: "an older one", Since: 1})
		for _, want := range []string{"an older one", newer.login.Session} {
			e, err := hears.Next(patient(t))
			if err != nil {
				t.Fatal(err)
			}
			if l, err := parseLogin(e.Data); err != nil || l.Session != want {
				t.Errorf("the name is taken by %q (%v), want %q", l.Session, err, want)
			}
		}
		newer.wantOpen(t, b)
		for _, c := range []interface{ Close() error }{hears, older} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// announce takes a user's name as a session does, and says nothing to others.
func (s *site) announce(t *testing.T, user string, l Login) *client.Presence {
	t.Helper()
	p, err := s.Bus.Announce(patient(t), UserChannel(user), l)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
