package chaos

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// Zeros is a body without an end, which counts what is taken of it.
type zeros struct{ taken atomic.Int64 }

func (z *zeros) Read(b []byte) (int, error) {
	clear(b)
	z.taken.Add(int64(len(b)))
	return len(b), nil
}

// Scanners and broken programs send what is no message, by HTTP and by Redis.
//
// Seen to fail it: body.go without http.MaxBytesReader.
func TestGarbage(t *testing.T) {
	r := begin(t, 24, "garbage in")
	var asked atomic.Int64
	a := newAttacker(r, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if strings.HasSuffix(req.URL.Path, "/1003") {
				asked.Add(1)
			}
			h.ServeHTTP(w, req)
		})
	})
	x := a.fleet.Stranger(1003, fleettest.FreeAddress(r))
	good := x.Sign(x.Wire("work", "x", a.b.ID, 1)).String()
	a.b.Echo()
	a.b.WantAnswer(a.b.ID)
	asked.Store(0)
	before := int(status(r, a.b.Daemon, "VmRSS"))
	bodies := map[string]string{
		"empty": "", "NUL": "\x00", "deep": strings.Repeat(`{"dat":`, 10_000), "deep list": strings.Repeat("[", 10_000),
		"UTF-8": strings.Replace(good, "work", "wo\xff\xferk", 1), "twice": strings.Replace(good, `"cmd"`, `"cmd":"other","cmd"`, 1),
		"case": strings.Replace(good, `"cmd"`, `"CMD":"other","cmd"`, 1), "2^63": strings.Replace(good, `"ver":1`, `"ver":9223372036854775808`, 1),
		"2^64 src": strings.Replace(good, `"src":1003`, `"src":18446744073709551616`, 1), "list": "[" + good + "]", "two": good + good,
		"text": "GET / HTTP/1.0", "null": "null", "fraction": strings.Replace(good, `"src":1003`, `"src":1003.5`, 1),
	}
	for _, path := range []string{"/zbus-remote", "/zbus-reply", "/zbus-cmd", "/zbus-result", fleettest.TransferPath} {
		for what, body := range bodies {
			if code, reason := a.send(a.b.Listen, parcel{path: path, body: []byte(body)}); code/100 != 4 {
				r.Errorf("%s to %s: %d %s", what, path, code, reason)
			}
		}
		// A gigabyte, as far as it is taken: what the buffers of a connection hold, and no
		// more than a message may have.
		var z zeros
		resp, err := a.client.Post("http://"+a.b.Listen+path, "application/json", io.LimitReader(&z, 1<<30))
		if n := z.taken.Load(); n > 32<<20 {
			r.Errorf("of a gigabyte to %s %d bytes were taken", path, n)
		}
		if err == nil {
			if resp.StatusCode/100 != 4 {
				r.Errorf("a gigabyte to %s: %d", path, resp.StatusCode)
			}
			_ = resp.Body.Close()
		}
	}
	questions := asked.Load() // transfers are signed, and what the remote queue holds may be answered
	a.garbageInTransfers(x, bodies)
	for _, queue := range []string{"local", "remote", "reply"} {
		for _, body := range bodies {
			a.b.PushRaw(queue, body)
		}
	}
	a.b.WantAnswer(a.b.ID)
	grown := int(status(r, a.b.Daemon, "VmHWM")) - before
	r.figure("%d bodies to 5 endpoints and 3 queues, %d questions to the resolver", len(bodies)+1, questions)
	r.atMost("RSS grown by, in MiB", float64(grown)/1024, 64)
	if n := a.believed(); n != 0 || questions != 0 {
		r.Errorf("%d were believed, and the resolver was asked %d times", n, questions)
	}
	a.b.WantNoPoison()
}

// garbageInTransfers posts what a twin has signed that means no good: bodies that are
// no messages, and small ones that expand to much.
func (a *attacker) garbageInTransfers(x *fleettest.Person, bodies map[string]string) {
	a.row.Helper()
	for what, body := range bodies {
		t := x.Transfer(a.b.ID, `{"request":`+body+"}\n")
		if status, verdict := a.send(a.b.Listen, parcel{fleettest.TransferPath, x.SignTransfer(t), []byte(t.Body)}); verdict == taken || status/100 == 5 {
			a.row.Errorf("%s in a transfer: %d %s", what, status, verdict)
		}
	}
	for _, unpacked := range []int{5 << 20, a.row.of(64<<20, 1<<30)} {
		var bomb bytes.Buffer
		w := gzip.NewWriter(&bomb)
		_, _ = io.CopyN(w, new(zeros), int64(unpacked))
		_ = w.Close()
		t := x.Transfer(a.b.ID, bomb.String())
		t.Encoding = "gzip"
		if status, verdict := a.send(a.b.Listen, parcel{fleettest.TransferPath, x.SignTransfer(t), []byte(t.Body)}); status != http.StatusRequestEntityTooLarge {
			a.row.Errorf("a bomb of %d bytes: %d %s", unpacked, status, verdict)
		}
	}
}

