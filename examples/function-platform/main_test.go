package main

import (
	"context"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// parallel is how many tests run at once. They wait more than they compute.
const parallel = "5"

func TestMain(m *testing.M) { fleettest.Main(m, parallel) }

// A newcomer runs the example, and it hangs, or tells half of the story.
func TestTheExampleTellsItsStoryAndEndsByItself(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	var out, errors strings.Builder
	if err := run(t.Context(), []string{"-a", a.Redis.Addr(), "-b", b.Redis.Addr()}, &out, &errors); err != nil {
		t.Fatalf("it ends with %v\n%s%s", err, &out, &errors)
	}
	for _, want := range []string{
		" awake ", " heartbeat ", " tron-info ", " all-bundles ", " enable ", " ack ",
		" route ", " service ", " answer ", " die ", " disable ", " died ",
		"GET /hello/world is answered 200 hello from /hello/world", "GET /hello/shop/bread is answered 200 sold: bread",
		"GET /hello/shop/bread is answered 200 hello from /hello/shop/bread", "silent has been silent for", "The end",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the story has no %s", want)
		}
	}
	if t.Failed() {
		t.Logf("\n%s", &out)
	}
}

// Somebody presses Ctrl-C and has to press it again.
func TestTheExampleEndsWhenInterrupted(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	ctx, interrupt := context.WithCancel(t.Context())
	out := &interrupter{at: "→ for_tron", interrupt: interrupt}
	if err := run(ctx, []string{"-a", a.Redis.Addr(), "-b", b.Redis.Addr()}, out, out); err == nil {
		t.Error("it tells all of its story")
	}
}

// An interrupter interrupts when a text is written.
type interrupter struct {
	at        string
	interrupt context.CancelFunc
}

func (i *interrupter) Write(b []byte) (int, error) {
	if strings.Contains(string(b), i.at) {
		i.interrupt()
	}
	return len(b), nil
}
