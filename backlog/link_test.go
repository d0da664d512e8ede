package backlog_test

import (
	"io"
	"net"
	"net/url"
	"sync"
)

// A link carries connections to Redis, and can swallow Redis's answers.
type link struct {
	ln     net.Listener
	target string

	mu         sync.Mutex
	swallowing bool // guarded by mu
	conns      []net.Conn
}

func newLink(r *rig) *link {
	r.Helper()
	u, err := url.Parse(r.url)
	r.must(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	l := &link{ln: ln, target: u.Host}
	var running sync.WaitGroup
	running.Go(func() { l.serve(&running) })
	r.Cleanup(func() {
		_ = ln.Close()
		l.mu.Lock()
		for _, c := range l.conns {
			_ = c.Close()
		}
		l.mu.Unlock()
		running.Wait()
	})
	return l
}

func (l *link) url() string { return "redis://" + l.ln.Addr().String() }

// swallow ends a connection when Redis answers on it, instead of passing the
// answer on.
func (l *link) swallow() { l.set(true) }
func (l *link) mend()    { l.set(false) }

func (l *link) set(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swallowing = on
}

func (l *link) serve(running *sync.WaitGroup) {
	for {
		down, err := l.ln.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", l.target)
		if err != nil {
			_ = down.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, down, up)
		l.mu.Unlock()
		running.Go(func() {
			_, _ = io.Copy(up, down)
			_ = up.Close()
		})
		running.Go(func() {
			l.answer(down, up)
			_ = down.Close()
			_ = up.Close()
		})
	}
}

func (l *link) answer(down, up net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		l.mu.Lock()
		swallowing := l.swallowing
		l.mu.Unlock()
		if err != nil || swallowing {
			return
		}
		if _, err := down.Write(buf[:n]); err != nil {
			return
		}
	}
}
