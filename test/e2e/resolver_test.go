package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
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
	f := newFleet(t, resolver.front)
	a, b := f.site(1001), f.site(1002)
	a.start()
	b.start()
	b.echo()

	// All at once: the slow one must not hold up the others.
	for id := uint32(2001); id <= 2014; id++ {
		a.push(request("echo", "x", id).with("try", 0).with("ret", fmt.Sprintf("ret-%d", id)))
	}
	for id := uint32(2014); id >= 2001; id-- {
		reply := a.pop(fmt.Sprintf("ret-%d", id))
		if strings.Contains(reply.text("err"), "destination not found") {
			t.Errorf("twin %d is said not to exist: %q", id, reply.text("err"))
		}
		wantErrorText(t, reply, fmt.Sprintf("all retries done: nobody can say now where twin %d is", id))
		a.wantAnswer(b.id)
	}
}

// The resolver dies. Twins that are known must be served on, and the others
// wait until it is back, as long as their tries last.
func TestKnownTwinsAreServedWhileTheResolverIsDown(t *testing.T) {
	t.Parallel()
	f := newFleetOfProcesses(t)
	a, b := f.site(1001), f.site(1002)
	a.start()
	b.start()
	b.echo()
	a.wantAnswer(b.id)

	f.stranger(2001, freeAddress(t))
	f.process.stop()
	a.wantAnswer(b.id)
	a.wantError(request("echo", "x", 4711).with("try", 0), "all retries done: nobody can say now where twin 4711 is")
	a.wantAnswer(b.id)

	// Now a site comes back from a power cut, before its resolver does: it knows
	// itself and its peer from its Redis.
	a.daemon.kill()
	a.start()
	a.wantAnswer(b.id)

	waits := request("echo", "it was worth the wait", 1003).with("try", 1000)
	a.push(waits)
	a.daemon.wantSaid("twin=1003")
	f.startRegistry()
	c := f.site(1003)
	c.start()
	c.echo()
	if reply := a.pop(waits.text("ret")); reply.text("err") != "" {
		t.Errorf("the reply is %s", reply)
	}
}

// A resolver that is down when the relay starts: the relay must wait for it, and
// the second one of --substrate must do as well.
func TestSecondResolverIsAskedWhenTheFirstCannotKnow(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001), f.site(1002)
	b.echo()
	dead := freeAddress(t)
	html := peer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>")
	}))
	for _, s := range []*site{a, b} {
		s.args = append([]string{"--substrate", "http://" + dead, "--substrate", "http://" + html}, s.args...)
		s.launch()
	}
	a.daemon.awaitReady()
	b.daemon.awaitReady()
	a.wantAnswer(b.id)
	// The first that does know counts.
	if reply := a.call(request("echo", "x", 4711)); reply.text("err") != "destination not found" {
		t.Errorf("the reply is %s", reply)
	}
}

// A relay that is started before its resolver must say what it waits for, and
// then run by itself.
func TestRelayWaitsForItsResolver(t *testing.T) {
	t.Parallel()
	f := newFleetOfProcesses(t)
	a := f.site(1001)
	f.process.stop()
	a.launch()
	a.daemon.wantSaid("waiting for the resolver of twins")
	a.daemon.awaitNotReady("waiting for")
	f.startRegistry()
	a.daemon.awaitReady()
	a.echo()
	a.wantAnswer(a.id)
}

// Without --twin the relay finds out which twin it is by its key.
func TestTwinIsFoundByItsKey(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001), f.site(1002)
	b.echo()
	for _, s := range []*site{a, b} {
		s.without("--twin")
		s.start()
	}
	a.wantAnswer(b.id)

	nobody := f.site(1003)
	f.register(1003, newPerson(t, 77).identity.Account(), nobody.listen)
	nobody.without("--twin")
	d := nobody.launch()
	d.wantExit(1)
	d.wantSaid("no twin is registered for account "+nobody.identity.Account(), "hint: ")
}
