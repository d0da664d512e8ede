package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A peer that accepts and never answers took a worker of the archived daemon for
// ever; 1,100 of them stopped it.
func TestAPeerThatNeverAnswersIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(net.Conn)
		size  int // of data
		want  time.Duration
	}{
		"never reads":          {func(net.Conn) {}, 0, 10 * time.Second},
		"reads, says nothing":  {mute, 0, 10 * time.Second},
		"a byte every 5 s":     {drip, 0, 10 * time.Second},
		"of 20 KB":             {mute, 20_000, 30 * time.Second},
		"of 2 MB":              {mute, 2_000_000, time.Minute},
		"a header and no more": {trail, 0, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipes()
				var serving sync.WaitGroup
				serving.Go(func() {
					for {
						conn, err := l.Accept()
						if err != nil {
							return
						}
						serving.Go(func() { c.serve(conn) })
					}
				})
				cl := client(t, httpapi.ClientOptions{Dial: l.dial}, endpoint("peer:8051"))
				m := request()
				m.Data = strings.Repeat("QUJD", c.size/4)
				start := time.Now()
				f := failureOf(t, cl.Send(t.Context(), self, outgoing(msgbus.RequestParcel, m))[0])
				if f.Reason != msgbus.Timeout {
					t.Errorf("reason %s: %s", f.Reason, f.Detail)
				}
				if took := time.Since(start); took < c.want || took > c.want+time.Second {
					t.Errorf("it took %s, want %s", took, c.want)
				}
				l.Close()
				serving.Wait()
			})
		})
	}
}

// mute takes what comes and says nothing.
func mute(c net.Conn) { io.Copy(io.Discard, c) }

// drip answers one byte every five seconds.
func drip(c net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	io.Copy(io.Discard, req.Body)
	for _, b := range []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		<-time.After(5 * time.Second)
	}
}

// trail answers with a header and never with its body.
func trail(c net.Conn) {
	if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		io.WriteString(c, "HTTP/1.1 500 x\r\nContent-Length: 9\r\n\r\n")
		mute(c)
	}
}

// The same on a real socket, with the limit as a setting.
func TestTheTimeLimitHoldsOnARealSocket(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	c := peer(t, httpapi.ClientOptions{Timeout: time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-over
	})
	if f := failureOf(t, sendOne(t, c)); f.Reason != msgbus.Timeout {
		t.Errorf("got %v", f)
	}
}

// A peer that has said 200 has the message, even if the rest of its answer does
// not come: to send it again would cost the peer a check for nothing.
func TestAnAcceptanceCountsFromItsStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		go func() {
			conn, _ := l.Accept()
			http.ReadRequest(bufio.NewReader(conn))
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
			io.Copy(io.Discard, conn)
		}()
		c := client(t, httpapi.ClientOptions{Dial: l.dial}, endpoint("peer:8051"))
		if err := sendOne(t, c); err != nil {
			t.Error(err)
		}
		l.Close()
	})
}

// A peer gets at most InFlight messages at once, whatever waits for it.
func TestAtMostInFlightMessagesAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 3
		arrived := make(chan struct{}, 100)
		let := make(chan struct{})
		s := httpapi.HTTPServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			arrived <- struct{}{}
			<-let
		}))
		l := newPipes()
		go s.Serve(l)
		c := client(t, httpapi.ClientOptions{Dial: l.dial, InFlight: limit}, endpoint("peer:8051"))
		var messages []*msgbus.Message
		for range 10 {
			messages = append(messages, request())
		}
		done := make(chan []error)
		go func() { done <- c.Send(t.Context(), self, outgoing(msgbus.RequestParcel, messages...)) }()
		synctest.Wait()
		if n := len(arrived); n != limit {
			t.Errorf("%d messages at once, want %d", n, limit)
		}
		close(let)
		for i, err := range <-done {
			if err != nil {
				t.Errorf("message %d: %v", i, err)
			}
		}
		c.Close()
		s.Close()
	})
}

// A peer that takes what comes, and answers only when it is let.
type slowPeer struct {
	*pipes
	arrived chan *msgbus.Message
	let     chan struct{} // one message each; closed, all
	server  *http.Server
}

func newSlowPeer() *slowPeer {
	p := &slowPeer{pipes: newPipes(), arrived: make(chan *msgbus.Message, 100), let: make(chan struct{})}
	p.server = httpapi.HTTPServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, _ := msgbus.Decode(body)
		p.arrived <- m
		<-p.let
	}))
	go p.server.Serve(p)
	return p
}

// requestOf is a request with so much data.
func requestOf(size int) *msgbus.Message {
	m := request()
	m.Data = strings.Repeat("QUJD", size/4)
	return m
}

// send sends to one twin, and its outcomes come when they are known.
func send(ctx context.Context, c *httpapi.Client, messages ...*msgbus.Message) <-chan []error {
	done := make(chan []error, 1)
	go func() { done <- c.Send(ctx, self, outgoing(msgbus.RequestParcel, messages...)) }()
	return done
}

