package main

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/internal/freeport"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// newTestDaemon has listened and does not run yet.
func newTestDaemon(t *testing.T) *daemonProcess {
	t.Helper()
	redis := redistest.Start(t)
	s, err := settingsOf(t, "", "--redis", redis.Addr(), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--substrate", startRegistry(t))
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDaemon(s, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// isFree tells whether nobody listens at an address any more.
func isFree(t *testing.T, l net.Listener) {
	t.Helper()
	again, err := net.Listen("tcp", l.Addr().String())
	if err != nil {
		t.Errorf("still taken: %v", err)
		return
	}
	_ = again.Close()
}

// A relay that has lost one of its sides is of no use: it must end, saying
// why, so that systemd starts it anew, and must leave no address taken.
func TestDaemonEndsWhenOneSideCannotServe(t *testing.T) {
	for name, lose := range map[string]func(*daemonProcess) net.Listener{
		"admin":  func(d *daemonProcess) net.Listener { return d.admin },
		"public": func(d *daemonProcess) net.Listener { return d.public },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			d := newTestDaemon(t)
			lost := lose(d)
			_ = lost.Close()
			err := d.run(ctx)
			if err == nil || !strings.Contains(err.Error(), "serve "+lost.Addr().String()) {
				t.Errorf("run: %v, want an error about %s", err, lost.Addr())
			}
			isFree(t, d.public)
			isFree(t, d.admin)
		})
	}
}

// A stop is no error, at whatever moment it comes.
func TestDaemonStopsBeforeItServes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := newTestDaemon(t)
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("run does not return")
	}
	isFree(t, d.public)
	isFree(t, d.admin)
}

// What has failed half-way must not keep an address from the next attempt.
func TestNewDaemonClosesWhatItOpened(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	public := freeport.Address(t)
	s, err := settingsOf(t, "", "--listen", public, "--admin-listen", taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newDaemon(s, zerolog.Nop()); err == nil {
		t.Fatal("two listeners at one address")
	}
	again, err := net.Listen("tcp", public)
	if err != nil {
		t.Fatalf("still taken: %v", err)
	}
	_ = again.Close()
}

// A load balancer must not send to a relay that stops, though it was ready a
// moment ago.
func TestReadinessEndsWithTheStop(t *testing.T) {
	var r readiness
	if r.check(t.Context()) == nil {
		t.Error("ready before the start")
	}
	r.not("waiting")
	if err := r.check(t.Context()); err == nil || err.Error() != "waiting" {
		t.Errorf("check: %v", err)
	}
	r.yes(func(context.Context) error { return nil })
	if err := r.check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	r.stop()
	r.yes(func(context.Context) error { return nil })
	if err := r.check(t.Context()); err == nil || err.Error() != "stopping" {
		t.Errorf("check: %v", err)
	}
}
