package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// A story is callers at one relay and an agent at the other, and what passes.
type story struct {
	dog   Stub // of version 0.2
	agent *Agent

	mu  sync.Mutex
	out io.Writer // guarded by mu: callbacks tell, too
}

// tell runs everything, and writes what passes. It returns when all has ended.
func tell(ctx context.Context, out io.Writer, a, b string) (err error) {
	console, err := client.Open(client.Options{Redis: a})
	if err != nil {
		return fmt.Errorf("open the bus of twin %d: %w", consoleTwin, err)
	}
	defer func() { err = errors.Join(err, console.Close()) }()
	machine, err := client.Open(client.Options{Redis: b})
	if err != nil {
		return fmt.Errorf("open the bus of twin %d: %w", agentTwin, err)
	}
	defer func() { err = errors.Join(err, machine.Close()) }()

	agent := NewAgent(machine, agentTwin, client.ServerOptions{Grace: time.Second})
	exposeDog(agent)
	caller := NewCaller(console, consoleTwin, knownExceptions())
	s := &story{out: out, agent: agent, dog: Stub{Caller: caller, Agent: agentTwin, ClassName: "Dog", Version: "0.2"}}

	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(serving) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
		s.say("the agent has ended, the callers have ended")
	}()
	return s.run(ctx)
}

func (s *story) run(ctx context.Context) error {
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"a call that waits for its agent", s.callEarly},
		{"who is there", s.ask},
		{"a synchronous call, and an event", s.callAndHear},
		{"an asynchronous call, with callbacks", s.callBack},
		{"fire and forget", s.notify},
		{"a prepared call, triggered later", s.trigger},
		{"exceptions", s.raise},
		{"versions side by side", s.compareVersions},
		{"cancelling by data", s.cancel},
	} {
		s.say("\n%s", step.title)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	return nil
}

func (s *story) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format+"\n", args...)
}

// tells is a stub that tells of its statuses.
func (s *story) tells() Stub {
	dog := s.dog
	dog.OnStatus = func(got Status) {
		more := ""
		switch got.Status {
		case InProgress:
			more = fmt.Sprintf(" %d of %d, %s", got.Completed, got.Total, got.Details)
		case RejectedWord:
			more = ": " + got.Reason
		}
		s.say("  %d <- %d  status %s%s", consoleTwin, agentTwin, got.Status, more)
	}
	return dog
}

func (s *story) callEarly(ctx context.Context) error {
	dog := s.tells()
	dog.TTL = 15 * time.Second
	s.say("  %d -> %d  Dog.bark@0.2, to be accepted within %s", consoleTwin, agentTwin, dog.TTL)
	return s.tellResult(dog.Go(ctx, "bark", "hello"))
}

// tellResult tells how a call ends.
func (s *story) tellResult(p *Pending, err error) error {
	if err != nil {
		return err
	}
	o := p.Outcome()
	if o.Err == nil {
		s.say("  %d <- %d  result %s of %s…", consoleTwin, agentTwin, o.RetVal, o.SN[:8])
	}
	return o.Err
}

func (s *story) ask(ctx context.Context) error {
	echo, errEcho := s.dog.Caller.Echo(ctx, agentTwin, "are you there?")
	hello, errHello := s.dog.Caller.Hello(ctx, agentTwin)
	help, errHelp := s.dog.Caller.Help(ctx, agentTwin)
	if err := errors.Join(errEcho, errHello, errHelp); err != nil {
		return err
	}
	s.say("  echo %q, hello from twin %d, msgbusd %s", echo, hello.Twin, hello.Version)
	s.say("  help: %s", strings.Join(help, " "))
	return nil
}

func (s *story) callAndHear(ctx context.Context) (err error) {
	barks, err := s.dog.Listen(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, barks.Close()) }()
	dog := s.dog
	dog.Cntr = []any{"Lassie"}
	var said string
	if err := dog.Call(ctx, &said, "bark", "hello", Kws{"times": 2}); err != nil {
		return err
	}
	s.say("  %d -> %d  Dog(\"Lassie\").bark@0.2(\"hello\", times=2): %q", consoleTwin, agentTwin, said)
	e, err := barks.Next(ctx)
	if err != nil {
		return err
	}
	s.say("  %d <- %d  event %s %s", consoleTwin, e.Source, e.Topic, e.Data)
	return nil
}

