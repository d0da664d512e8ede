package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// A mistyped twin id waits for an hour instead of failing at once.
func TestUnknownTwinIsDestinationNotFound(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	reply := a.call(request("echo", "x", 4711))
	if reply.text("err") != "destination not found" || reply.text("src") != "4711" {
		t.Errorf("the reply is %s", reply)
	}
	a.wantAnswer(b.id)
}

// A twin whose relay is down: the app must hear so after its number of tries,
// with the twin that failed in src.
func TestUnreachableTwinFailsAfterItsTries(t *testing.T) {
	t.Parallel()
	f, a, b := pair(t)
	b.echo()
	for i, tries := range []int{0, 1} {
		id := uint32(2001 + i)
		f.stranger(id, freeAddress(t))
		reply := a.wantError(request("echo", "x", id).with("try", tries), "all retries done: ", fmt.Sprintf("twin %d cannot be reached", id), "refused")
		if reply.text("src") != fmt.Sprint(id) {
			t.Errorf("src is %s, want the twin that failed", reply.text("src"))
		}
		a.wantAnswer(b.id)
	}
}

// try is how often to try again: neither less, nor for ever.
func TestTriesAreCountedByAttempts(t *testing.T) {
	t.Parallel()
	f, a, b := pair(t)
	b.echo()
	for i, tries := range []int{0, 1, 2} {
		var attempts atomic.Int64
		id := uint32(2001 + i)
		f.stranger(id, peer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			attempts.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
		})))
		a.wantError(request("echo", "x", id).with("try", tries), "all retries done: ")
		if got := attempts.Load(); got != int64(tries)+1 {
			t.Errorf("try %d: %d attempts", tries, got)
		}
	}
	a.wantAnswer(b.id)
}

// One dead twin among several: the app must get the answers of the others, and
// tell by src which one failed.
func TestOfSeveralDestinationsSrcTellsWhichOneFailed(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b, c := f.site(1001), f.site(1002), f.site(1003)
	for _, s := range []*site{a, b, c} {
		s.launch()
		s.echo()
	}
	for _, s := range []*site{a, b, c} {
		s.daemon.awaitReady()
	}
	f.stranger(2001, freeAddress(t))

	m := request("echo", "to all", 1002, 2001, 1003, 4711, 1001).with("try", 0)
	a.push(m)
	got := make(map[string]string)
	for range 5 {
		reply := a.pop(m.text("ret"))
		src := reply.text("src")
		if _, again := got[src]; again {
			t.Errorf("twin %s is heard of twice", src)
		}
		got[src] = reply.text("err")
		if reply.text("err") == "" && reply.data() != "to all" {
			t.Errorf("the answer of %s is %s", src, reply)
		}
	}
	for _, src := range []string{"1001", "1002", "1003"} {
		if err, ok := got[src]; !ok || err != "" {
			t.Errorf("twin %s: %v %q, want an answer", src, ok, err)
		}
	}
	if !strings.HasPrefix(got["2001"], "all retries done: ") || got["4711"] != "destination not found" {
		t.Errorf("the errors are %q", got)
	}
	if n := a.length(m.text("ret")); n != 0 {
		t.Errorf("there are %d more replies", n)
	}
}

// A published client waits for as many replies as dst has elements; ours are
// told that a twin named twice is asked once.
func TestATwinNamedTwiceIsAskedOnce(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	asked := b.echo()
	m := request("echo", "0", b.id, b.id, b.id)
	a.push(m)
	a.pop(m.text("ret"))
	a.wantAnswer(b.id)
	a.awaitQuiet()
	b.awaitQuiet()
	if n := a.length(m.text("ret")); n != 0 {
		t.Errorf("there are %d more replies", n)
	}
	asked.wantOnce(t, 1)
}

// A request that nobody answers must end at its deadline, with the specification's
// words, and not stay in the backlog.
func TestUnansweredRequestExpires(t *testing.T) {
	t.Parallel()
	f, a, b := pair(t)
	b.echo()
	reply := a.call(request("nobody.serves.this", "x", b.id).with("exp", 1))
	if got := reply.text("err"); got != "request timeout (expiration reached, 1)" || reply.text("src") != "1002" {
		t.Errorf("err is %q, src %s", got, reply.text("src"))
	}
	a.wantAnswer(b.id)

	// A twin that cannot be joined all the while: the error says why.
	f.stranger(2001, freeAddress(t))
	reply = a.wantError(request("echo", "x", 2001).with("exp", 2).with("try", 1000),
		"request timeout (expiration reached, 2)", "twin 2001 cannot be reached")
	if reply.text("src") != "2001" {
		t.Errorf("src is %s", reply.text("src"))
	}
	a.wantAnswer(b.id)
	a.awaitQuiet()
	if n := a.length(reply.text("ret")); n != 0 {
		t.Errorf("there are %d more replies", n)
	}
}

