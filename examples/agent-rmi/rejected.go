package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/msgbusd/msgbusd/client"
)

// ErrCancelled: somebody has cancelled the call, and the agent has heeded it.
var ErrCancelled = errors.New("the call is cancelled")

// A Rejected is the error of a call that no agent has begun.
type Rejected struct {
	Reason string
	Served []string // versions of the method that the agent serves, of a call that asks for another one
}

func (e *Rejected) Error() string { return "rejected: " + e.Reason }

// Classes of errors that are not exceptions of methods.
const (
	rejectedClass  = "rejected"
	cancelledClass = "cancelled"
)

// versions returns which versions of a method the agent of a twin serves, sorted.
func (c *Caller) versions(ctx context.Context, agent uint32, class, method string) ([]string, error) {
	commands, err := c.Help(ctx, agent)
	if err != nil {
		return nil, err
	}
	var served []string
	for _, cmd := range commands {
		if version, ok := strings.CutPrefix(cmd, Command(class, method, "")); ok {
			served = append(served, version)
		}
	}
	slices.Sort(served)
	return served, nil
}

// unserved is why a call is rejected of which the agent's relay says that nobody serves it.
func unserved(agent uint32, cmd string, served []string) *Rejected {
	if len(served) == 0 {
		return &Rejected{Reason: fmt.Sprintf("no agent at twin %d serves %s", agent, cmd)}
	}
	return &Rejected{
		Reason: fmt.Sprintf("the agent at twin %d does not serve %s, but version %s", agent, cmd, strings.Join(served, ", ")),
		Served: served,
	}
}

// outcomeError is what a caller is told of the error of a reply.
func (c *Caller) outcomeError(err error) error {
	var e *client.Error
	switch {
	case !errors.As(err, &e):
		return err // nobody has answered
	case e.Class == cancelledClass || e.Reason() == "cancelled":
		return ErrCancelled
	case e.Class == rejectedClass || e.Reason() == "no_service":
		return &Rejected{Reason: e.Message}
	case e.Reason() != "":
		return err // of the bus
	}
	return c.exceptions.raise(e)
}

// isUnserved tells whether nobody serves the command of a call now.
func isUnserved(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Reason() == "no_service"
}
