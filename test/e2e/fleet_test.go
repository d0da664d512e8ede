package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/twin"
)

// A fleet is a registry of twins and the sites that it names.
type fleet struct {
	t         testing.TB
	substrate string // where relays look twins up
	publish   func([]twin.Record) error

	// Of a registry that is a process.
	startRegistry func()
	process       *process

	mu      sync.Mutex
	records map[uint32]twin.Record // guarded by mu
	daemons []*daemon              // all that were started; guarded by mu
}

// interrupt asks all daemons to end, so that they do so side by side.
func (f *fleet) interrupt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.daemons {
		d.interrupt()
	}
	f.daemons = nil
}

// newFleet has its registry in this process, behind front if that is not nil:
// a resolver that is in a bad way.
func newFleet(t testing.TB, front ...func(http.Handler) http.Handler) *fleet {
	t.Helper()
	registry, err := twin.NewRegistryFromRecords(nil)
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler = registry
	for _, wrap := range front {
		h = wrap(h)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return &fleet{t: t, substrate: server.URL, publish: registry.Replace, records: make(map[uint32]twin.Record)}
}

// newFleetOfProcesses has a msgbusd registry process, which reads a file.
func newFleetOfProcesses(t testing.TB) *fleet {
	t.Helper()
	file := filepath.Join(t.TempDir(), "twins.json")
	address := freeAddress(t)
	publish := func(records []twin.Record) error {
		text, err := json.Marshal(append([]twin.Record{}, records...))
		if err != nil {
			return err
		}
		if err := os.WriteFile(file+".new", text, 0o600); err != nil {
			return err
		}
		return os.Rename(file+".new", file)
	}
	if err := publish(nil); err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, substrate: "http://" + address, publish: publish, records: make(map[uint32]twin.Record)}
	f.startRegistry = func() {
		t.Helper()
		f.process = startProcess(t, "registry", nil, "registry", "--file", file, "--listen", address)
		f.process.wantSaid("serving twin records")
	}
	f.startRegistry()
	return f
}

// pair is a fleet of twins 1001 and 1002, both of which run.
func pair(t testing.TB) (f *fleet, a, b *site) {
	t.Helper()
	f = newFleet(t)
	a, b = f.site(1001), f.site(1002)
	a.launch()
	b.launch()
	a.daemon.awaitReady()
	b.daemon.awaitReady()
	return f, a, b
}

// register puts a twin, or another record of it, into the registry.
func (f *fleet) register(id uint32, account, address string) {
	f.t.Helper()
	rec, err := twin.NewRecord(id, account, address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.records[id] = rec
	var all []twin.Record
	for _, r := range f.records {
		all = append(all, r)
	}
	if err := f.publish(all); err != nil {
		f.t.Fatal(err)
	}
	// A registry process looks at its file once a second.
	eventually(f.t, "the registry knows", func() error {
		source, err := twin.NewSource(f.substrate, nil)
		if err != nil {
			return err
		}
		now, err := source.Twin(f.t.Context(), id)
		if err == nil && now != rec {
			err = fmt.Errorf("it still says %+v", now)
		}
		return err
	})
}

// stranger registers a twin that has a key and an address and no relay of ours.
func (f *fleet) stranger(id uint32, address string) *person {
	f.t.Helper()
	p := newPerson(f.t, id)
	f.register(id, p.identity.Account(), address)
	return p
}

// A person is a twin and its key.
type person struct {
	t        testing.TB
	id       uint32
	secret   string
	identity *twin.Identity
}

func newPerson(t testing.TB, id uint32) *person {
	t.Helper()
	p := &person{t: t, id: id, secret: fmt.Sprintf("//e2e//%d", id)}
	var err error
	if p.identity, err = twin.NewIdentity(p.secret, twin.SR25519); err != nil {
		t.Fatal(err)
	}
	return p
}

// A site is one twin's machine: a Redis and a relay.
type site struct {
	*person
	fleet  *fleet
	redis  *redistest.Server
	rdb    *redis.Client
	prefix string
	listen string // host:port
	admin  string
	args   []string // as by hand, but for those that a start adds
	daemon *daemon  // the latest

	lastDead string // id of the dead letter that nextDead returned last
}

// site makes a site and registers its twin. Its relay does not run yet.
func (f *fleet) site(id uint32, options ...redistest.Option) *site {
	f.t.Helper()
	server := redistest.Start(f.t, options...)
	return f.siteOn(id, server)
}

// siteOn is site with a Redis that there is already.
func (f *fleet) siteOn(id uint32, server *redistest.Server) *site {
	f.t.Helper()
	s := &site{
		person: newPerson(f.t, id), fleet: f, redis: server, rdb: server.Client(), prefix: "msgbus",
		listen: freeAddress(f.t), admin: freeAddress(f.t),
	}
	s.args = []string{
		"--substrate", f.substrate, "--twin", strconv.Itoa(int(id)), "--mnemonics-file", secretFile(f.t, s.secret),
		"--redis", server.URL(), "--listen", s.listen, "--admin-listen", s.admin,
		"--allow-network", "127.0.0.0/8", "--log-level", "debug",
	}
	f.register(id, s.identity.Account(), s.listen)
	return s
}

// start starts the relay, with more options, and waits until it serves.
func (s *site) start(args ...string) *daemon {
	s.t.Helper()
	d := s.launch(args...)
	d.awaitReady()
	return d
}

// launch starts the relay and does not wait. Options given here stand behind
// the site's own, and win.
func (s *site) launch(args ...string) *daemon {
	s.t.Helper()
	all := append(append([]string(nil), s.args...), args...)
	return s.launchWith(nil, all...)
}

// launchWith starts the relay with exactly these variables and options.
func (s *site) launchWith(env []string, args ...string) *daemon {
	s.t.Helper()
	s.daemon = &daemon{process: startProcess(s.t, fmt.Sprintf("relay of %d", s.id), env, args...), admin: s.admin}
	s.fleet.mu.Lock()
	s.fleet.daemons = append(s.fleet.daemons, s.daemon)
	s.fleet.mu.Unlock()
	s.t.Cleanup(s.fleet.interrupt)
	return s.daemon
}

// without leaves an option and its value out of the site's own.
func (s *site) without(option string) {
	s.t.Helper()
	i := slices.Index(s.args, option)
	if i < 0 {
		s.t.Fatalf("there is no %s among %q", option, s.args)
	}
	s.args = slices.Delete(s.args, i, i+2)
}

// url is where other relays and clients post.
func (s *site) url(path string) string { return "http://" + s.listen + path }

// secretFile keeps a secret as --mnemonics-file wants it.
func secretFile(t testing.TB, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mnemonic")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// ports that were given out, so that tests which run side by side do not meet.
var ports struct {
	sync.Mutex
	taken map[int]bool // guarded by Mutex
}

// freeAddress draws a port on which nobody listens: the same one after a
// restart, so it is drawn below what Linux gives to outgoing connections.
func freeAddress(t testing.TB) string {
	t.Helper()
	const low, high = 10_000, 15_000
	ports.Lock()
	defer ports.Unlock()
	if ports.taken == nil {
		ports.taken = make(map[int]bool)
	}
	for range 1000 {
		port := low + rand.IntN(high-low)
		if ports.taken[port] {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		_ = l.Close()
		ports.taken[port] = true
		return address
	}
	t.Fatal("no port is free")
	return ""
}

// peer is a relay of somebody else, at a listener of its own.
func peer(t testing.TB, h http.Handler) (address string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}
