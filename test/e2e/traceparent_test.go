package e2e

import (
	"fmt"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// Somebody follows a request from his app into his service, and on the way over the bus
// its trace is gone: over one version of the wire, in one dialect, or when it was sent
// again.
func TestTheContextOfATraceReachesTheService(t *testing.T) {
	t.Parallel()
	const parent, state = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
	for name, hides := range map[string]bool{"version 2": false, "version 1": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, toA, toB := hiddenPair(t)
			toA.hides.Store(hides)
			toB.hides.Store(hides)
			a.Launch("--ref-services", "newer")
			b.Launch("--ref-services", "newer")
			a.Daemon.AwaitReady()
			b.Daemon.AwaitReady()
			asked := map[string]*fleettest.Service{"echo": b.Echo(), "newer": serveRef(b, "newer")}
			for cmd, service := range asked {
				for _, given := range []any{parent, "00-broken", 7, nil} {
					classic := fleettest.Request(cmd, "x", b.ID).With("traceparent", given).With("tracestate", state)
					wantClassicReply(t, a.Call(classic), classic, b.ID, "x", "")
					wantContext(t, service.Next(t), given, state)
					ref := refRequest(cmd, "x", b.ID).With("traceparent", given).With("tracestate", state)
					wantRefReply(t, a.Call(ref), ref, b.ID, "x", "")
					wantContext(t, service.Next(t), given, state)
				}
			}
			// A reply that is a copy of the request has it, and so has an error.
			m := fleettest.Request("echo", "x", b.ID).With("traceparent", parent).With("tracestate", state)
			wantContext(t, a.Call(m), parent, state)
			m = fleettest.Request("nobody", "x", b.ID).With("traceparent", parent).With("tracestate", state).With("exp", 1)
			wantContext(t, a.WantError(m, "request timeout"), parent, state)
			version := 2
			if hides {
				version = 1
			}
			toB.wantSpoken(t, version)
		})
	}
}

func wantContext(t *testing.T, got fleettest.Message, parent any, state string) {
	t.Helper()
	value, there := got["traceparent"]
	if !there || fmt.Sprint(value) != fmt.Sprint(parent) || got["tracestate"] != state {
		t.Errorf("traceparent was %v and tracestate %s; they are in %s", parent, state, got)
	}
}
