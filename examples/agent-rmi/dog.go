package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A Dog is the document's example of a class.
type Dog struct {
	agent *Agent
	name  string
}

// exposeDog has an agent serve the class in both of its versions.
func exposeDog(a *Agent) {
	newDog := func(cntr Arguments) (*Dog, error) {
		d := &Dog{agent: a, name: "Rex"}
		return d, cntr.Arg(0, "name", &d.name)
	}
	Expose(a, "Dog", "0.1", newDog, Methods[*Dog]{"bark": (*Dog).Bark1})
	Expose(a, "Dog", "0.2", newDog, Methods[*Dog]{
		"bark": (*Dog).Bark, "fetch": (*Dog).Fetch, "walk": (*Dog).Walk, "bite": (*Dog).Bite, "count": (*Dog).Count,
	})
}

// Bark1 says what it is told, as version 0.1 did.
func (d *Dog) Bark1(_ context.Context, call *Invocation) (any, error) {
	var words string
	err := call.Arg(0, "words", &words)
	return words, err
}

// Bark obeys. Whoever listens hears it.
func (d *Dog) Bark(ctx context.Context, call *Invocation) (any, error) {
	words, times := "woof", 1
	if err := errors.Join(call.Arg(0, "words", &words), call.Arg(1, "times", &times)); err != nil {
		return nil, err
	}
	if times < 1 || times > 100 {
		return nil, &Rejected{Reason: fmt.Sprintf("a dog barks 1 to 100 times, not %d", times)}
	}
	barked := strings.TrimSpace(strings.Repeat(words+" ", times))
	if err := d.agent.Emit(ctx, "Dog", "barked", d.name+": "+barked); err != nil {
		return nil, err
	}
	return "Yes master.  I will bark because that is what dogs do.", nil
}

// Fetch brings things, one after the other, and says each time how many it has.
func (d *Dog) Fetch(ctx context.Context, call *Invocation) (any, error) {
	var things []string
	if err := call.Arg(0, "things", &things); err != nil {
		return nil, err
	}
	for i, thing := range things {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := call.Progress(ctx, int64(len(things)), int64(i+1), thing); err != nil {
			return nil, err
		}
	}
	return len(things), nil
}

// Walk goes on until it is cancelled.
func (d *Dog) Walk(ctx context.Context, _ *Invocation) (any, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// Bite raises an exception of a class that callers know.
func (d *Dog) Bite(_ context.Context, call *Invocation) (any, error) {
	var whom string
	if err := call.Arg(0, "whom", &whom); err != nil {
		return nil, err
	}
	return nil, &BadDog{Name: d.name, Bitten: whom}
}

// Count raises an exception that no caller knows.
func (d *Dog) Count(context.Context, *Invocation) (any, error) {
	return nil, &cannotCount{}
}

// BadDog is an exception that crosses the wire.
type BadDog struct {
	Name   string `json:"name"`
	Bitten string `json:"bitten"`
}

func (e *BadDog) Error() string { return e.Name + " has bitten " + e.Bitten }

// Exception makes it a [Raisable].
func (e *BadDog) Exception() (module, class string, args []any) {
	return "kennel", "BadDog", []any{e.Name, e.Bitten}
}

type cannotCount struct{}

func (*cannotCount) Error() string { return "dogs cannot count" }

// knownExceptions are those that callers of dogs raise again.
func knownExceptions() Exceptions {
	return Exceptions{"kennel.BadDog": func() error { return new(BadDog) }}
}
