package fleettest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/freeport"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/twin"
)

// A Fleet is a registry of twins and the sites that it names.
type Fleet struct {
	t         testing.TB
	Substrate string // where relays look twins up
	publish   func([]twin.Record) error

	// Of a registry that is a process.
	StartRegistry func()
	Process       *Process

	mu      sync.Mutex
	records map[uint32]twin.Record // guarded by mu
	daemons []*Daemon              // all that were started; guarded by mu
}

// interrupt asks all daemons to end, so that they do so side by side.
func (f *Fleet) interrupt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.daemons {
		d.Interrupt()
	}
	f.daemons = nil
}

// New has its registry in this process, behind front if that is not nil:
// a resolver that is in a bad way.
func New(t testing.TB, front ...func(http.Handler) http.Handler) *Fleet {
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
	return &Fleet{t: t, Substrate: server.URL, publish: registry.Replace, records: make(map[uint32]twin.Record)}
}

// NewOfProcesses has a msgbusd registry process, which reads a file.
func NewOfProcesses(t testing.TB) *Fleet {
	t.Helper()
	file := filepath.Join(t.TempDir(), "twins.json")
	address := FreeAddress(t)
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
	f := &Fleet{t: t, Substrate: "http://" + address, publish: publish, records: make(map[uint32]twin.Record)}
	f.StartRegistry = func() {
		t.Helper()
		f.Process = StartProcess(t, "registry", nil, "registry", "--file", file, "--listen", address)
		f.Process.WantSaid("serving twin records")
	}
	f.StartRegistry()
	return f
}

// Pair is a fleet of twins 1001 and 1002, both of which run.
func Pair(t testing.TB) (f *Fleet, a, b *Site) {
	t.Helper()
	f = New(t)
	a, b = f.Site(1001), f.Site(1002)
	a.Launch()
	b.Launch()
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()
	return f, a, b
}

// Register puts a twin, or another record of it, into the registry.
func (f *Fleet) Register(id uint32, account, address string) {
	f.t.Helper()
	rec, err := twin.NewRecord(id, account, address)
	if err != nil {
		f.t.Fatal(err)
	}
	f.registerAll(rec)
}

func (f *Fleet) registerAll(records ...twin.Record) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, rec := range records {
		f.records[rec.ID] = rec
	}
	if err := f.publish(slices.Collect(maps.Values(f.records))); err != nil {
		f.t.Fatal(err)
	}
	// A registry process looks at its file once a second.
	last := records[len(records)-1]
	Eventually(f.t, "the registry knows", func() error {
		source, err := twin.NewSource(f.Substrate, nil)
		if err != nil {
			return err
		}
		now, err := source.Twin(f.t.Context(), last.ID)
		if err == nil && now != last {
			err = fmt.Errorf("it still says %+v", now)
		}
		return err
	})
}

// Strangers registers twins that share an address.
func (f *Fleet) Strangers(address string, ids ...uint32) {
	f.t.Helper()
	var records []twin.Record
	for _, id := range ids {
		rec, err := twin.NewRecord(id, NewPerson(f.t, id).Identity.Account(), address)
		if err != nil {
			f.t.Fatal(err)
		}
		records = append(records, rec)
	}
	f.registerAll(records...)
}

// Stranger registers a twin that has a key and an address and no relay of ours.
func (f *Fleet) Stranger(id uint32, address string) *Person {
	f.t.Helper()
	p := NewPerson(f.t, id)
	f.Register(id, p.Identity.Account(), address)
	return p
}

// A Person is a twin and its key.
type Person struct {
	T        testing.TB
	ID       uint32
	Secret   string
	Identity *twin.Identity
}

func NewPerson(t testing.TB, id uint32) *Person {
	t.Helper()
	p := &Person{T: t, ID: id, Secret: fmt.Sprintf("//e2e//%d", id)}
	var err error
	if p.Identity, err = twin.NewIdentity(p.Secret, twin.SR25519); err != nil {
		t.Fatal(err)
	}
	return p
}

