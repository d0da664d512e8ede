package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/msgbusd/msgbusd/client"
)

// A story is all roles on two machines, and what happens to them.
type story struct {
	a, b                 *machine
	handlersA, handlersB *Handlers
	tokens               *Tokens
	game                 *Game
	pageAtA, pageAtB     *Frontend

	mu  sync.Mutex
	out io.Writer // guarded by mu
}

// The user of the story, and the tokens of his two log-ins.
const (
	theUser     = "666"
	firstToken  = "token-of-the-first-session"
	secondToken = "token-of-the-second-session"
)

// run tells the story on the two Redis servers a and b. An error is of the step that failed.
func run(ctx context.Context, a, b string, out io.Writer) (err error) {
	s, err := newStory(a, b, out)
	if err != nil {
		return err
	}
	// In this order: what A's roles still ask for, B's may do.
	defer func() { err = errors.Join(err, s.a.stop(), s.b.stop()) }()
	for _, step := range []func(context.Context) error{
		s.nobodyListens, s.logsIn, s.areTold, s.submits, s.works, s.logsInElsewhere, s.isRefused,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.tell("the end")
	return nil
}

func newStory(a, b string, out io.Writer) (*story, error) {
	s := &story{tokens: &Tokens{}, game: &Game{}, out: out}
	s.tokens.Grant(firstToken, theUser)
	s.tokens.Grant(secondToken, theUser)
	var err error
	if s.a, err = newMachine(a, twinB); err != nil {
		return nil, err
	}
	if s.b, err = newMachine(b, twinA); err != nil {
		return nil, errors.Join(err, s.a.stop())
	}
	s.handlersA = &Handlers{Messenger: s.a.Messenger, Tokens: s.tokens}
	s.handlersB = &Handlers{Messenger: s.b.Messenger, Tokens: s.tokens}
	s.pageAtA, s.pageAtB = NewFrontend("browser at 1001", s.tell), NewFrontend("browser at 1002", s.tell)
	return s, nil
}

func (s *story) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format+"\n", args...)
}

// debug publishes from twin 1002, and tells who heard it.
func (s *story) debug(ctx context.Context, channel, text string) error {
	m, err := NewMessage(ActionDebug, Debug{Message: text})
	if err != nil {
		return err
	}
	heard, err := s.b.PublishCounted(ctx, channel, m)
	if err != nil {
		return err
	}
	s.tell("1002 publishes debug %q to %s: heard on %d machines", text, channel, heard)
	return nil
}

func (s *story) nobodyListens(ctx context.Context) error {
	s.tell("# nobody listens, so this is lost, and its publisher is told")
	return s.debug(ctx, Broadcast, "is anybody there?")
}

func (s *story) logsIn(ctx context.Context) error {
	s.tell("# user %s opens the game at machine 1001", theUser)
	session, err := s.handlersA.Open(ctx, firstToken, s.pageAtA)
	if err != nil {
		return err
	}
	s.a.play(session)
	return nil
}

func (s *story) areTold(ctx context.Context) error {
	s.tell("# what machine 1002 publishes reaches the browsers of both")
	if err := s.debug(ctx, Broadcast, "to all"); err != nil {
		return err
	}
	if err := s.pageAtA.await(ctx, ActionDebug); err != nil {
		return err
	}
	if err := s.debug(ctx, UserChannel(theUser), "to one"); err != nil {
		return err
	}
	if err := s.pageAtA.await(ctx, ActionDebug); err != nil {
		return err
	}
	return s.debug(ctx, UserChannel("667"), "to another, who does not play")
}

func (s *story) submits(ctx context.Context) error {
	s.tell("# the client asks JSON-RPC to charge a node; no worker is there yet, and the queue keeps the task")
	s.a.serve((&RPC{Messenger: s.a.Messenger, Tokens: s.tokens, Workers: twinB}).Register)
	submitted, err := s.submit(ctx, firstToken)
	if err != nil {
		return err
	}
	s.tell("1001 has queued task %s at 1002", submitted.Task)
	return nil
}

func (s *story) submit(ctx context.Context, token string) (Submitted, error) {
	m, err := NewMessage(ActionCharge, Charge{ID: "node-17", Type: "ContactPerp", Path: "some.full.path"})
	if err != nil {
		return Submitted{}, err
	}
	m.Token = token
	return client.Call[Submitted](ctx, s.a.Bus, twinA, SubmitCommand, m)
}

func (s *story) works(ctx context.Context) error {
	s.tell("# a worker starts at machine 1002, and tells the browser at the other one")
	s.b.serve((&Worker{Messenger: s.b.Messenger, Game: s.game}).Register)
	if err := s.pageAtA.await(ctx, ActionNodeReady); err != nil {
		return err
	}
	return s.pageAtA.await(ctx, ActionNewItems)
}

func (s *story) logsInElsewhere(ctx context.Context) error {
	s.tell("# user %s opens the game again, at machine 1002", theUser)
	session, err := s.handlersB.Open(ctx, secondToken, s.pageAtB)
	if err != nil {
		return err
	}
	s.b.play(session)
	return s.pageAtA.await(ctx, ActionKick)
}

func (s *story) isRefused(ctx context.Context) error {
	s.tell("# a token that is nobody's opens no session and queues nothing")
	if _, err := s.handlersA.Open(ctx, "forged", s.pageAtA); !errors.Is(err, ErrUnauthorized) {
		return fmt.Errorf("a forged token opens a session: %v", err)
	}
	_, err := s.submit(ctx, "forged")
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Class != ClassUnauthorized {
		return fmt.Errorf("a forged token queues a task: %v", err)
	}
	s.tell("1001 says: %s", refused.Message)
	return nil
}