func (s *story) callBack(ctx context.Context) error {
	dog := s.tells()
	dog.Data = "group 2"
	dog.OnResult = func(o Outcome) {
		s.say("  callback of %s…: it is %s, and my data is %s", o.SN[:8], o.RetVal, o.Data)
	}
	p, err := dog.Go(ctx, "fetch", []string{"stick", "ball", "slipper"})
	if err != nil {
		return err
	}
	s.say("  %d -> %d  Dog.fetch@0.2, data %q; the caller goes on", consoleTwin, agentTwin, "group 2")
	return p.Result(nil)
}

func (s *story) notify(ctx context.Context) error {
	sn, err := s.dog.Notify(ctx, "bark", "nobody listens")
	s.say("  %d -> %d  Dog.bark@0.2 as %s…; nothing comes back", consoleTwin, agentTwin, sn[:min(8, len(sn))])
	return err
}

func (s *story) trigger(ctx context.Context) error {
	t, err := s.dog.Prepare("bark", "now")
	if err != nil {
		return err
	}
	s.say("  %s… is ready, and not sent", t.Envelope.SN[:8])
	if err := s.tellResult(t.Fire(ctx)); err != nil {
		return err
	}
	_, err = t.Fire(ctx)
	s.say("  once more: %v", err)
	return nil
}

func (s *story) raise(ctx context.Context) error {
	err := s.dog.Call(ctx, nil, "bite", "the postman")
	var bad *BadDog
	if !errors.As(err, &bad) {
		return fmt.Errorf("the dog did not bite: %v", err)
	}
	s.say("  raised again as *BadDog{Name: %q, Bitten: %q}: %v", bad.Name, bad.Bitten, bad)
	err = s.dog.Call(ctx, nil, "count")
	var remote *RemoteException
	if !errors.As(err, &remote) {
		return fmt.Errorf("the dog did count: %v", err)
	}
	s.say("  of a class that nobody knows here: %v", remote)
	return nil
}

func (s *story) compareVersions(ctx context.Context) error {
	for _, version := range []string{"0.1", "0.2", "0.9"} {
		dog := s.tells()
		dog.Version = version
		s.say("  %d -> %d  Dog.bark@%s", consoleTwin, agentTwin, version)
		err := s.tellResult(dog.Go(ctx, "bark", "hello"))
		var rejected *Rejected
		if err != nil && !errors.As(err, &rejected) {
			return err
		}
	}
	return nil
}

func (s *story) cancel(ctx context.Context) error {
	begun := make(chan struct{}, 3)
	var walks []*Pending
	for _, data := range []string{"group 1", "group 2", "group 3"} {
		dog := s.dog
		dog.Data = data
		dog.OnStatus = func(got Status) {
			if got.Status == Started {
				select {
				case begun <- struct{}{}:
				default: // one that was begun anew
				}
			}
		}
		p, err := dog.Go(ctx, "walk")
		if err != nil {
			return err
		}
		walks = append(walks, p)
	}
	for range walks {
		select {
		case <-begun:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	criteria := Or(Eq("group 1"), In("group 2"), Match("^group [3-9]$"))
	s.say("  three walks are begun; cancelling %s", encoded(criteria))
	if err := s.dog.Caller.Cancel(ctx, agentTwin, Cancellation{Criteria: &criteria}); err != nil {
		return err
	}
	for _, p := range walks {
		o := p.Outcome()
		if !errors.Is(o.Err, ErrCancelled) {
			return fmt.Errorf("a walk ends otherwise: %v", o.Err)
		}
		s.say("  %d <- %d  %s: %v", consoleTwin, agentTwin, o.Data, o.Err)
	}
	return nil
}