// A Site is one twin's machine: a Redis and a relay.
type Site struct {
	*Person
	Fleet  *Fleet
	Redis  *redistest.Server
	RDB    *redis.Client
	Prefix string
	Listen string // host:port
	Admin  string
	Args   []string // as by hand, but for those that a start adds
	Daemon *Daemon  // the latest
	Via    []string // a command that runs the relay, such as `nsenter --net=FILE`

	Program string // that is the relay, when it is not the one that Main has built

	daemons []*Daemon // all that were started

	lastDead string // id of the dead letter that nextDead returned last
}

// Site makes a site and registers its twin. Its relay does not run yet.
func (f *Fleet) Site(id uint32, options ...redistest.Option) *Site {
	f.t.Helper()
	server := redistest.Start(f.t, options...)
	return f.SiteOn(id, server)
}

// SiteOn is site with a Redis that there is already.
func (f *Fleet) SiteOn(id uint32, server *redistest.Server) *Site {
	f.t.Helper()
	s := &Site{
		Person: NewPerson(f.t, id), Fleet: f, Redis: server, RDB: server.Client(), Prefix: "msgbus",
		Listen: FreeAddress(f.t), Admin: FreeAddress(f.t),
	}
	s.Args = []string{
		"--substrate", f.Substrate, "--twin", strconv.Itoa(int(id)), "--mnemonics-file", SecretFile(f.t, s.Secret),
		"--redis", server.URL(), "--listen", s.Listen, "--admin-listen", s.Admin,
		"--allow-network", "127.0.0.0/8", "--allow-port", "1-65535", "--log-level", "debug",
	}
	f.Register(id, s.Identity.Account(), s.Listen)
	return s
}

// Start starts the relay, with more options, and waits until it serves.
func (s *Site) Start(args ...string) *Daemon {
	s.T.Helper()
	d := s.Launch(args...)
	d.AwaitReady()
	return d
}

// Launch starts the relay and does not wait. Options given here stand behind
// the site's own, and win.
func (s *Site) Launch(args ...string) *Daemon {
	s.T.Helper()
	all := append(append([]string(nil), s.Args...), args...)
	return s.LaunchWith(nil, all...)
}

// LaunchWith starts the relay with exactly these variables and options.
func (s *Site) LaunchWith(env []string, args ...string) *Daemon {
	s.T.Helper()
	program := s.Program
	if program == "" {
		program = binary
	}
	s.Daemon = &Daemon{Process: start(s.T, append(slices.Clone(s.Via), program), fmt.Sprintf("relay of %d", s.ID), env, args...), admin: s.Admin}
	s.daemons = append(s.daemons, s.Daemon)
	s.Fleet.mu.Lock()
	s.Fleet.daemons = append(s.Fleet.daemons, s.Daemon)
	s.Fleet.mu.Unlock()
	s.T.Cleanup(s.Fleet.interrupt)
	return s.Daemon
}

// Daemons returns all relays that were started here, the latest last.
func (s *Site) Daemons() []*Daemon { return s.daemons }

// Without leaves an option and its value out of the site's own.
func (s *Site) Without(option string) {
	s.T.Helper()
	i := slices.Index(s.Args, option)
	if i < 0 {
		s.T.Fatalf("there is no %s among %q", option, s.Args)
	}
	s.Args = slices.Delete(s.Args, i, i+2)
}

// URL is where other relays and clients post.
func (s *Site) URL(path string) string { return "http://" + s.Listen + path }

// SecretFile keeps a secret as --mnemonics-file wants it.
func SecretFile(t testing.TB, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mnemonic")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// FreeAddress is of a port on which nobody listens, before and after a restart.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return freeport.Address(t)
}

// Peer is a relay of somebody else, at a listener of its own. Like published
// ones, it knows no transfers.
func Peer(t testing.TB, h http.Handler) (address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/zbus-transfer" {
			http.NotFound(w, req)
			return
		}
		h.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}
