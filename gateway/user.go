package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// A user whose token says "single" has one session, the newest, wherever it is. Each such
// session takes the user's name on the bus and says who it is; all gateways hear of it, and
// end what is older. They agree on which of two is older, so one is always left.

// namePrefix is what names of users on the bus begin with.
const namePrefix = "user."

// A newcomer is what a session says of itself when it takes its user's name.
type newcomer struct {
	Session string `json:"session"`
	Since   int64  `json:"since"` // unix milliseconds
}

// announceLimit is how long the bus may take to hear of a user.
const announceLimit = 5 * time.Second

// takeUser announces the session as the one of its user.
func (s *session) takeUser(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, announceLimit)
	defer cancel()
	name, err := s.g.bus.Announce(ctx, namePrefix+s.claims.User, newcomer{s.id, s.since})
	if err != nil {
		return fmt.Errorf("announce a user: %w", err)
	}
	s.name = name
	s.g.sessions.serving.Go(func() { s.keepUser(name) })
	return nil
}

// keepUser ends the session when it has lost its name to a newer one. The event that tells
// so is faster, as a rule, but may be lost with a connection to Redis.
func (s *session) keepUser(name Name) {
	select {
	case <-s.ctx.Done():
		return
	case <-name.Lost():
	}
	ctx, cancel := context.WithTimeout(s.ctx, announceLimit)
	defer cancel()
	info, there, err := s.g.bus.Present(ctx, namePrefix+s.claims.User)
	if err == nil && there {
		s.yield(info)
	}
}

// yield ends the session if it is older than who has taken its user's name.
func (s *session) yield(info json.RawMessage) {
	var by newcomer
	if json.Unmarshal(info, &by) != nil || by.Session == "" || by.Session == s.id {
		return // some other program's
	}
	if s.isOlder(by) {
		s.replace()
	}
}

func (s *session) replace() {
	s.end(refuse(Replaced, "a newer session of the user has taken its place"))
}

// Events that tell who has a name: `msgbus/presence.up.user.<user>`, and with replaced.
const (
	userEvents    = client.PresenceExchange + "/presence.*." + namePrefix + "#"
	presenceTopic = client.PresenceExchange + "/presence."
)

// userOf returns whose name an event tells of, or "".
func userOf(topic string) string {
	rest, ok := strings.CutPrefix(topic, presenceTopic)
	what, name, _ := strings.Cut(rest, ".")
	if !ok || what != "up" && what != "replaced" {
		return ""
	}
	user, ok := strings.CutPrefix(name, namePrefix)
	if !ok {
		return ""
	}
	return user
}

// watchAgain is how long after the bus could not be heard.
const watchAgain = time.Second

// watchUsers ends sessions that have been replaced, until ctx ends.
func (g *Gateway) watchUsers(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, subscribeLimit)
		s, err := g.bus.Subscribe(limited, userEvents)
		cancel()
		if err != nil {
			if !failing && ctx.Err() == nil {
				failing = true
				g.opts.Log.Warn().Err(err).Msg("the gateway cannot hear the bus; trying again")
			}
			pause(ctx, watchAgain)
			continue
		}
		if failing {
			failing = false
			g.opts.Log.Info().Msg("the gateway hears the bus again")
		}
		g.yieldUsers(ctx, s)
		if err := s.Close(); err != nil {
			g.opts.Log.Debug().Err(err).Msg("the subscription to users does not end well")
		}
	}
}

func (g *Gateway) yieldUsers(ctx context.Context, s Subscription) {
	for {
		e, err := s.Next(ctx)
		if err != nil {
			return
		}
		user := userOf(e.Topic)
		if user == "" {
			continue
		}
		for _, of := range g.sessions.of(user) {
			of.yield(e.Data)
		}
	}
}

// pause waits for so long, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
