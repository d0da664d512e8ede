package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/msgbusd/msgbusd/httpapi/transfer"
)

// A front stands before a relay and makes it seem a published one, which knows no
// transfers: whoever greets it hears so, and speaks version 1 for the next ten
// minutes. It looks at no more than the beginning of each connection, and so costs
// little: Linux moves the rest by splice(2).
type front struct {
	listener net.Listener
	relay    string // address
	handled  sync.WaitGroup

	mu      sync.Mutex
	ended   bool                  // guarded by mu
	open    map[net.Conn]struct{} // guarded by mu
	greeted int                   // times; guarded by mu
}

func newFront(address, relay string) (*front, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	f := &front{listener: listener, relay: relay, open: make(map[net.Conn]struct{})}
	f.handled.Go(f.accept)
	return f, nil
}

func (f *front) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.handled.Go(func() {
			if f.keep(conn) {
				f.handle(conn)
			}
			f.drop(conn)
		})
	}
}

// handle ends a greeting and passes on everything else.
func (f *front) handle(conn net.Conn) {
	greeting := []byte(http.MethodPost + " " + transfer.Path + " ")
	head := make([]byte, len(greeting))
	if _, err := io.ReadFull(conn, head); err != nil {
		return
	}
	if bytes.Equal(head, greeting) {
		f.mu.Lock()
		f.greeted++
		f.mu.Unlock()
		// What is left unread would cut the answer off.
		request, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(head), conn)))
		if err == nil {
			_, _ = io.Copy(io.Discard, request.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
		return
	}
	relay, err := net.Dial("tcp", f.relay)
	if err != nil {
		return
	}
	defer f.drop(relay)
	if !f.keep(relay) {
		return
	}
	if _, err := relay.Write(head); err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(conn, relay)
		_ = conn.Close()
	})
	_, _ = io.Copy(relay, conn)
	_ = relay.Close()
	back.Wait()
}

// keep notes a connection that the end of the front ends, unless it has ended.
func (f *front) keep(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.open[conn] = struct{}{}
	}
	return !f.ended
}

func (f *front) drop(conn net.Conn) {
	_ = conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, conn)
}

func (f *front) stop() {
	_ = f.listener.Close()
	f.mu.Lock()
	f.ended = true
	for conn := range f.open {
		_ = conn.Close()
	}
	f.mu.Unlock()
	f.handled.Wait()
}

// wasGreeted tells whether somebody has heard that this relay knows no transfers.
func (f *front) wasGreeted() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.greeted > 0
}
