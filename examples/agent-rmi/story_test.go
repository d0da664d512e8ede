package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A newcomer runs the example, and it does not say what the page promises, or does not end.
func TestTheStoryIsToldAndEnds(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), storyTimeout)
	defer cancel()
	var out bytes.Buffer
	if err := tell(ctx, &out, a.Redis.URL(), b.Redis.URL()); err != nil {
		t.Errorf("it ends with %v", err)
	}
	for _, want := range []string{
		"status accepted", "status started", "status progress 2 of 3, \"ball\"",
		`"Yes master.  I will bark because that is what dogs do."`, "hello from twin 1002", "event agent/Dog.barked",
		`my data is "group 2"`, "once more: the call has been sent already",
		`raised again as *BadDog{Name: "Rex", Bitten: "the postman"}`, "cannotCount at agent 1002: dogs cannot count",
		"status rejected: the agent at twin 1002 does not serve Dog.bark@0.9, but version 0.1, 0.2",
		`"group 3": the call is cancelled`, "the agent has ended",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}

	// Ctrl-C, in the middle.
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	err := tell(ctx, interrupter(interrupt), a.Redis.URL(), b.Redis.URL())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted, it ends with %v", err)
	}
}

// An interrupter calls a function when calls are about to be cancelled.
type interrupter func()

func (i interrupter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("three walks")) {
		i()
	}
	return len(p), nil
}
