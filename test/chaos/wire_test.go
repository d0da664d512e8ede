package chaos

import (
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A wire joins two network namespaces of the kernel: what it loses are packets,
// and it is TCP that finds out. Where link_test.go stands in for a network, this
// is one. It needs root; newWire tells why a machine has none.
//
// The namespaces have no names, and nothing of the host is in them: they end with
// the test binary, however it ends.
type wire struct {
	row     *row
	a, b    *namespace
	delayed bool
}

// What each end of a wire is called, in its namespace, and where it is.
const (
	wireName     = "wire"
	wireNetwork  = "10.0.0.0/30"
	wireAddressA = "10.0.0.1"
	wireAddressB = "10.0.0.2"
)

func newWire(r *row) (*wire, error) {
	r.Helper()
	a, err := newNamespace(r)
	if err != nil {
		return nil, err
	}
	b, err := newNamespace(r)
	if err != nil {
		return nil, err
	}
	w := &wire{row: r, a: a, b: b}
	if err := a.run("ip", "link", "add", wireName, "type", "veth", "peer", "name", wireName, "netns", b.path); err != nil {
		return nil, err
	}
	for n, address := range map[*namespace]string{a: wireAddressA, b: wireAddressB} {
		for _, line := range []string{
			"ip link set lo up",
			"ip address add " + address + "/30 dev " + wireName,
			"ip link set " + wireName + " up",
			"tc qdisc add dev " + wireName + " clsact",
		} {
			if err := n.run(strings.Fields(line)...); err != nil {
				return nil, err
			}
		}
	}
	return w, w.set(conditions{}, conditions{})
}

// is sets what both directions are like from now on.
func (w *wire) is(toB, toA conditions) {
	w.row.Helper()
	if err := w.set(toB, toA); err != nil {
		w.row.Fatal(err)
	}
}

func (w *wire) set(toB, toA conditions) error {
	if err := w.b.loses(toB); err != nil {
		return err
	}
	if err := w.a.loses(toA); err != nil {
		return err
	}
	if toB.delay == 0 && toA.delay == 0 && !w.delayed {
		return nil
	}
	w.delayed = true
	if err := w.a.delays(toB); err != nil {
		return err
	}
	return w.b.delays(toA)
}

// loses has the end of a wire lose what comes in. That is done there because a
// sender is told what is lost on its own side. netem would do it, but not all
// kernels have that; a filter in classic BPF is everywhere.
func (n *namespace) loses(c conditions) error {
	share := c.loss
	if c.blocked {
		share = 1
	}
	const load, jump, end = 32, 37, 6 // ldw absolute, jgt, ret
	const random, pass, shot = 0xfffff038, 0, 2
	code := fmt.Sprintf("4,%d 0 0 %d,%d 1 0 %d,%d 0 0 %d,%d 0 0 %d",
		load, uint32(random), jump, uint32(share*(1<<32-1)), end, shot, end, pass)
	return n.run("tc", "filter", "replace", "dev", wireName, "ingress", "pref", "1", "handle", "1", "bpf", "direct-action", "bytecode", code)
}

// delays has the end of a wire hold back what goes out.
func (n *namespace) delays(c conditions) error {
	return n.run("tc", "qdisc", "replace", "dev", wireName, "root", "netem", "delay", micros(c.delay), micros(c.jitter))
}

func micros(d time.Duration) string { return fmt.Sprintf("%dus", d.Microseconds()) }

// A namespace is a network that only those who are inside see.
type namespace struct {
	row    *row
	path   string          // of a file that stands for it
	inside chan func()     // run by its thread
	doors  map[string]bool // addresses of the outside that are inside too
}

// newNamespace makes a namespace that ends with the row.
func newNamespace(r *row) (*namespace, error) {
	r.Helper()
	n := &namespace{row: r, inside: make(chan func()), doors: make(map[string]bool)}
	made := make(chan error)
	var thread sync.WaitGroup
	thread.Go(func() {
		runtime.LockOSThread() // and not unlocked: the thread ends, and takes the namespace with it
		var err error
		n.path, err = unshare()
		made <- err
		for f := range n.inside {
			f()
		}
	})
	r.Cleanup(func() {
		close(n.inside)
		thread.Wait()
	})
	return n, <-made
}

// do runs f by a thread that is inside: what f opens or starts is there too.
func (n *namespace) do(f func()) {
	done := make(chan struct{})
	n.inside <- func() {
		defer close(done)
		f()
	}
	<-done
}

// run runs a command inside.
func (n *namespace) run(line ...string) (err error) {
	n.do(func() {
		var out []byte
		if out, err = exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w: %s", strings.Join(line, " "), err, out)
		}
	})
	return err
}

func (n *namespace) dial(address string) (c net.Conn, err error) {
	n.do(func() { c, err = net.Dial("tcp", address) })
	return c, err
}

func (n *namespace) listen(address string) (l net.Listener, err error) {
	n.do(func() { l, err = net.Listen("tcp", address) })
	return l, err
}

// house has a site's relay run inside. It finds its Redis and the registry, and
// is itself asked whether it is ready, at the addresses that it would have
// outside.
func (n *namespace) house(s *fleettest.Site) {
	n.row.Helper()
	s.Via = []string{"nsenter", "--net=" + n.path}
	s.Args = append(s.Args, "--allow-network", wireNetwork)
	for _, address := range []string{s.Redis.Addr(), strings.TrimPrefix(s.Fleet.Substrate, "http://")} {
		if n.doors[address] {
			continue
		}
		n.doors[address] = true
		l, err := n.listen(address)
		if err != nil {
			n.row.Fatal(err)
		}
		joined(n.row, l, func() (net.Conn, error) { return net.Dial("tcp", address) })
	}
	l, err := net.Listen("tcp", s.Admin)
	if err != nil {
		n.row.Fatal(err)
	}
	joined(n.row, l, func() (net.Conn, error) { return n.dial(s.Admin) })
}