// Somebody opens thousands of connections and sends next to nothing on them.
//
// Seen to fail it, with 200 connections: HTTPServer of httpapi without ReadHeaderTimeout:
// those without a header stay.
func TestHTTPAbuse(t *testing.T) {
	if !*full {
		t.Skip("in full only: it wants thousands of connections")
	}
	r := beginAlone(t, 35, "half-open connections, slow and large headers, endless chunks")
	p, _ := threesome(r)
	echoes(r, p.b, "echo")
	usually := newBaseline(r, p.a, p.b.ID, "echo", 50, 1000)
	const most = 10_000
	refused := 0
	var silent []net.Conn // on which no header ends
	for i := range most {
		c, err := net.Dial("tcp", p.b.Listen)
		if err != nil {
			refused++
			continue
		}
		r.Cleanup(func() { _ = c.Close() })
		if i%4 != 3 {
			silent = append(silent, c)
		}
		switch i % 4 {
		case 1:
			_, _ = io.WriteString(c, "POST /zbus-remote HTTP/1.1\r\nHost: x\r\nX: ")
		case 2:
			_, _ = io.WriteString(c, "POST /zbus-remote HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10))
		case 3:
			_, _ = io.WriteString(c, "POST /zbus-remote HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		}
	}
	during := usually.again()
	r.figure("%d connections, %d refused", most, refused)
	if refused > most/100 {
		r.Errorf("%d connections were refused: nothing was shown", refused)
	}
	kept := 0
	end := time.Now().Add(15 * time.Second)
	for _, c := range silent {
		_ = c.SetReadDeadline(end)
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			kept++
		}
	}
	if kept > 0 {
		r.Errorf("%d of %d connections without a header are still there", kept, len(silent))
	}
	wantUnaffected(r, usually, during, 2) // those without a header have gone
	r.atMost("RSS at most, in MiB", status(r, p.b.Daemon, "VmHWM")/1024, 256)
}

// The relay may open few files, and somebody takes them all.
//
// That it accepts again is net/http's own work, which no line of ours can break. Ours
// is that what cannot be sent meanwhile waits.
//
// Seen to fail it: sendError of client.go that ends with a *msgbus.Refusal in the place
// of Unreachable: the app is told that the twin cannot be reached.
func TestFewFileDescriptors(t *testing.T) {
	if !*full {
		t.Skip("in full only")
	}
	r := begin(t, 37, "LimitNOFILE=64")
	p := newPair(r)
	p.b.Via = []string{"prlimit", "--nofile=64:64"}
	p.start()
	echoes(r, p.a, "echo")
	echoes(r, p.b, "echo")
	for i := range 3 {
		p.toA.drop() // so that b has to connect anew
		var held []net.Conn
		for range 200 {
			c, err := net.DialTimeout("tcp", p.b.Listen, time.Second)
			if err == nil {
				held = append(held, c)
			}
		}
		p.b.Push(fleettest.Request("echo", fmt.Sprint(i), p.a.ID).With("ret", "app").With("try", 1000))
		r.pass(2 * time.Second)
		for _, c := range held {
			_ = c.Close()
		}
		p.b.Daemon.AwaitReady()
		p.a.WantAnswer(p.b.ID)
		if m := p.b.Pop("app"); m.Text("err") != "" || m.Data() != fmt.Sprint(i) {
			r.Errorf("asked while there were none: the answer is %s", m)
		}
	}
	r.figure("answers again each time that they are free, and loses nothing meanwhile")
}

// A dead twin has very much waiting for it. The relay keeps it in Redis and not
// in its memory.
//
// Seen to fail it, with three tenths of the peers: expireMost and endedBytes so large
// that they bound nothing: Redis stands still for longer than a call may take.
func TestMemoryWithMuchWaiting(t *testing.T) {
	if !*full {
		t.Skip("in full only: it fills three gigabytes of Redis")
	}
	const each, peers = 100, 10_000
	// Alone: what is admitted must be, before the first expires.
	r := beginAlone(t, 25, "1,000,000 × 1 KiB queued for 10,000 dead twins")
	f := fleettest.New(r)
	a := f.Site(1001)
	a.Echo()
	start := func() {
		a.Start("--log-level", "error", "--max-backlog", fmt.Sprint(2*each*peers)) // else nothing else is taken
		a.WantAnswer(a.ID)
	}
	start()
	idle := goroutines(r, a.Daemon)
	start()
	threads, before := status(r, a.Daemon, "Threads"), holds(r, a)

	dead := make([]uint32, peers)
	for i := range dead {
		dead[i] = uint32(20_001 + i)
	}
	f.Strangers(fleettest.FreeAddress(r), dead...)
	requests := make([]any, peers)
	for i, id := range dead {
		requests[i] = fleettest.Request("work", strings.Repeat("x", 1024), id).With("ret", "app").With("try", 1000).With("exp", 600).String()
	}
	peak := 0.0
	look := func() { peak = max(peak, status(r, a.Daemon, "VmRSS")/1024) }
	for range each {
		for part := range slices.Chunk(requests, 1000) {
			if err := a.RDB.RPush(r.Context(), "msgbus.system.local", part...).Err(); err != nil {
				r.Fatal(err)
			}
		}
		look()
	}
	most := int64(0)
	began := time.Now()
	const patience = 15 * time.Minute
	for a.Length("msgbus.system.local") > 0 {
		r.pass(100 * time.Millisecond)
		look()
		if time.Since(began) > patience {
			r.Fatal("what was pushed is not admitted")
		}
	}
	r.figure("admitted within %s of the last push", time.Since(began).Round(time.Second))
	a.WantAnswer(a.ID)
	for waiting, lanes := int64(1), int64(1); waiting+lanes > 0; {
		r.pass(500 * time.Millisecond)
		look()
		waiting = a.RDB.HLen(r.Context(), "msgbus.system.backlog").Val()
		lanes = a.RDB.ZCard(r.Context(), "msgbus.system.lanes").Val()
		most = max(most, waiting)
		if time.Since(began) > patience {
			r.Fatalf("%d do not end, %d lanes do not rest", waiting, lanes)
		}
	}
	if most < each*peers*9/10 {
		r.Errorf("at most %d waited at once: too few to show anything", most)
	}
	r.figure("%d waited at once; ended %s after the last push", most, time.Since(began).Round(time.Second))
	if n := a.Length("app"); n != each*peers {
		r.Errorf("%d of %d have ended", n, each*peers)
	}
	ask(r, a, "DEL", "app")
	after := holds(r, a)
	r.figure("Redis held %s before, %s after", before, after)
	r.atMost("more keys in Redis than before", float64(after.keys-before.keys), 10)
	r.atMost("more MiB in Redis than before", after.mebibytes-before.mebibytes, 8)
	r.atMost("RSS, in MiB", peak, 256)
	r.atMost("more threads than before", status(r, a.Daemon, "Threads")-threads, 10)
	r.pass(100 * time.Second) // longer than idle connections are kept, which have two each
	r.atMost("more goroutines than before", float64(goroutines(r, a.Daemon)-idle), 10)
}

// goroutines ends a relay so that it tells what its goroutines do, and counts them.
func goroutines(r *row, d *fleettest.Daemon) int {
	r.Helper()
	_ = d.Proc.Signal(syscall.SIGQUIT)
	d.WantExit(2)
	return strings.Count(d.Said(), "\ngoroutine ")
}

// A holding is what a Redis holds: bytes, and keys but for what is kept of each
// twin that was written to, however often: its counter, the epoch of that, and
// for a day its record.
type holding struct {
	keys      int
	mebibytes float64
}

var ofATwin = regexp.MustCompile(`^msgbus\.(counter|system\.lane|system\.twin)\.\d+$`)

func (h holding) String() string { return fmt.Sprintf("%d keys, %.1f MiB", h.keys, h.mebibytes) }

func holds(r *row, s *fleettest.Site) (h holding) {
	r.Helper()
	keys := s.RDB.Scan(r.Context(), 0, "*", 1000).Iterator()
	for keys.Next(r.Context()) {
		if !ofATwin.MatchString(keys.Val()) {
			h.keys++
		}
	}
	memory, err := s.RDB.InfoMap(r.Context(), "memory").Result()
	if err != nil || keys.Err() != nil {
		r.Fatal(err, keys.Err())
	}
	bytes, err := strconv.ParseFloat(memory["Memory"]["used_memory"], 64)
	if err != nil {
		r.Fatal(err)
	}
	h.mebibytes = bytes / (1 << 20)
	return h
}
