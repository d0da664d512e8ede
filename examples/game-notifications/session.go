package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// A Session is one client's connection. [Handlers.Open] makes one.
type Session struct {
	messenger *Messenger
	authUID   string
	token     string
	page      Page
	tellAgain time.Duration
	log       *slog.Logger

	login    Login
	channels []*client.Subscription
	name     *client.Presence
}

// ErrKicked says that a newer session of the user has begun, or that somebody has sent the
// user away.
var ErrKicked = errors.New("the session was kicked")

// Run pushes to the page what its channels bring, until ctx ends, which is no error, or the
// session is kicked. Another error is Redis's. The session has ended when it returns.
func (s *Session) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	heard := make(chan *client.Event)
	var listening sync.WaitGroup
	for _, channel := range s.channels {
		listening.Go(func() {
			for e := range channel.All(ctx) {
				select {
				case heard <- e:
				case <-ctx.Done():
				}
			}
		})
	}
	err := s.serve(ctx, heard)
	stop()
	listening.Wait()
	return errors.Join(err, s.close())
}

func (s *Session) serve(ctx context.Context, heard <-chan *client.Event) error {
	again := time.NewTicker(s.tellAgain)
	defer again.Stop()
	for {
		var err error
		select {
		case e := <-heard:
			err = s.hear(e)
		case <-s.name.Lost():
			err = s.loseName(ctx)
		case <-again.C:
			err = s.takeName(ctx)
		case <-ctx.Done():
		}
		switch {
		case ctx.Err() != nil && !errors.Is(err, ErrKicked):
			return nil
		case err != nil:
			return err
		}
	}
}

// hear does what an event asks for: a kick and a newer session end this one, all else goes
// to the page.
func (s *Session) hear(e *client.Event) error {
	if strings.HasPrefix(e.Topic, client.PresenceExchange+"/") {
		return s.hearOfLogin(e.Topic, e.Data)
	}
	if e.Lost != 0 {
		s.page.Missed(e.Lost)
	}
	var m Message
	err := e.Decode(&m)
	if err == nil {
		err = m.checkFor(e.Topic) // what stands in Redis may be of any program
	}
	switch {
	case err != nil:
		s.log.Warn("dropped a message", "channel", e.Topic, "twin", e.Source, "err", err)
		return nil
	case m.Action != ActionKick:
		s.push(m)
		return nil
	case m.Token == s.token:
		return nil // it is for the others, as those are that the original's sessions send
	}
	return s.kick(m)
}

// hearOfLogin is told who has taken the user's name, on any machine.
func (s *Session) hearOfLogin(topic string, who []byte) error {
	if strings.HasPrefix(topic, client.PresenceExchange+"/presence.down.") {
		return nil
	}
	newcomer, err := parseLogin(who)
	if err != nil {
		s.log.Warn("dropped a log-in", "topic", topic, "err", err)
		return nil
	}
	if !s.login.isOlder(newcomer) {
		return nil
	}
	return s.kick(Message{Action: ActionKick, Data: []byte("null")})
}

// takeName has the user's name on this machine, and tells all sessions of the user that this
// one has.
func (s *Session) takeName(ctx context.Context) error {
	before := s.name
	var err error
	if s.name, err = s.messenger.Bus.Announce(ctx, UserChannel(s.authUID), s.login); err != nil {
		s.name = before
		return err
	}
	if before != nil {
		return before.Close() // it has lost the name, to us or to another
	}
	return nil
}

// loseName is for when another session of this machine has taken the user's name. If that is
// an older one, which was late, the name is taken back.
func (s *Session) loseName(ctx context.Context) error {
	who, taken, err := s.messenger.Bus.Present(ctx, UserChannel(s.authUID))
	if err != nil {
		return err
	}
	if taken {
		if err := s.hearOfLogin(UserChannel(s.authUID), who); err != nil {
			return err
		}
	}
	return s.takeName(ctx)
}

// kick ends the session, and has the page say why.
func (s *Session) kick(m Message) error {
	s.push(m)
	return ErrKicked
}

// push gives the page a message without the token of another session, such as that of the
// newer one that kicks this: whoever has it may play as the user.
func (s *Session) push(m Message) {
	if m.Token != s.token {
		m.Token = ""
	}
	s.page.Push(m)
}

// close gives back what begin has taken.
func (s *Session) close() error {
	var errs []error
	for _, channel := range s.channels {
		if channel != nil { // it could not be had
			errs = append(errs, channel.Close())
		}
	}
	if s.name != nil {
		errs = append(errs, s.name.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close a session of user %s: %w", s.authUID, err)
	}
	return nil
}
