package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/gateway"
)

// narrow is a transport whose connections hold little, so that who does not read is soon
// seen.
func narrow(t *testing.T) *http.Transport {
	tr := transport(t)
	tr.ReadBufferSize = 4 << 10
	tr.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return conn, err
	}
	return tr
}

// A page that does not keep up makes others wait, or the relay's memory grow, or shows old
// things as if nothing was missing.
func TestASlowPageLosesTheOldestAndIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *gateway.Options) { o.MaxQueue = 16 })
	all := hears(t, "a")
	slow, fast := r.listenBy(narrow(t), all, ""), r.connect(all)
	fast.subscribe("a")
	const n = 200
	filler := bytes.Repeat([]byte("x"), 10_000)
	for i := range n {
		r.publishRaw("a", "a", fmt.Appendf(nil, `{"n":%d,"filler":"%s"}`, i, filler))
		m, _ := fast.next() // which is there however slow the other is
		if m == nil || m.Event == nil || !bytes.HasPrefix(m.Event.Data, fmt.Appendf(nil, `{"n":%d,`, i)) {
			t.Fatalf("the fast page is told %.100s after %d events", m, i)
		}
	}
	r.publishRaw("a", "a", []byte(`"last"`))
	told, lost := 0, 0
	for {
		m := slow.next()
		switch {
		case m == nil:
			t.Fatalf("it ends after %d of %d", told, n)
		case m.Name == "lost":
			told += m.Lost
			lost += m.Lost
			continue
		case string(m.Event.Data) == `"last"`:
			if lost == 0 || told != n {
				t.Errorf("%d events came or are known to be lost, %d of them lost; want %d", told, lost, n)
			}
			r.seen.note(func() {
				if r.seen.lost != lost {
					t.Errorf("the metrics say that %d were lost, the page that %d", r.seen.lost, lost)
				}
			})
			return
		case !bytes.HasPrefix(m.Event.Data, fmt.Appendf(nil, `{"n":%d,`, told)):
			t.Fatalf("after %d comes %.20s", told, m.Event.Data)
		}
		told++
	}
}

// Pages whose users have closed their laptops stay connected until there are too many.
func TestAPageThatTakesNothingIsLeft(t *testing.T) {
	for kind, listen := range map[string]func(r *rig){
		gateway.SSE: func(r *rig) { r.listenBy(narrow(r.T), hears(r, "a"), "") },
		gateway.WebSocket: func(r *rig) {
			c := r.connect(hears(r, "a"))
			c.subscribe("a") // and then nobody reads
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(o *gateway.Options) { o.Slow = 100 * time.Millisecond })
			listen(r)
			r.wantConnected(kind, 1)
			filler := fmt.Appendf(nil, `"%s"`, bytes.Repeat([]byte("x"), 100_000))
			for range 100 {
				r.publishRaw("a", "a", filler)
			}
			r.wantConnected(kind, 0)
			eventually(t, "the log", func() error {
				if text := r.log.String(); !bytes.Contains([]byte(text), []byte(gateway.TooSlow)) {
					return fmt.Errorf("it does not say why: %s", text)
				}
				return nil
			})
		})
	}
}

// A page whose token has expired goes on to hear, though its user was locked out.
func TestAConnectionEndsWithItsToken(t *testing.T) {
	t.Parallel()
	start := time.Now()
	r := newRig(t, func(o *gateway.Options) {
		o.Now = func() time.Time { return now.Add(time.Since(start)) }
	})
	lasting := token(t, gateway.Claims{Topics: []string{"a"}, Expires: now.Unix() + 1_000_000})
	brief := func() string {
		return token(t, gateway.Claims{Topics: []string{"a"}, Expires: now.Add(time.Since(start)).Unix() + 2})
	}
	stays := r.listen(lasting, "")
	page, socket := r.listen(brief(), ""), r.connect(brief())
	socket.subscribe("a")
	m := page.next()
	if m == nil || m.Name != "end" || m.End.Reason != string(gateway.TokenExpired) {
		t.Errorf("the EventSource is told %s", m)
	}
	if next := page.next(); next != nil {
		t.Errorf("it goes on with %s", next)
	}
	if status, _, _ := r.ask("/events", http.Header{"Last-Event-Id": {m.ID}}); status != http.StatusNoContent {
		t.Errorf("when it comes again, the status is %d: it does so for ever", status)
	}
	socket.wantError(gateway.TokenExpired)
	if _, code := socket.next(); code != 4001 {
		t.Errorf("the WebSocket is closed with %d", code)
	}
	r.publish("a", 1)
	stays.want("a", "1")
}
