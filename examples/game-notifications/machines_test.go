package main

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A site is one of the game's machines, with a real relay and a real Redis.
type site struct {
	*fleettest.Site
	*machine
	handlers *Handlers
	t        *testing.T
}

// pair starts both machines. Both know the tokens "<user>.1" to "<user>.3" of the users 666 to 669.
func pair(t *testing.T) (a, b *site) {
	t.Helper()
	_, siteA, siteB := fleettest.Pair(t)
	tokens := &Tokens{}
	for _, user := range []string{"666", "667", "668", "669"} {
		for _, n := range []string{".1", ".2", ".3"} {
			tokens.Grant(user+n, user)
		}
	}
	return newSite(t, siteA, twinB, tokens), newSite(t, siteB, twinA, tokens)
}

func newSite(t *testing.T, s *fleettest.Site, other uint32, tokens *Tokens) *site {
	t.Helper()
	m, err := newMachine(s.Redis.URL(), other)
	if err != nil {
		t.Fatal(err)
	}
	m.JoinWait = fleettest.Patience // a machine that is slow is not down
	t.Cleanup(func() {
		if err := m.stop(); err != nil {
			t.Errorf("machine %d: %v", s.ID, err)
		}
	})
	return &site{Site: s, machine: m, handlers: &Handlers{Messenger: m.Messenger, Tokens: tokens}, t: t}
}

// A player is a session that runs, and what it shows.
type player struct {
	*recorder
	*Session
	ended <-chan error
}

// open opens a session and runs it until the test's end or its own. set sets the options of
// its handlers.
func (s *site) open(token string, set ...func(*Handlers)) *player {
	s.t.Helper()
	h := *s.handlers
	for _, f := range set {
		f(&h)
	}
	page := newRecorder()
	session, err := h.Open(patient(s.t), token, page)
	if err != nil {
		s.t.Fatalf("open a session at %d: %v", s.ID, err)
	}
	return s.play(session, page)
}

// play runs a session.
func (s *site) play(session *Session, page *recorder) *player {
	ended := make(chan error, 1)
	s.start(func(ctx context.Context) error {
		err := session.Run(ctx)
		ended <- err
		if errors.Is(err, ErrKicked) {
			return nil
		}
		return err
	})
	return &player{recorder: page, Session: session, ended: ended}
}

// wantKicked waits for the end of the session, and wants the page to have been told why.
func (p *player) wantKicked(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.ended:
		if !errors.Is(err, ErrKicked) {
			t.Errorf("the session ended with %v, want a kick", err)
		}
	case <-patient(t).Done():
		t.Fatal("the older session goes on")
	}
	m := p.next(t)
	for m.Action != ActionKick { // what the user was told before
		m = p.next(t)
	}
	if string(m.Data) != "null" || m.Token != "" {
		t.Errorf("the page is told %+v, want a kick without data and without the token of the other session", m)
	}
	p.wantNothing(t)
}

// wantOpen publishes on the user's channel until the session has it, and wants nothing else.
func (p *player) wantOpen(t *testing.T, from *site) {
	t.Helper()
	from.publish(UserChannel(p.authUID), "are you there?")
	if got := p.nextDebug(t); got != "are you there?" {
		t.Errorf("the page shows %q", got)
	}
	select {
	case err := <-p.ended:
		t.Errorf("the session has ended: %v", err)
	default:
	}
}

// A recorder is a page that keeps what it is told.
type recorder struct {
	pushed chan Message
	missed chan int
}

func newRecorder() *recorder {
	return &recorder{pushed: make(chan Message, 1000), missed: make(chan int, 1000)}
}

func (r *recorder) Push(m Message) { r.pushed <- m }
func (r *recorder) Missed(n int)   { r.missed <- n }

// next waits for a message.
func (r *recorder) next(t *testing.T) Message {
	t.Helper()
	select {
	case m := <-r.pushed:
		return m
	case <-patient(t).Done():
		t.Fatal("nothing is pushed to the page")
		return Message{}
	}
}

// nextDebug is next for a debug message, of which it returns the text.
func (r *recorder) nextDebug(t *testing.T) string {
	t.Helper()
	m := r.next(t)
	var d Debug
	decode(t, m, ActionDebug, &d)
	return d.Message
}

func (r *recorder) wantNothing(t *testing.T) {
	t.Helper()
	select {
	case m := <-r.pushed:
		t.Errorf("the page is told %+v", m)
	default:
	}
}

func decode(t *testing.T, m Message, action string, data any) {
	t.Helper()
	if m.Action != action {
		t.Errorf("the action is %q, want %q", m.Action, action)
	}
	if err := json.Unmarshal(m.Data, data); err != nil {
		t.Error(err)
	}
}

// publish publishes a debug message, and returns how many heard it.
func (s *site) publish(channel, text string, opts ...client.CallOption) int {
	s.t.Helper()
	heard, err := s.tryPublish(channel, text, append([]client.CallOption{client.Expire(fleettest.Patience)}, opts...)...)
	if err != nil {
		s.t.Error(err)
	}
	return heard
}

func (s *site) tryPublish(channel, text string, opts ...client.CallOption) (int, error) {
	s.t.Helper()
	return s.PublishCounted(patient(s.t), channel, message(s.t, ActionDebug, Debug{Message: text}), opts...)
}

func message(t *testing.T, action string, data any) Message {
	t.Helper()
	m, err := NewMessage(action, data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// submit has a client of this machine ask for a node to be charged.
func (s *site) submit(token, node string) (Submitted, error) {
	s.t.Helper()
	m := message(s.t, ActionCharge, Charge{ID: node, Type: "ContactPerp", Path: "some.full.path"})
	m.Token = token
	return client.Call[Submitted](patient(s.t), s.Bus, s.ID, SubmitCommand, m)
}

// patient is a context for what must come.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// longAgo is a clock that stands.
func longAgo() time.Time { return time.UnixMilli(1) }
