package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A newcomer runs the example and sees nothing, or half of it.
func TestTheStoryIsToldToItsEnd(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	var out strings.Builder
	if err := run(patient(t), a.Redis.URL(), b.Redis.URL(), &out); err != nil {
		t.Fatalf("%v, after:\n%s", err, &out)
	}
	for _, line := range []string{
		`1002 publishes debug "is anybody there?" to srv_msg: heard on 0 machines`,
		`1002 publishes debug "to all" to srv_msg: heard on 1 machines`,
		`browser at 1001: console: to all`,
		`browser at 1001: console: to one`,
		`1002 publishes debug "to another, who does not play" to user.667: heard on 0 machines`,
		`1001 has queued task `,
		`browser at 1001: ContactPerp node-17 is ready to collect, result {"profiles":12}`,
		`browser at 1001: new items: `,
		`browser at 1001: alert: `,
		`1001 says: the token is nobody's`,
		`the end`,
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q is missing in:\n%s", line, &out)
		}
	}
}

// Ctrl-C leaves the example running.
func TestTheStoryEndsWhenItIsInterrupted(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	ctx, interrupt := context.WithCancel(patient(t))
	out := &interrupter{at: "# a worker starts", interrupt: interrupt}
	if err := run(ctx, a.Redis.URL(), b.Redis.URL(), out); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}

// An interrupter is where the story is written until it comes to a place.
type interrupter struct {
	at        string
	interrupt func()
}

func (i *interrupter) Write(p []byte) (int, error) {
	if strings.HasPrefix(string(p), i.at) {
		i.interrupt()
	}
	return len(p), nil
}
