package chaos

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A link is a TCP proxy that stands for a network: what crosses it can be held,
// delayed, slowed and cut. It runs everywhere; see wire_test.go for the kernel's
// own.
type link struct {
	dial func() (net.Conn, error) // where it leads

	mu      sync.Mutex
	to      conditions        // towards the target; guarded by mu
	back    conditions        // towards the caller; guarded by mu
	changed chan struct{}     // closed and made anew when conditions change; guarded by mu
	conns   map[net.Conn]bool // guarded by mu
	dialled int               // guarded by mu

	listener net.Listener
	ctx      context.Context
	ended    sync.WaitGroup
}

// conditions are what one direction of a link is like. Zero is a good network.
type conditions struct {
	blocked   bool          // nothing passes; what is sent waits, as for a retransmission
	delay     time.Duration // of each segment
	jitter    time.Duration // more or less than that
	bytesASec int           // of all connections together; 0: no limit
	loss      float64       // share of segments that are sent again after retransmit

	busy *time.Time // until when what was let in before takes the bytesASec; guarded by link.mu
}

// retransmit is what a lost segment costs a TCP connection on Linux, at least.
const retransmit = 200 * time.Millisecond

// newLink begins a link to a host:port.
func newLink(r *row, target string) *link {
	r.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	return joined(r, l, func() (net.Conn, error) { return net.Dial("tcp", target) })
}

// joined begins a link between a listener and what dial connects to.
func joined(r *row, l net.Listener, dial func() (net.Conn, error)) *link {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	k := &link{dial: dial, changed: make(chan struct{}), conns: make(map[net.Conn]bool), listener: l, ctx: ctx}
	k.ended.Go(k.accept)
	r.Cleanup(func() {
		cancel()
		_ = l.Close()
		k.drop()
		k.ended.Wait()
	})
	return k
}

// address is where the link begins.
func (k *link) address() string { return k.listener.Addr().String() }

// is sets what both directions are like from now on.
func (k *link) is(to, back conditions) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.to, k.back = to, back
	k.to.busy, k.back.busy = new(time.Time), new(time.Time)
	close(k.changed)
	k.changed = make(chan struct{})
}

// cut is a partition: nothing passes, either way, and nobody is told.
func (k *link) cut() { k.is(conditions{blocked: true}, conditions{blocked: true}) }

// heal makes the link good. What waited in it passes.
func (k *link) heal() { k.is(conditions{}, conditions{}) }

// drop ends all connections, as a machine that restarts does.
func (k *link) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		_ = c.Close()
	}
}

// connections tells how many have been made.
func (k *link) connections() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dialled
}

func (k *link) accept() {
	for {
		caller, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.mu.Lock()
		k.dialled++
		k.mu.Unlock()
		k.ended.Go(func() { k.join(caller) })
	}
}

// join carries bytes between a caller and the target until both have ended.
func (k *link) join(caller net.Conn) {
	defer k.forget(caller)
	k.remember(caller)
	if !k.pass(func() conditions { return k.to }, 0) { // a SYN crosses the link too
		return
	}
	target, err := k.dial()
	if err != nil {
		return
	}
	defer k.forget(target)
	k.remember(target)
	var both sync.WaitGroup
	both.Go(func() { k.carry(target, caller, func() conditions { return k.to }) })
	both.Go(func() { k.carry(caller, target, func() conditions { return k.back }) })
	both.Wait()
}

func (k *link) remember(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conns[c] = true
	if k.ctx.Err() != nil {
		_ = c.Close()
	}
}

func (k *link) forget(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, c)
	_ = c.Close()
}

// A segment is what was read at once, and when it is due at the other end.
type segment struct {
	bytes []byte
	due   time.Time
}

// carry copies one direction, in order, under its conditions.
func (k *link) carry(to, from net.Conn, current func() conditions) {
	segments := make(chan segment, 256) // what a link holds at most
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(segments)
		for {
			b := make([]byte, 16<<10)
			n, err := from.Read(b)
			if n > 0 {
				select {
				case segments <- segment{b[:n], time.Now().Add(k.latency(current))}:
				case <-k.ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for s := range segments {
		if !wait(k.ctx, time.Until(s.due)) || !k.pass(current, len(s.bytes)) {
			break
		}
		if _, err := to.Write(s.bytes); err != nil {
			break
		}
	}
	// The end of one direction crosses the link like all else.
	k.pass(current, 0)
	_ = to.Close()
	_ = from.Close()
	for range segments {
	}
	reading.Wait()
}

func (k *link) latency(current func() conditions) time.Duration {
	k.mu.Lock()
	c := current()
	k.mu.Unlock()
	d := c.delay
	if c.jitter > 0 {
		d += time.Duration(rand.Int64N(int64(2*c.jitter))) - c.jitter
	}
	if c.loss > 0 && rand.Float64() < c.loss {
		d += retransmit
	}
	return max(0, d)
}

// pass waits until so many bytes may cross, and tells whether the link is still
// there.
func (k *link) pass(current func() conditions, n int) bool {
	for {
		k.mu.Lock()
		c, changed := current(), k.changed
		k.mu.Unlock()
		switch {
		case k.ctx.Err() != nil:
			return false
		case c.blocked:
			select {
			case <-changed:
			case <-k.ctx.Done():
				return false
			}
		case c.bytesASec > 0:
			k.mu.Lock()
			if now := time.Now(); c.busy.Before(now) {
				*c.busy = now
			}
			*c.busy = c.busy.Add(time.Duration(n) * time.Second / time.Duration(c.bytesASec))
			rest := time.Until(*c.busy)
			k.mu.Unlock()
			return wait(k.ctx, rest)
		default:
			return true
		}
	}
}
