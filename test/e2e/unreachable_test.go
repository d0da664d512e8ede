package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A mistyped twin id waits for an hour instead of failing at once.
func TestUnknownTwinIsDestinationNotFound(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	reply := a.Call(fleettest.Request("echo", "x", 4711))
	if reply.Text("err") != "destination not found" || reply.Text("src") != "4711" {
		t.Errorf("the reply is %s", reply)
	}
	a.WantAnswer(b.ID)
}

// A twin whose relay is down: the app must hear so after its number of tries,
// with the twin that failed in src.
func TestUnreachableTwinFailsAfterItsTries(t *testing.T) {
	t.Parallel()
	f, a, b := fleettest.Pair(t)
	b.Echo()
	for i, tries := range []int{0, 1} {
		id := uint32(2001 + i)
		f.Stranger(id, fleettest.FreeAddress(t))
		reply := a.WantError(fleettest.Request("echo", "x", id).With("try", tries), "all retries done: ", fmt.Sprintf("twin %d cannot be reached", id), "refused")
		if reply.Text("src") != fmt.Sprint(id) {
			t.Errorf("src is %s, want the twin that failed", reply.Text("src"))
		}
		a.WantAnswer(b.ID)
	}
}

// try is how often to try again: neither less, nor for ever.
func TestTriesAreCountedByAttempts(t *testing.T) {
	t.Parallel()
	f, a, b := fleettest.Pair(t)
	b.Echo()
	for i, tries := range []int{0, 1, 2} {
		var attempts atomic.Int64
		id := uint32(2001 + i)
		f.Stranger(id, fleettest.Peer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			attempts.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
		})))
		a.WantError(fleettest.Request("echo", "x", id).With("try", tries), "all retries done: ")
		if got := attempts.Load(); got != int64(tries)+1 {
			t.Errorf("try %d: %d attempts", tries, got)
		}
	}
	a.WantAnswer(b.ID)
}

// One dead twin among several: the app must get the answers of the others, and
// tell by src which one failed.
func TestOfSeveralDestinationsSrcTellsWhichOneFailed(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b, c := f.Site(1001), f.Site(1002), f.Site(1003)
	for _, s := range []*fleettest.Site{a, b, c} {
		s.Launch()
		s.Echo()
	}
	for _, s := range []*fleettest.Site{a, b, c} {
		s.Daemon.AwaitReady()
	}
	f.Stranger(2001, fleettest.FreeAddress(t))

	m := fleettest.Request("echo", "to all", 1002, 2001, 1003, 4711, 1001).With("try", 0)
	a.Push(m)
	got := make(map[string]string)
	for range 5 {
		reply := a.Pop(m.Text("ret"))
		src := reply.Text("src")
		if _, again := got[src]; again {
			t.Errorf("twin %s is heard of twice", src)
		}
		got[src] = reply.Text("err")
		if reply.Text("err") == "" && reply.Data() != "to all" {
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
	if n := a.Length(m.Text("ret")); n != 0 {
		t.Errorf("there are %d more replies", n)
	}
}

// A published client waits for as many replies as dst has elements; ours are
// told that a twin named twice is asked once.
func TestATwinNamedTwiceIsAskedOnce(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	asked := b.Echo()
	m := fleettest.Request("echo", "0", b.ID, b.ID, b.ID)
	a.Push(m)
	a.Pop(m.Text("ret"))
	a.WantAnswer(b.ID)
	a.AwaitQuiet()
	b.AwaitQuiet()
	if n := a.Length(m.Text("ret")); n != 0 {
		t.Errorf("there are %d more replies", n)
	}
	asked.WantOnce(t, 1)
}

// A request that nobody answers must end at its deadline, with the specification's
// words, and not stay in the backlog.
func TestUnansweredRequestExpires(t *testing.T) {
	t.Parallel()
	f, a, b := fleettest.Pair(t)
	b.Echo()
	reply := a.Call(fleettest.Request("nobody.serves.this", "x", b.ID).With("exp", 1))
	if got := reply.Text("err"); got != "request timeout (expiration reached, 1)" || reply.Text("src") != "1002" {
		t.Errorf("err is %q, src %s", got, reply.Text("src"))
	}
	a.WantAnswer(b.ID)

	// A twin that cannot be joined all the while: the error says why.
	f.Stranger(2001, fleettest.FreeAddress(t))
	reply = a.WantError(fleettest.Request("echo", "x", 2001).With("exp", 2).With("try", 1000),
		"request timeout (expiration reached, 2)", "twin 2001 cannot be reached")
	if reply.Text("src") != "2001" {
		t.Errorf("src is %s", reply.Text("src"))
	}
	a.WantAnswer(b.ID)
	a.AwaitQuiet()
	if n := a.Length(reply.Text("ret")); n != 0 {
		t.Errorf("there are %d more replies", n)
	}
}

// A service that answers too late must not give its app a second reply.
func TestLateReplyIsDropped(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	asked := b.ServeMessages("slow", func(fleettest.Message) fleettest.Message { return nil })
	m := fleettest.Request("slow", "x", b.ID).With("exp", 1)
	a.Push(m)
	late := asked.Next(t)
	fleettest.WantErrorText(t, a.Pop(m.Text("ret")), "request timeout (expiration reached, 1)")
	b.PushRaw("reply", late.With("src", 1002).With("dst", []int{1001}).String())
	a.WantAnswer(b.ID)

	// Nor one that answers twice.
	twice := fleettest.Request("slow", "y", b.ID)
	a.Push(twice)
	answer := asked.Next(t).With("src", 1002).With("dst", []int{1001})
	b.PushRaw("reply", answer.With("dat", fleettest.Encode("first")).String())
	b.PushRaw("reply", answer.With("dat", fleettest.Encode("second")).String())
	if reply := a.Pop(twice.Text("ret")); reply.Data() != "first" {
		t.Errorf("the reply is %s", reply)
	}
	a.WantAnswer(b.ID)
	b.AwaitQuiet()
	a.AwaitQuiet()
	if n := a.Length(m.Text("ret")) + a.Length(twice.Text("ret")); n != 0 {
		t.Errorf("there are %d more replies", n)
	}
}

// Relays of others answer with errors of their own making, or with the page of a
// web server in between. An app must hear what it was, and not wait.
func TestErrorsOfPublishedRelaysReachTheApp(t *testing.T) {
	t.Parallel()
	f, a, b := fleettest.Pair(t)
	b.Echo()
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
		f.Stranger(id, fleettest.Peer(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			w.Header().Set("Location", "http://"+b.Listen+"/zbus-remote")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})))
		reply := a.WantError(fleettest.Request("echo", "x", id).With("try", 0), c.want...)
		if text := reply.Text("err"); strings.ContainsAny(text, "\r\n") || len(text) > 400 {
			t.Errorf("status %d: err is %q", c.status, text)
		}
		a.WantAnswer(b.ID)
	}
}