// A service that answers too late must not give its app a second reply.
func TestLateReplyIsDropped(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	asked := b.serveMessages("slow", func(message) message { return nil })
	m := request("slow", "x", b.id).with("exp", 1)
	a.push(m)
	late := asked.next(t)
	wantErrorText(t, a.pop(m.text("ret")), "request timeout (expiration reached, 1)")
	b.pushRaw("reply", late.with("src", 1002).with("dst", []int{1001}).String())
	a.wantAnswer(b.id)

	// Nor one that answers twice.
	twice := request("slow", "y", b.id)
	a.push(twice)
	answer := asked.next(t).with("src", 1002).with("dst", []int{1001})
	b.pushRaw("reply", answer.with("dat", encode("first")).String())
	b.pushRaw("reply", answer.with("dat", encode("second")).String())
	if reply := a.pop(twice.text("ret")); reply.data() != "first" {
		t.Errorf("the reply is %s", reply)
	}
	a.wantAnswer(b.id)
	b.awaitQuiet()
	a.awaitQuiet()
	if n := a.length(m.text("ret")) + a.length(twice.text("ret")); n != 0 {
		t.Errorf("there are %d more replies", n)
	}
}

// Relays of others answer with errors of their own making, or with the page of a
// web server in between. An app must hear what it was, and not wait.
func TestErrorsOfPublishedRelaysReachTheApp(t *testing.T) {
	t.Parallel()
	f, a, b := pair(t)
	b.echo()
	const page = "<html><head><title>502 Bad Gateway</title></head>\r\n<body><center><h1>502 Bad Gateway</h1></center></body></html>"
	for i, c := range []struct {
		status int
		body   string
		want   []string
	}{
		{400, `{"Status":"error","Message":"source twin 1001 not found"}`, []string{"status 400: source twin 1001 not found"}},
		{400, page, []string{"status 400: ", "502 Bad Gateway"}},
		{400, "", []string{"status 400"}},
		{502, page, []string{"all retries done: ", "status 502: ", "Bad Gateway"}},
		{502, `{"Status":"error","Message":"couldn't find twin"}`, []string{"all retries done: ", "status 502: couldn't find twin"}},
		{404, "404 page not found\n", []string{"status 404"}},
		{301, "", []string{"status 301"}},
	} {
		id := uint32(2001 + i)
		f.stranger(id, peer(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			w.Header().Set("Location", "http://"+b.listen+"/zbus-remote")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})))
		reply := a.wantError(request("echo", "x", id).with("try", 0), c.want...)
		if text := reply.text("err"); strings.ContainsAny(text, "\r\n") || len(text) > 400 {
			t.Errorf("status %d: err is %q", c.status, text)
		}
		a.wantAnswer(b.id)
	}
}

// A peer that talks no HTTP, closes, or never ends its answer.
func TestPeersThatTalkNonsenseFailTheirOwnMessagesOnly(t *testing.T) {
	t.Parallel()
	f, a, b := pair(t)
	b.echo()
	for i, answer := range []string{"", "SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nshort"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 64<<10))
				_, _ = io.WriteString(c, answer)
				_ = c.Close()
			}
		}()
		id := uint32(2001 + i)
		f.stranger(id, l.Addr().String())
		m := request("echo", "x", id).with("try", 0).with("exp", 2)
		if strings.HasPrefix(answer, "HTTP/1.1 200") {
			// Its status says that it has the message: there only the deadline helps.
			a.wantError(m, "request timeout (expiration reached, 2)")
		} else {
			a.wantError(m, "all retries done: ")
		}
		a.wantAnswer(b.id)
	}
}

// A record that names a machine of the site itself would have the relay post
// into the site's own network.
func TestForbiddenAddressIsNeverDialled(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	a.without("--allow-network") // none by default
	a.start()
	a.echo()
	var dialled atomic.Int64
	address := peer(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { dialled.Add(1) }))
	_, port, _ := net.SplitHostPort(address)
	for i, record := range []string{address, "localhost:" + port, "[::ffff:127.0.0.1]:" + port, "[::1]:" + port, "0.0.0.0:" + port} {
		id := uint32(2001 + i)
		f.stranger(id, record)
		reply := a.wantError(request("echo", "x", id), "the address in the twin's record may not be dialled", "--allow-network")
		if reply.text("src") != fmt.Sprint(id) {
			t.Errorf("src is %s", reply.text("src"))
		}
		a.wantAnswer(a.id)
	}
	a.daemon.wantSaid("reason=address_not_allowed")
	if n := dialled.Load(); n != 0 {
		t.Errorf("%d connections came to an address that is forbidden", n)
	}
}
