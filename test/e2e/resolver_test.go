package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// misbehave answers for some twins in other ways than a registry does.
type misbehave map[string]http.HandlerFunc // by path

func (m misbehave) front(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if bad := m[req.URL.Path]; bad != nil {
			bad(w, req)
			return
		}
		h.ServeHTTP(w, req)
	})
}

// A resolver in a bad way must not make twins vanish: "destination not found"
// ends a request for good, and would be a lie.
func TestResolverThatCannotKnowIsNeverDestinationNotFound(t *testing.T) {
	t.Parallel()
	says := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	const account = "5C4iA2und8WV6mbvTBYupm2eZwtxk3wCYUM2SFHXSyQuapGp"
	page := "<!doctype html><html><body>Welcome to nginx!</body></html>"
	resolver := misbehave{
		"/twin/2001": func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }, // hangs
		"/twin/2002": says(200, "text/plain", `{"Version":1,"ID":2,"Account":"`+account+`","IP":"127.0.0.1:9","Entities":null}`),
		"/twin/2003": says(200, "text/html", page),
		"/twin/2004": says(404, "text/html", page),
		"/twin/2005": says(404, "text/plain", "404 page not found\n"),
		"/twin/2006": says(500, "text/plain", "database is locked"),
		"/twin/2007": says(200, "application/json", `{"Version":1,"ID":2007,"Account":"nonsense","IP":"127.0.0.1:9"}`),
		"/twin/2008": says(200, "application/json", "null"),
		"/twin/2009": says(200, "application/json", ""),
		"/twin/2010": says(302, "text/plain", ""),
		"/twin/2011": says(200, "application/json", strings.Repeat(" ", 1<<20)),
		"/twin/2012": func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
		"/twin/2013": says(400, "text/plain", "bad request"),
		"/twin/2014": says(429, "text/plain", "slow down"),
	}
	f := fleettest.New(t, resolver.front)
	a, b := f.Site(1001), f.Site(1002)
	a.Start()
	b.Start()
	b.Echo()

	// All at once: the slow one must not hold up the others.
	for id := uint32(2001); id <= 2014; id++ {
		a.Push(fleettest.Request("echo", "x", id).With("try", 0).With("ret", fmt.Sprintf("ret-%d", id)))
	}
	for id := uint32(2014); id >= 2001; id-- {
		reply := a.Pop(fmt.Sprintf("ret-%d", id))
		if strings.Contains(reply.Text("err"), "destination not found") {
			t.Errorf("twin %d is said not to exist: %q", id, reply.Text("err"))
		}
		fleettest.WantErrorText(t, reply, fmt.Sprintf("all retries done: nobody can say now where twin %d is", id))
		a.WantAnswer(b.ID)
	}
}

// The resolver dies. Twins that are known must be served on, and the others
// wait until it is back, as long as their tries last.
func TestKnownTwinsAreServedWhileTheResolverIsDown(t *testing.T) {
	t.Parallel()
	f := fleettest.NewOfProcesses(t)
	a, b := f.Site(1001), f.Site(1002)
	a.Start()
	b.Start()
	b.Echo()
	a.WantAnswer(b.ID)

	f.Stranger(2001, fleettest.FreeAddress(t))
	f.Process.Stop()
	a.WantAnswer(b.ID)
	a.WantError(fleettest.Request("echo", "x", 4711).With("try", 0), "all retries done: nobody can say now where twin 4711 is")
	a.WantAnswer(b.ID)

	// Now a site comes back from a power cut, before its resolver does: it knows
	// itself and its peer from its Redis.
	a.Daemon.Kill()
	a.Start()
	a.WantAnswer(b.ID)

	waits := fleettest.Request("echo", "it was worth the wait", 1003).With("try", 1000)
	a.Push(waits)
	a.Daemon.WantSaid("twin=1003")
	f.StartRegistry()
	c := f.Site(1003)
	c.Start()
	c.Echo()
	if reply := a.Pop(waits.Text("ret")); reply.Text("err") != "" {
		t.Errorf("the reply is %s", reply)
	}
}

// A resolver that is down when the relay starts: the relay must wait for it, and
// the second one of --substrate must do as well.
func TestSecondResolverIsAskedWhenTheFirstCannotKnow(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	b.Echo()
	dead := fleettest.FreeAddress(t)
	html := fleettest.Peer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>")
	}))
	for _, s := range []*fleettest.Site{a, b} {
		s.Args = append([]string{"--substrate", "http://" + dead, "--substrate", "http://" + html}, s.Args...)
		s.Launch()
	}
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()
	a.WantAnswer(b.ID)
	// The first that does know counts.
	if reply := a.Call(fleettest.Request("echo", "x", 4711)); reply.Text("err") != "destination not found" {
		t.Errorf("the reply is %s", reply)
	}
}

// A relay that is started before its resolver must say what it waits for, and
// then run by itself.
func TestRelayWaitsForItsResolver(t *testing.T) {
	t.Parallel()
	f := fleettest.NewOfProcesses(t)
	a := f.Site(1001)
	f.Process.Stop()
	a.Launch()
	a.Daemon.WantSaid("waiting for the resolver of twins")
	a.Daemon.AwaitNotReady("waiting for")
	f.StartRegistry()
	a.Daemon.AwaitReady()
	a.Echo()
	a.WantAnswer(a.ID)
}

// Without --twin the relay finds out which twin it is by its key.
func TestTwinIsFoundByItsKey(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	b.Echo()
	for _, s := range []*fleettest.Site{a, b} {
		s.Without("--twin")
		s.Start()
	}
	a.WantAnswer(b.ID)

	nobody := f.Site(1003)
	f.Register(1003, fleettest.NewPerson(t, 77).Identity.Account(), nobody.Listen)
	nobody.Without("--twin")
	d := nobody.Launch()
	d.WantExit(1)
	d.WantSaid("no twin is registered for account "+nobody.Identity.Account(), "hint: ")
}
