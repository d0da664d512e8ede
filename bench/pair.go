package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/freeport"
	"github.com/msgbusd/msgbusd/twin"
)

// The twins. Their keys are substrate's public development keys.
const (
	asker, askerSecret     = 1001, "//Alice"
	service, serviceSecret = 1002, "//Bob"
	firstDead              = 5001
)

// A pair is two twins' machines: a Redis and a relay each, and what apps and
// services need. Twins from firstDead on are known to the registry and not there.
// Where a row asks the twins of a fleet, that stands in the place of the second
// machine.
type pair struct {
	program  string
	dir      string
	registry *process
	redis    []*process
	rdb      []*redis.Client
	relays   []*process
	fronts   []*front
	services *process   // or the fleet
	asked    []int      // twins
	all      []*process // in the order of their start
	reserved []func()   // release ports
}

func newPair(ctx context.Context, program string, s setting) (p *pair, err error) {
	if program, err = filepath.Abs(program); err != nil {
		return nil, err
	}
	p = &pair{program: program}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	if p.dir, err = os.MkdirTemp("", "msgbusd-bench-"); err != nil {
		return p, err
	}
	machines := []machine{{twin: asker, secret: askerSecret}}
	if s.fleet == 0 {
		machines = append(machines, machine{twin: service, secret: serviceSecret})
	}
	var records []twin.Record
	for i := range machines {
		if err = p.prepare(&machines[i], s); err != nil {
			return p, err
		}
		records = append(records, machines[i].record)
	}
	startServices := func() error { return p.startServices(s, machines[1]) }
	if s.fleet > 0 {
		f, twins, err := p.newFleet(s, machines[0])
		if err != nil {
			return p, err
		}
		records = append(records, twins...)
		startServices = func() error { return p.startFleet(f) }
	}
	registryAt, err := p.startRegistry(ctx, s, records)
	if err != nil {
		return p, err
	}
	for _, m := range machines {
		for _, relayAt := range m.relaysAt {
			if err = p.startRelay(m, relayAt, s, registryAt); err != nil {
				return p, err
			}
		}
	}
	if err = p.awaitMachines(ctx); err != nil {
		return p, err
	}
	if err = startServices(); err != nil {
		return p, err
	}
	return p, p.services.awaitSaid(ctx, "serving")
}

// A machine is where a twin's Redis and its relays are.
type machine struct {
	twin     int
	secret   string
	redisAt  string
	relaysAt []string
	record   twin.Record // whose address is that of a front, if there is one
}

// prepare starts what does not wait for the registry.
func (p *pair) prepare(m *machine, s setting) (err error) {
	for range max(1, s.relays) {
		relayAt, err := p.address()
		if err != nil {
			return err
		}
		m.relaysAt = append(m.relaysAt, relayAt)
	}
	if m.redisAt, err = p.address(); err != nil {
		return err
	}
	if err := os.WriteFile(p.secretFile(m.twin), []byte(m.secret+"\n"), 0o600); err != nil {
		return err
	}
	identity, err := newIdentity(m.secret, s.key)
	if err != nil {
		return err
	}
	at := strings.Join(m.relaysAt, ",")
	if s.version1 {
		if at, err = p.startFront(at); err != nil {
			return err
		}
	}
	if m.record, err = twin.NewRecord(uint32(m.twin), identity.Account(), at); err != nil {
		return err
	}
	return p.startRedis(*m, s)
}

func (p *pair) awaitMachines(ctx context.Context) error {
	for _, server := range p.redis {
		if err := server.awaitSaid(ctx, "Ready to accept connections"); err != nil {
			return err
		}
	}
	for _, relay := range p.relays {
		if err := relay.awaitSaid(ctx, "serving"); err != nil {
			return err
		}
	}
	return nil
}

func (p *pair) startServices(s setting, m machine) (err error) {
	p.asked = []int{m.twin}
	p.services, err = p.start("services", p.program, "bench", "--serve", "--apps", string(s.apps), "--outstanding", "16", "--redis", m.redisAt)
	return err
}

func (p *pair) newFleet(s setting, asker machine) (*fleet, []twin.Record, error) {
	port, release, err := freeport.Reserve()
	if err != nil {
		return nil, nil, err
	}
	p.reserved = append(p.reserved, release)
	f := &fleet{count: s.fleet, port: port, key: s.key, askerAt: asker.record.Address, askerAccount: asker.record.Account}
	records, err := f.records()
	return f, records, err
}

