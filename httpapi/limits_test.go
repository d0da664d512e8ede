package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/msgbus"
)

const maxBody = 4 << 20

// blanks is an endless body of n bytes that is costly only to who reads it whole.
type blanks struct{ left, read int }

func (b *blanks) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), b.left)
	for i := range n {
		p[i] = ' '
	}
	b.left -= n
	b.read += n
	return n, nil
}

// Four requests of 200 MB took the archived daemon 2.7 GB of memory.
func TestABodyOverTheLimitIsNotReadToItsEnd(t *testing.T) {
	b := newBench(t)
	for name, length := range map[string]int64{"with its length": 1 << 30, "in chunks": -1} {
		for _, path := range []string{"/zbus-remote", "/zbus-reply", "/zbus-cmd"} {
			body := &blanks{left: 1 << 30}
			req := httptest.NewRequest(http.MethodPost, path, body)
			req.ContentLength = length
			w := httptest.NewRecorder()
			b.handler.ServeHTTP(w, req)
			answer{w.Code, w.Header(), w.Body.String()}.errorIs(t, 413, msgbus.TooLarge, "4194304")
			if body.read > maxBody+64<<10 {
				t.Errorf("%s, %s: %d bytes were read", path, name, body.read)
			}
		}
	}
}

// The limit is the limit: 4 MiB pass, a byte more does not, on a real socket.
func TestTheLargestBodyIsFourMebibytes(t *testing.T) {
	b := newBench(t).serve()
	m := request()
	m.Data = strings.Repeat("QUJD", (maxBody-1000)/4)
	text := string(sign(m, b.asker).AppendWire(nil))
	text += strings.Repeat(" ", maxBody-len(text))
	if got := b.post("/zbus-remote", "", strings.NewReader(text)); got.code != 200 {
		t.Errorf("4 MiB: %d %.200s", got.code, got.body)
	}
	b.post("/zbus-remote", "", strings.NewReader(text+" ")).errorIs(t, 413, msgbus.TooLarge, "")
	b.post("/zbus-remote", "", struct{ io.Reader }{strings.NewReader(text + " ")}).errorIs(t, 413, msgbus.TooLarge, "") // chunked
}

// Bodies of one hundred strangers at once must not add up to all of the memory.
// Ordinary messages are not held up meanwhile.
func TestLargeBodiesAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *httpapi.ServerOptions) { o.MaxInFlight = 1 << 20 })
		post := func(body io.Reader) answer {
			w := httptest.NewRecorder()
			b.handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/zbus-remote", body))
			return answer{w.Code, w.Header(), w.Body.String()}
		}
		slow, stop := io.Pipe()
		go post(slow)
		if _, err := stop.Write(make([]byte, 1<<20+64<<10)); err != nil { // all that may be held
			t.Fatal(err)
		}
		synctest.Wait()

		busy := post(&blanks{left: 300 << 10})
		busy.errorIs(t, 503, msgbus.Overloaded, "")
		if busy.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if got := post(strings.NewReader(string(sign(request(), b.asker).AppendWire(nil)))); got.code != 200 {
			t.Errorf("an ordinary message is held up: %d %s", got.code, got.body)
		}
		stop.CloseWithError(errors.New("gone"))
		synctest.Wait()
		post(&blanks{left: 900 << 10}).errorIs(t, 400, msgbus.Malformed, "") // blanks, but read
	})
}

// Five thousand forged messages a second must not become as many lines of log,
// and must not hide that Redis is away.
func TestRefusalsFillNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		b := newBench(t, func(o *httpapi.ServerOptions) { o.Log = zerolog.New(&log) })
		post := func(text string) {
			b.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/zbus-remote", strings.NewReader(text)))
		}
		for range 5000 {
			post("rubbish")
		}
		if lines := strings.Count(log.String(), "\n"); lines == 0 || lines > 20 {
			t.Errorf("%d lines in one second", lines)
		}
		if !strings.Contains(log.String(), `"reason":"malformed"`) {
			t.Errorf("no reason in %.300s", log.String())
		}
		b.relay.err = errors.New("connection refused")
		post(string(sign(request(), b.asker).AppendWire(nil)))
		if !strings.Contains(log.String(), "connection refused") {
			t.Error("the storage's error is not told")
		}
	})
}

// pipes is a listener without sockets, for tests with a clock of their own.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p.conns <- there
	return here, nil
}

// Half-open connections and headers that come a byte at a time would hold the
// relay's descriptors for ever.
func TestSlowConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		s := httpapi.HTTPServer(b.handler)
		l := newPipes()
		go s.Serve(l)
		const head = "POST /zbus-remote HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
		for name, c := range map[string]struct {
			sent string
			want time.Duration
		}{
			"nothing":       {"", 10 * time.Second},
			"half a header": {head[:40], 10 * time.Second},
			"half a body":   {head + `{"ver"`, 75 * time.Second},
		} {
			conn, _ := l.dial(t.Context(), "", "")
			start := time.Now()
			if c.sent != "" {
				if _, err := io.WriteString(conn, c.sent); err != nil {
					t.Fatal(err)
				}
			}
			io.Copy(io.Discard, conn)
			// net/http gives a client half a second to read the answer.
			if took := time.Since(start); took < c.want || took > c.want+time.Second {
				t.Errorf("%s: closed after %s, want %s", name, took, c.want)
			}
			conn.Close()
		}
		s.Close()
	})
}

// 64 KiB of headers a connection, on thousands of connections, is memory too.
func TestHugeHeadersAreRefused(t *testing.T) {
	b := newBench(t).serve()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go fmt.Fprintf(conn, "POST /zbus-remote HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", resp.Status)
	}
}

// A load balancer must stop sending to a relay that cannot serve, and an
// operator must see why; the process itself still is alive.
func TestTheAdminSideTellsAliveFromReady(t *testing.T) {
	var cause error
	h := httpapi.AdminHandler(func(ctx context.Context) error {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("the check may take for ever")
		}
		return cause
	}, nil)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		cause error
		path  string
		code  int
		body  string
	}{
		{nil, "/healthz", 200, `{"status":"ok"}`},
		{nil, "/readyz", 200, `{"status":"ready"}`},
		{errors.New("redis is away"), "/healthz", 200, `{"status":"ok"}`},
		{errors.New("redis is away"), "/readyz", 503, `{"reason":"redis is away","status":"not ready"}`},
	} {
		cause = c.cause
		if code, body := get(c.path); code != c.code || body != c.body {
			t.Errorf("%s with %v: %d %s", c.path, c.cause, code, body)
		}
	}
}
