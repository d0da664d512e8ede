package e2e

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// What stands between two relays: a front that hides one's version 2 from the
// others, and a recorder.

// A front is a reverse proxy before a relay. While it hides version 2, the relay
// is one of version 1 to whoever posts to it.
type front struct {
	address   string
	hides     atomic.Bool
	transfers atomic.Int64 // that passed
	hidden    atomic.Int64 // transfers that were answered with 404
	singles   atomic.Int64 // messages as version 1 that passed
}

// putFront has all relays of the fleet find a site behind a front, which hides
// nothing yet.
func putFront(s *fleettest.Site) *front {
	s.T.Helper()
	transport := &http.Transport{DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: s.Listen}) },
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0), // the relay is away while it starts again
	}
	f := &front{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == fleettest.TransferPath && f.hides.Load():
			f.hidden.Add(1)
			http.NotFound(w, req)
			return
		case req.URL.Path == fleettest.TransferPath:
			f.transfers.Add(1)
		default:
			f.singles.Add(1)
		}
		proxy.ServeHTTP(w, req)
	}))
	s.T.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	f.address = server.Listener.Addr().String()
	s.Fleet.Register(s.ID, s.Identity.Account(), f.address)
	return f
}

// hiddenPair is two sites behind fronts that hide version 2, each from the other.
func hiddenPair(t *testing.T) (a, b *fleettest.Site, toA, toB *front) {
	t.Helper()
	f := fleettest.New(t)
	a, b = f.Site(1001), f.Site(1002)
	toA, toB = putFront(a), putFront(b)
	toA.hides.Store(true)
	toB.hides.Store(true)
	return a, b, toA, toB
}

// wantSpoken wants what passed a front to have been of one version.
func (f *front) wantSpoken(t testing.TB, version int) {
	t.Helper()
	transfers, singles := f.transfers.Load(), f.singles.Load()
	if version == 1 && (transfers > 0 || singles == 0) || version == 2 && (transfers == 0 || singles > 0) {
		t.Errorf("%d transfers and %d single messages passed, want version %d", transfers, singles, version)
	}
}

// A recorder is somebody on the way who keeps all bytes that pass, both ways.
type recorder struct {
	mu      sync.Mutex
	streams []*bytes.Buffer // one for each direction of each connection; guarded by mu
	conns   []net.Conn      // guarded by mu
}

// putRecorder has all relays of the fleet find a site behind a recorder, which
// leads to address.
func putRecorder(s *fleettest.Site, address string) *recorder {
	s.T.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.T.Fatal(err)
	}
	r := &recorder{}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			caller, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.join(caller, address) })
		}
	})
	s.T.Cleanup(func() {
		_ = l.Close()
		r.drop()
		running.Wait()
	})
	s.Fleet.Register(s.ID, s.Identity.Account(), l.Addr().String())
	return r
}

// join carries bytes between a caller and the relay until one of them ends.
func (r *recorder) join(caller net.Conn, address string) {
	defer caller.Close()
	target, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer target.Close()
	r.mu.Lock()
	r.conns = append(r.conns, caller, target)
	r.mu.Unlock()
	var both sync.WaitGroup
	carry := func(to, from net.Conn) {
		_, _ = io.Copy(io.MultiWriter(r.stream(), to), from)
		_ = to.Close()
		_ = from.Close()
	}
	both.Go(func() { carry(target, caller) })
	both.Go(func() { carry(caller, target) })
	both.Wait()
}

func (r *recorder) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
}

// stream begins the record of one direction of a connection.
func (r *recorder) stream() io.Writer {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &bytes.Buffer{}
	r.streams = append(r.streams, b)
	return writerFunc(func(p []byte) (int, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return b.Write(p)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// reads tells where a word can be read in what was recorded, as it is or in
// base64: "" if nowhere.
func (r *recorder) reads(word string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range []string{word, fleettest.Encode(word[:len(word)/3*3])} { // what follows in dat changes the rest
		for _, b := range r.streams {
			if i := bytes.Index(b.Bytes(), []byte(text)); i >= 0 {
				return fmt.Sprintf("%q", b.Bytes()[max(0, i-100):min(b.Len(), i+len(text)+100)])
			}
		}
	}
	return ""
}
