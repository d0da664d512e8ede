package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/msgbusd/msgbusd/client"
)

// Handlers are the Socket.IO handlers of one machine: each client that connects gets a
// [Session], which pushes to it what it may hear.
type Handlers struct {
	Messenger *Messenger
	Tokens    *Tokens
	// Buffer is how many messages of a channel may wait for a client that is slow. 0: 1,024.
	Buffer int
	// TellAgain is how often a session tells again that it is the newest of its user: a
	// machine may have been away when it began. 0: a minute.
	TellAgain time.Duration
	// Now is the clock that tells which session is newer. Nil: time.Now.
	Now func() time.Time
	// Log is told of messages that cannot be read. Nil: nobody is.
	Log *slog.Logger
}

const defaultTellAgain = time.Minute

// ErrUnauthorized says that a token is nobody's.
var ErrUnauthorized = errors.New("the token is nobody's")

// A Page is a client's end of a connection. A session calls one method at a time, and waits
// for it.
type Page interface {
	// Push hands over a message. A kick is the last.
	Push(m Message)
	// Missed tells that n messages were lost before the next one, since the page was too
	// slow to take them; -1 when nobody knows how many, since Redis was away.
	Missed(n int)
}

// Open authenticates a client and begins its session. When it returns, the session hears
// both of its channels, and the older ones of the user are told to close, on all machines.
// The session must be run: until then what it hears waits.
//
// Errors: [ErrUnauthorized], and those of Redis.
func (h *Handlers) Open(ctx context.Context, token string, page Page) (*Session, error) {
	user, ok := h.Tokens.User(token)
	if !ok {
		return nil, ErrUnauthorized
	}
	s := &Session{
		messenger: h.Messenger, authUID: user, token: token, page: page,
		tellAgain: cmp.Or(h.TellAgain, defaultTellAgain), log: h.Log,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	now := h.Now
	if now == nil {
		now = time.Now
	}
	if err := s.begin(ctx, h.Buffer, now); err != nil {
		return nil, errors.Join(fmt.Errorf("open a session of user %s: %w", user, err), s.close())
	}
	return s, nil
}

// begin listens before it tells others: of two sessions that begin at once, each hears of the
// other.
func (s *Session) begin(ctx context.Context, buffer int, now func() time.Time) error {
	channels := []string{Broadcast, UserChannel(s.authUID), loginEvents(s.authUID)}
	s.channels = make([]*client.Subscription, len(channels))
	errs := make([]error, len(channels))
	var listening sync.WaitGroup // side by side: each may have to wait for another machine
	for i, channel := range channels {
		listening.Go(func() { s.channels[i], errs[i] = s.messenger.Subscribe(ctx, channel, buffer) })
	}
	listening.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.login = Login{Session: uuid.NewString(), Since: now().UnixMilli()}
	return s.takeName(ctx)
}

// loginEvents are the events that tell that a session has taken a user's name.
func loginEvents(authUID string) string {
	return client.PresenceExchange + "/presence.*." + UserChannel(authUID)
}

// Playing tells whether a session of a user is on this machine.
func (h *Handlers) Playing(ctx context.Context, authUID string) (bool, error) {
	_, ok, err := h.Messenger.Bus.Present(ctx, UserChannel(authUID))
	return ok, err
}
