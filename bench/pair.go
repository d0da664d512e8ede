package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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
type pair struct {
	program  string
	dir      string
	registry *process
	redis    [2]*process
	rdb      [2]*redis.Client
	relays   [2]*process
	services *process
	fronts   []*front
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
	var relayAt, redisAt [2]string
	for i := range 2 {
		if relayAt[i], err = p.address(); err != nil {
			return p, err
		}
		if redisAt[i], err = p.address(); err != nil {
			return p, err
		}
		if err = p.startRedis(i, redisAt[i], s); err != nil {
			return p, err
		}
	}
	at := relayAt
	if s.version1 {
		if at, err = p.startFronts(relayAt); err != nil {
			return p, err
		}
	}
	registryAt, err := p.startRegistry(ctx, s, at)
	if err != nil {
		return p, err
	}
	for i, id := range []int{asker, service} {
		if err = p.startRelay(i, id, s, registryAt, relayAt[i], redisAt[i]); err != nil {
			return p, err
		}
	}
	for _, server := range p.redis {
		if err = server.awaitSaid(ctx, "Ready to accept connections"); err != nil {
			return p, err
		}
	}
	for _, relay := range p.relays {
		if err = relay.awaitSaid(ctx, "serving"); err != nil {
			return p, err
		}
	}
	p.services, err = p.start("services", p.program, "bench", "--serve", "--apps", string(s.apps), "--outstanding", "16", "--redis", redisAt[1])
	if err != nil {
		return p, err
	}
	return p, p.services.awaitSaid(ctx, "serving")
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

func (p *pair) startRedis(i int, address string, s setting) (err error) {
	_, port, _ := strings.Cut(address, ":")
	name := fmt.Sprintf("redis-%d", i)
	args := []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", p.dir, "--appendonly", "no"}
	if s.fsync != "" {
		args = append(args, "--appendonly", "yes", "--appendfsync", s.fsync, "--appenddirname", name)
	}
	p.rdb[i] = redis.NewClient(&redis.Options{Addr: address})
	p.redis[i], err = p.start(name, "redis-server", args...)
	return err
}

// startRegistry tells where each twin is, once it has the keys of those that run.
func (p *pair) startRegistry(ctx context.Context, s setting, at [2]string) (address string, err error) {
	var records []twin.Record
	add := func(id int, account, address string) error {
		record, err := twin.NewRecord(uint32(id), account, address)
		records = append(records, record)
		return err
	}
	for i, secret := range []string{askerSecret, serviceSecret} {
		identity, err := newIdentity(secret, s.key)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(p.secretFile(i), []byte(secret+"\n"), 0o600); err != nil {
			return "", err
		}
		if err := add(asker+i, identity.Account(), at[i]); err != nil {
			return "", err
		}
	}
	nobody, err := p.address()
	if err != nil {
		return "", err
	}
	for i := range s.dead {
		if err := add(firstDead+i, records[1].Account, nobody); err != nil {
			return "", err
		}
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

func newIdentity(secret, keyType string) (*twin.Identity, error) {
	kt, err := twin.ParseKeyType(keyType)
	if err != nil {
		return nil, err
	}
	return twin.NewIdentity(secret, kt)
}

// startFronts puts a front before each relay and returns where they are.
func (p *pair) startFronts(relayAt [2]string) (at [2]string, err error) {
	for i := range relayAt {
		if at[i], err = p.address(); err != nil {
			return at, err
		}
		f, err := newFront(at[i], relayAt[i])
		if err != nil {
			return at, err
		}
		p.fronts = append(p.fronts, f)
	}
	return at, nil
}

// checkVersion returns an error when messages did not go in the version that the
// setting wants: a relay that speaks version 2 with another keeps that in its Redis.
func (p *pair) checkVersion(ctx context.Context, s setting) error {
	for i, other := range []int{service, asker} {
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

func (p *pair) secretFile(i int) string { return filepath.Join(p.dir, fmt.Sprintf("secret-%d", i)) }

func (p *pair) startRelay(i, id int, s setting, registryAt, relayAt, redisAt string) (err error) {
	adminAt, err := p.address()
	if err != nil {
		return err
	}
	p.relays[i], err = p.start(fmt.Sprintf("relay-%d", id), p.program,
		"--substrate", "http://"+registryAt, "--twin", strconv.Itoa(id), "--mnemonics-file", p.secretFile(i), "--key-type", s.key,
		"--redis", redisAt, "--listen", relayAt, "--admin-listen", adminAt,
		"--allow-network", "127.0.0.0/8", "--allow-port", "1-65535", "--log-level", "info")
	return err
}

// stop ends everything, the latest first.
func (p *pair) stop() {
	for i := len(p.all) - 1; i >= 0; i-- {
		p.all[i].stop()
	}
	for _, f := range p.fronts {
		f.stop()
	}
	for _, rdb := range p.rdb {
		if rdb != nil {
			_ = rdb.Close()
		}
	}
	for _, release := range p.reserved {
		release()
	}
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
}

// A result is what msgbusd bench --json prints, as far as it is needed here.
type result struct {
	RoundTrips float64 `json:"round_trips_per_second"`
	Answered   int64   `json:"answered"`
	Latency    struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency_ms"`
}

// ask runs apps at the asker's Redis.
func (p *pair) ask(ctx context.Context, l setting, duration time.Duration) (result, time.Duration, error) {
	cmd := exec.CommandContext(ctx, p.program, "bench", "--json", "--redis", p.rdb[0].Options().Addr, "--dst", strconv.Itoa(service),
		"--apps", string(l.apps), "--outstanding", strconv.Itoa(l.outstanding), "--size", strconv.Itoa(l.size), "--duration", duration.String())
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr = endsWithParent()
	var r result
	if err := cmd.Run(); err != nil {
		return r, 0, fmt.Errorf("apps: %w: %s%s", err, out.Bytes(), said.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, 0, fmt.Errorf("read what apps say: %w", err)
	}
	return r, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// askDead has ten requests wait for each twin that is not there.
func (p *pair) askDead(ctx context.Context, dead int) error {
	requests := make([]any, 0, dead)
	for i := range dead {
		requests = append(requests, fmt.Sprintf(`{"ver":1,"cmd":"bench","exp":600,"try":1000,"dat":"","dst":[%d],"ret":"bench-dead","now":0}`, firstDead+i))
	}
	for range 10 {
		if err := p.rdb[0].RPush(ctx, "msgbus.system.local", requests...).Err(); err != nil {
			return fmt.Errorf("ask twins that are not there: %w", err)
		}
	}
	return nil
}

// commands returns how many commands both Redis servers have handled.
func (p *pair) commands(ctx context.Context) (sum float64, err error) {
	for _, rdb := range p.rdb {
		info, err := rdb.InfoMap(ctx, "stats").Result()
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseFloat(info["Stats"]["total_commands_processed"], 64)
		if err != nil {
			return 0, errors.New("redis does not tell how many commands it has handled")
		}
		sum += n
	}
	return sum, nil
}