// A peer that talks no HTTP, closes, or never ends its answer.
func TestPeersThatTalkNonsenseFailTheirOwnMessagesOnly(t *testing.T) {
	t.Parallel()
	f, a, b := fleettest.Pair(t)
	b.Echo()
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
				// All of it: a connection closed with bytes unread is reset, and its
				// answer lost.
				asked, err := http.ReadRequest(bufio.NewReader(c))
				if err == nil {
					_, err = io.Copy(io.Discard, asked.Body)
				}
				if err == nil && strings.HasPrefix(answer, "HTTP/1.1 200") && asked.URL.Path == "/zbus-transfer" {
					_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				} else {
					_, _ = io.WriteString(c, answer)
				}
				_ = c.Close()
			}
		}()
		id := uint32(2001 + i)
		f.Stranger(id, l.Addr().String())
		m := fleettest.Request("echo", "x", id).With("try", 0).With("exp", 2)
		if strings.HasPrefix(answer, "HTTP/1.1 200") {
			// Its status says that it has the message: there only the deadline helps.
			a.WantError(m, "request timeout (expiration reached, 2)")
		} else {
			a.WantError(m, "all retries done: ")
		}
		a.WantAnswer(b.ID)
	}
}

// A record that names a machine of the site itself would have the relay post
// into the site's own network.
func TestForbiddenAddressIsNeverDialled(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a := f.Site(1001)
	a.Without("--allow-network") // none by default
	a.Start()
	a.Echo()
	var dialled atomic.Int64
	address := fleettest.Peer(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { dialled.Add(1) }))
	_, port, _ := net.SplitHostPort(address)
	for i, record := range []string{address, "localhost:" + port, "[::ffff:127.0.0.1]:" + port, "[::1]:" + port, "0.0.0.0:" + port} {
		id := uint32(2001 + i)
		f.Stranger(id, record)
		reply := a.WantError(fleettest.Request("echo", "x", id), "the address in the twin's record may not be dialled", "--allow-network")
		if reply.Text("src") != fmt.Sprint(id) {
			t.Errorf("src is %s", reply.Text("src"))
		}
		a.WantAnswer(a.ID)
	}
	a.Daemon.WantSaid("reason=address_not_allowed")
	if n := dialled.Load(); n != 0 {
		t.Errorf("%d connections came to an address that is forbidden", n)
	}
}