// A message that waits for a slow batch is refused for good if its `now` is over
// 60 s old when it goes out at last.
func TestNowIsWhenAMessageGoesOut(t *testing.T) {
	for name, opts := range map[string]httpapi.ClientOptions{
		"waits for its turn": {InFlight: 1},
		"waits for bytes":    {MaxInFlight: 1 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newSlowPeer()
				opts.Dial, opts.Now = p.dial, time.Now
				c := client(t, opts, endpoint("peer:8051"))
				m := requestOf(100 << 10)
				m.Now = time.Now().Unix()
				done := send(t.Context(), c, m, m.Clone())
				for range 2 {
					<-time.After(40 * time.Second)
					if got := (<-p.arrived).Now; got != time.Now().Unix()-40 {
						t.Errorf("its now is %d s old after 40 s", time.Now().Unix()-got)
					}
					p.let <- struct{}{}
				}
				for _, err := range <-done {
					if err != nil {
						t.Error(err)
					}
				}
				c.Close()
				p.server.Close()
			})
		})
	}
}

// Large messages on their way to all twins stay within the bound: one that does
// not fit waits, and a relay that stops does not wait for it. What is small does
// not wait for slow twins.
func TestLargeMessagesUnderWayToAllTwinsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		p := newSlowPeer()
		ctx, stop := context.WithCancel(t.Context())
		c := client(t, httpapi.ClientOptions{Dial: p.dial, MaxInFlight: most}, endpoint("peer:8051"))
		var slow []<-chan []error
		for range 9 {
			slow = append(slow, send(ctx, c, requestOf(most/8+64<<10-1<<10)))
		}
		synctest.Wait()
		if n := len(p.arrived); n != 8 {
			t.Errorf("%d messages are under way, want 8", n)
		}
		small := send(ctx, c, requestOf(50<<10))
		synctest.Wait()
		if n := len(p.arrived); n != 9 {
			t.Errorf("a small message is held up: %d are under way, want 9", n)
		}
		stop()
		for _, done := range append(slow, small) {
			for _, err := range <-done {
				failureOf(t, err)
			}
		}
		close(p.let)
		c.Close()
		p.server.Close()
	})
}

// A hostile twin that asks for large answers and takes them slowly must not have
// all of the bound: others' large messages would wait for a minute each.
func TestLargeMessagesUnderWayToOneTwinAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		p := newSlowPeer()
		c := client(t, httpapi.ClientOptions{Dial: p.dial, MaxInFlight: most}, endpoint("peer:8051"))
		large := requestOf(most/16 + 64<<10 - 1<<10) // of which two fit
		slow := send(t.Context(), c, large, large.Clone(), large.Clone(), large.Clone(), large.Clone())
		synctest.Wait()
		if n := len(p.arrived); n != 2 {
			t.Errorf("%d messages are under way to one twin, want 2", n)
		}
		other := send(t.Context(), c, large.Clone())
		synctest.Wait()
		if n := len(p.arrived); n != 3 {
			t.Errorf("another twin's message waits: %d are under way, want 3", n)
		}
		close(p.let)
		for _, err := range append(<-slow, <-other...) {
			if err != nil {
				t.Error(err)
			}
		}
		c.Close()
		p.server.Close()
	})
}

// Twins that hang keep the bytes of a large message for up to a minute. A few
// dozen that failed last must not keep all of them, time after time: the large
// messages of everybody else would wait. Nor may they wait for each other without
// end, in the places of twins that have small messages only.
//
// Broken by: in Send, without failing.has; or with noLimit there; in note, without
// the delete.
func TestLargeMessagesToTwinsThatFailLeaveRoomForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 1 << 20
		p := newSlowPeer()
		c := client(t, httpapi.ClientOptions{Dial: p.dial, MaxInFlight: most}, endpoint("peer:8051"))
		sendTo := func(twin uint32, size int) <-chan error {
			done := make(chan error, 1)
			go func() { done <- c.Send(t.Context(), twin, outgoing(msgbus.RequestParcel, requestOf(size)))[0] }()
			return done
		}
		const large = most/8 + 64<<10 - 1<<10
		arrived := func() (n int) {
			synctest.Wait()
			for {
				select {
				case <-p.arrived:
					n++
				default:
					return n
				}
			}
		}
		toAll := func() (outcomes []<-chan error) {
			for twin := range uint32(8) {
				outcomes = append(outcomes, sendTo(3000+twin, large))
			}
			return outcomes
		}
		first := toAll()
		if n := arrived(); n != 8 {
			t.Fatalf("%d messages are under way, want 8", n)
		}
		for _, done := range first {
			failureOf(t, <-done)
		}
		again := toAll()
		if n := arrived(); n != 1 {
			t.Errorf("%d messages are under way to twins that failed last, want 1", n)
		}
		other := sendTo(4000, large)
		if n := arrived(); n != 1 {
			t.Error("the message to another twin waits for them")
		}
		<-time.After(11 * time.Second)
		for range 8 + 1 + 1 {
			p.let <- struct{}{}
		}
		overloaded := 0
		for _, done := range append(again, other) {
			err := <-done
			if f := (*msgbus.Failure)(nil); errors.As(err, &f) && f.Reason == msgbus.Overloaded && f.Rest > 0 {
				overloaded++
			} else if err != nil {
				t.Error(err)
			}
		}
		if overloaded != 7 {
			t.Errorf("%d came back after a while, want 7", overloaded)
		}
		for twin := range uint32(8) {
			done := sendTo(3000+twin, 1000)
			p.let <- struct{}{}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		arrived()
		last := toAll()
		if n := arrived(); n != 8 {
			t.Errorf("%d messages are under way to twins that have answered again, want 8", n)
		}
		close(p.let)
		for _, done := range last {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		c.Close()
		p.server.Close()
	})
}
