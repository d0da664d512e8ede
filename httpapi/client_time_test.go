package httpapi_test

import (
	"bufio"
	"context"
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

// All that is on its way to all twins stays within the bound: a message that
// does not fit waits, and a relay that stops does not wait for it.
func TestBytesUnderWayToAllTwinsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		held := 0
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				held++
				go io.Copy(io.Discard, conn)
			}
		}()
		ctx, stop := context.WithCancel(t.Context())
		c := client(t, httpapi.ClientOptions{Dial: l.dial, MaxInFlight: 1 << 10}, endpoint("peer:8051"))
		done := make(chan []error)
		large := request()
		large.Data = strings.Repeat("QUJD", 1<<10) // more than fits: it goes alone
		go func() { done <- c.Send(ctx, self, outgoing(msgbus.RequestParcel, large, large.Clone())) }()
		synctest.Wait()
		if held != 1 {
			t.Errorf("%d messages are under way", held)
		}
		stop()
		for _, err := range <-done {
			failureOf(t, err)
		}
		l.Close()
	})
}
