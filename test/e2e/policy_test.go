package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// An operator keeps zos.* for twins 10 and 11 and locks out 13. Anybody else who
// gets through, or anybody who should and does not, is an incident.
func TestOnlyTheRightTwinsAreServed(t *testing.T) {
	t.Parallel()
	var about13 atomic.Int64 // questions about twin 13
	f := fleettest.New(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if strings.HasSuffix(req.URL.Path, "/13") {
				about13.Add(1)
			}
			h.ServeHTTP(w, req)
		})
	})
	b := f.Site(1002)
	twins := make(map[uint32]*foreign)
	for id := uint32(10); id <= 13; id++ {
		twins[id] = newForeign(t, f, id)
	}
	about13.Store(0) // it was registered
	b.Start("--allow-command", "zos.*=10,11", "--deny-twin", "13")
	b.Echo()
	deployed := b.Serve("zos.deploy", func(m fleettest.Message) (string, error) { return "deployed for " + m.Text("src"), nil })

	// From relay to relay: an error reply.
	for n, id := range []uint32{12, 10, 11} {
		x := twins[id]
		deliver(b, "/zbus-remote", x.Sign(x.Wire("zos.deploy", "x", b.ID, n+1)))
		reply := x.reply(b)
		if id == 12 {
			fleettest.WantErrorText(t, reply, `twin 12 may not call command "zos.deploy"`)
			continue
		}
		if want := fmt.Sprintf("deployed for %d", id); reply.Text("err") != "" || reply.Data() != want {
			t.Errorf("twin %d gets %s, want %q", id, reply, want)
		}
	}
	x := twins[12]
	deliver(b, "/zbus-remote", x.Sign(x.Wire("echo", "others may be called", b.ID, 9)))
	if reply := x.reply(b); reply.Data() != "others may be called" {
		t.Errorf("another command: %s", reply)
	}

	// Over HTTP: a refusal.
	wantForbidden(b, "/zbus-cmd", twins[12].Command("zos.deploy", "x", b.ID), "command_not_allowed")
	wantResult(b, twins[10].Person, send(b, twins[10].Command("zos.deploy", "x", b.ID)), "deployed for 10", "")

	// Command rules are for requests. Whom an app asks may answer, as may the own twin.
	b.Push(fleettest.Request("zos.anything", "x", 12).With("ret", "asked-12"))
	asked := x.request(b)
	deliver(b, "/zbus-reply", x.Sign(x.answer(asked, "from 12")))
	if reply := b.Pop("asked-12"); reply.Data() != "from 12" {
		t.Errorf("the app gets %s", reply)
	}
	if reply := b.Call(fleettest.Request("zos.deploy", "x", b.ID)); reply.Data() != "deployed for 1002" {
		t.Errorf("an app of the own twin gets %s", reply)
	}
	if n := len(deployed.Times()); n != 1 || deployed.Times()["x"] != 4 { // 10, 11, 10, and its own
		t.Errorf("the service was asked %v", deployed.Times())
	}

	// A denied twin is not even looked up, and not asked.
	y := twins[13]
	wantForbidden(b, "/zbus-remote", y.Sign(y.Wire("echo", "x", b.ID, 1)), "twin_not_allowed")
	wantForbidden(b, "/zbus-reply", y.Sign(y.Wire("echo", "x", b.ID, 1).With("uid", "13.1")), "twin_not_allowed")
	wantForbidden(b, "/zbus-cmd", y.Command("echo", "x", b.ID), "twin_not_allowed")
	b.WantError(fleettest.Request("echo", "x", y.ID), "twin 13 is not one that this relay deals with")
	if n := about13.Load(); n != 0 {
		t.Errorf("the resolver was asked %d times about a denied twin", n)
	}
	if n := len(y.requests) + len(y.replies); n != 0 {
		t.Errorf("the denied twin was sent %d messages", n)
	}
	b.WantNoDead()
}

// wantForbidden posts a message and wants it refused as not allowed.
func wantForbidden(s *fleettest.Site, path string, m fleettest.Message, reason string) {
	s.T.Helper()
	status, answer := fleettest.Post(s.T, s.URL(path), m.String())
	if status != http.StatusForbidden || answer.Text("Reason") != reason || answer.Text("Message") == "" {
		s.T.Errorf("%s of %s: %d %s, want 403 %s", path, m, status, answer, reason)
	}
}

// A twin that sends more than it may is told when to come again, and what its
// relay holds back meanwhile arrives: once, in the end, with no try used up.
func TestATwinOverItsRateLosesNothing(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	a.Launch()
	b.Launch("--max-twin-rate", "2")
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()
	echo := b.Echo()
	const n = 20
	for i := range n {
		a.Push(fleettest.Request("echo", fmt.Sprint(i), b.ID).With("ret", fmt.Sprintf("ret-%d", i)).With("try", 0))
	}
	for i := range n {
		if reply := a.Pop(fmt.Sprintf("ret-%d", i)); reply.Text("err") != "" {
			t.Errorf("request %d: %s", i, reply)
		}
	}
	echo.WantOnce(t, n)
	b.Daemon.WantSaid("reason=rate_limited")
}
