package main

import (
	"bytes"
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
	var out, errs bytes.Buffer
	if err := start(t.Context(), []string{"-a", a.Redis.Addr(), "-b", b.Redis.Addr()}, &out, &errs); err != nil {
		t.Fatalf("it ends with %v\n%s%s", err, &out, &errs)
	}
	for _, want := range []string{
		`configuration/methods.get is answered {"key":"dns","value":"10.1.1.1"}`, "events/dhcp.bind.success.node-42", "events/tftp.failure.node-42",
		"ConflictError", "events/graph.started.", "scheduler/schedule", "task/run.", `"state":"succeeded"`, "http/http.response",
		"events/sku.assigned.node-42", "task/ipmi.command.sdr.poll-42", "task/ipmi.command.sdr.result.poll-42", "task/run.snmp.command.poll-42",
		"task/snmp.command.result.poll-42", "task/poller.alert.poll-42", "task/cancel.", `"state":"cancelled"`, "logging/emerg", "logging/silly",
		"events/heartbeat.updated.information.", "The end.",
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
	out := interrupter{at: "dhcp.bind.success", interrupt: interrupt}
	if err := start(ctx, []string{"-a", a.Redis.Addr(), "-b", b.Redis.Addr()}, out, out); err == nil {
		t.Error("it tells all of its story")
	}
}

// An interrupter interrupts when a text is written.
type interrupter struct {
	at        string
	interrupt context.CancelFunc
}

func (i interrupter) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(i.at)) {
		i.interrupt()
	}
	return len(b), nil
}