func (p *pair) startFleet(f *fleet) error {
	for i := range f.count {
		p.asked = append(p.asked, firstOfFleet+i)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p.services, err = p.start(fleetMode, self, f.args()...)
	return err
}

// address is one of loopback that nobody else has until the pair stops.
func (p *pair) address() (string, error) {
	port, release, err := freeport.Reserve()
	if err != nil {
		return "", err
	}
	p.reserved = append(p.reserved, release)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
}

func (p *pair) start(name, program string, args ...string) (*process, error) {
	started, err := start(p.dir, name, program, args...)
	if err == nil {
		p.all = append(p.all, started)
	}
	return started, err
}

func (p *pair) startRedis(m machine, s setting) error {
	_, port, _ := strings.Cut(m.redisAt, ":")
	name := fmt.Sprintf("redis-%d", m.twin)
	args := []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", p.dir, "--appendonly", "no"}
	if s.fsync != "" {
		args = append(args, "--appendonly", "yes", "--appendfsync", s.fsync, "--appenddirname", name)
	}
	server, err := p.start(name, "redis-server", args...)
	if err != nil {
		return err
	}
	p.redis = append(p.redis, server)
	p.rdb = append(p.rdb, redis.NewClient(&redis.Options{Addr: m.redisAt}))
	return nil
}

// startRegistry tells where each twin is, also those that are not there.
func (p *pair) startRegistry(ctx context.Context, s setting, records []twin.Record) (address string, err error) {
	nobody, err := p.address()
	if err != nil {
		return "", err
	}
	for i := range s.dead {
		identity, err := newIdentity(secretOf(firstDead+i), s.key)
		if err != nil {
			return "", err
		}
		record, err := twin.NewRecord(uint32(firstDead+i), identity.Account(), nobody)
		if err != nil {
			return "", err
		}
		records = append(records, record)
	}
	file := filepath.Join(p.dir, "twins.json")
	text, err := json.Marshal(records)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", err
	}
	if address, err = p.address(); err != nil {
		return "", err
	}
	if p.registry, err = p.start("registry", p.program, "registry", "--file", file, "--listen", address); err != nil {
		return "", err
	}
	return address, p.registry.awaitSaid(ctx, "serving")
}

// secretOf makes up the key of a twin, in the form that is derived fastest.
func secretOf(id int) string { return fmt.Sprintf("0x%064x", id) }

func newIdentity(secret, keyType string) (*twin.Identity, error) {
	kt, err := twin.ParseKeyType(keyType)
	if err != nil {
		return nil, err
	}
	return twin.NewIdentity(secret, kt)
}

// startFront puts a front before a relay and returns where that is.
func (p *pair) startFront(relayAt string) (string, error) {
	at, err := p.address()
	if err != nil {
		return "", err
	}
	f, err := newFront(at, relayAt)
	if err != nil {
		return "", err
	}
	p.fronts = append(p.fronts, f)
	return at, nil
}

// checkVersion returns an error when messages did not go in the version that the
// setting wants: a relay that speaks version 2 with another keeps that in its Redis.
func (p *pair) checkVersion(ctx context.Context, s setting) error {
	for i := range p.relays {
		other := []int{p.asked[0], asker}[i]
		speaks2, err := p.rdb[i].Exists(ctx, fmt.Sprintf("msgbus.system.peer.%d", other)).Result()
		if err != nil {
			return err
		}
		if (speaks2 == 0) != s.version1 || s.version1 && !p.fronts[i].wasGreeted() {
			return fmt.Errorf("twin %d does not speak the version of this row with twin %d", asker+i, other)
		}
	}
	return nil
}

func (p *pair) secretFile(id int) string { return filepath.Join(p.dir, fmt.Sprintf("secret-%d", id)) }

// mostWaiting is more than any row has waiting.
const mostWaiting = "10000000"

func (p *pair) startRelay(m machine, relayAt string, s setting, registryAt string) error {
	adminAt, err := p.address()
	if err != nil {
		return err
	}
	relay, err := p.start(fmt.Sprintf("relay-%d-%d", m.twin, len(p.relays)), p.program,
		"--substrate", "http://"+registryAt, "--twin", strconv.Itoa(m.twin), "--mnemonics-file", p.secretFile(m.twin), "--key-type", s.key,
		"--redis", m.redisAt, "--listen", relayAt, "--admin-listen", adminAt, "--max-backlog", mostWaiting,
		"--allow-network", "127.0.0.0/8", "--allow-port", "1-65535", "--log-level", "info")
	p.relays = append(p.relays, relay)
	return err
}

// stop ends everything, the latest first.
func (p *pair) stop() {
	for _, one := range slices.Backward(p.all) {
		one.stop()
	}
	for _, f := range p.fronts {
		f.stop()
	}
	for _, rdb := range p.rdb {
		_ = rdb.Close()
	}
	for _, release := range p.reserved {
		release()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}
