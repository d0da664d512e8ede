package redistest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// MasterName is what the sentinels of a [Group] call their master.
const MasterName = "mymaster"

// A Group is a master, its two replicas, and three sentinels that watch them.
type Group struct {
	Servers   []*Server
	Sentinels []*Server

	t         testing.TB
	password  string // of the servers
	sentinels string // password of the sentinels
}

// Passwords are those of a group's servers and of its sentinels; "" for none.
type Passwords struct{ Servers, Sentinels string }

// StartGroup starts a group and returns when a fail-over would succeed. options are
// those of each data server; a master that is silent for half a second is taken for down.
func StartGroup(t testing.TB, passwords Passwords, options ...Option) *Group {
	t.Helper()
	g := &Group{t: t, password: passwords.Servers, sentinels: passwords.Sentinels}
	if g.password != "" {
		options = append(options, Password(g.password), Arg("--masterauth", g.password))
	}
	options = append(options, Arg("--repl-diskless-sync-delay", "0"))
	for range 3 {
		server := options
		if len(g.Servers) > 0 {
			server = append(slices.Clone(options), func(s *Server) { s.follow(g.Servers[0]) })
		}
		g.Servers = append(g.Servers, Start(t, server...))
	}
	g.await("replicas", func() error { return g.attached(g.Servers[0]) })
	for range 3 {
		g.Sentinels = append(g.Sentinels, g.startSentinel())
	}
	g.AwaitWhole()
	return g
}

func (g *Group) startSentinel() *Server {
	g.t.Helper()
	lines := []string{
		fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2", MasterName, g.Servers[0].Port()),
		"sentinel down-after-milliseconds " + MasterName + " 500",
		"sentinel failover-timeout " + MasterName + " 2000",
	}
	if g.password != "" {
		lines = append(lines, "sentinel auth-pass "+MasterName+" "+g.password)
	}
	if g.sentinels != "" {
		lines = append(lines, "requirepass "+g.sentinels, "sentinel sentinel-pass "+g.sentinels)
	}
	file := filepath.Join(g.t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return Start(g.t, func(s *Server) { s.config, s.password = file, g.sentinels })
}

// URL is the sentinel:// URL of the group.
func (g *Group) URL() string {
	var hosts []string
	for _, s := range g.Sentinels {
		hosts = append(hosts, s.Addr())
	}
	u := "sentinel://"
	if g.password != "" {
		u += url.UserPassword("", g.password).String() + "@"
	}
	u += strings.Join(hosts, ",") + "/" + MasterName
	if g.sentinels != "" {
		u += "?sentinel_password=" + url.QueryEscape(g.sentinels)
	}
	return u
}

// Master is the server that most sentinels name.
func (g *Group) Master() (*Server, error) {
	votes := make(map[string]int)
	for _, s := range g.Sentinels {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond) // one may hang
		c := redis.NewSentinelClient(clientOptions(s.Addr(), s.password))
		addr, err := c.GetMasterAddrByName(ctx, MasterName).Result()
		_ = c.Close()
		cancel()
		if err == nil && len(addr) == 2 {
			votes[addr[1]]++
		}
	}
	for _, s := range g.Servers {
		if votes[strconv.Itoa(s.Port())] >= 2 {
			return s, nil
		}
	}
	return nil, fmt.Errorf("the sentinels do not agree: %v", votes)
}

// AwaitOther waits until most sentinels name another master than this one, and until
// that is one. Time begins there for those who want to use it.
func (g *Group) AwaitOther(than *Server) (now *Server) {
	g.t.Helper()
	g.await("another master", func() (err error) {
		if now, err = g.Master(); err == nil && now == than {
			err = fmt.Errorf("the master is still %s", than.Addr())
		}
		if err == nil {
			_, err = g.role(now, "master")
		}
		return err
	})
	return now
}

// Rejoin has a server follow the master: one that was killed is started anew, one that
// was stopped goes on.
func (g *Group) Rejoin(s *Server) {
	g.t.Helper()
	master, err := g.Master()
	if err != nil {
		g.t.Fatal(err)
	}
	select {
	case <-s.proc.Done():
		s.follow(master)
		s.Restart()
	default:
		s.Continue()
		c := redis.NewClient(clientOptions(s.Addr(), s.password))
		defer func() { _ = c.Close() }()
		if err := c.ReplicaOf(context.Background(), "127.0.0.1", strconv.Itoa(master.Port())).Err(); err != nil {
			g.t.Fatal(err)
		}
	}
}

// follow makes the next start of s that of a replica.
func (s *Server) follow(master *Server) {
	if i := slices.Index(s.args, "--replicaof"); i >= 0 {
		s.args = slices.Delete(slices.Clone(s.args), i, i+3)
	}
	s.args = append(s.args, "--replicaof", "127.0.0.1", strconv.Itoa(master.Port()))
}

// AwaitWhole waits until a fail-over would succeed: each sentinel knows the two others and
// two replicas that are there.
func (g *Group) AwaitWhole() {
	g.t.Helper()
	g.await("the group", func() error {
		master, err := g.Master()
		if err != nil {
			return err
		}
		if err := g.attached(master); err != nil {
			return err
		}
		for _, s := range g.Sentinels {
			if err := g.isReady(s); err != nil {
				return err
			}
		}
		return nil
	})
}

func (g *Group) isReady(sentinel *Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c := redis.NewSentinelClient(clientOptions(sentinel.Addr(), sentinel.password))
	defer func() { _ = c.Close() }()
	if err := c.CkQuorum(ctx, MasterName).Err(); err != nil {
		return err
	}
	master, err := c.Master(ctx, MasterName).Result()
	if err != nil {
		return err
	}
	replicas, err := c.Replicas(ctx, MasterName).Result()
	if err != nil {
		return err
	}
	there, linked := 0, 0 // it looks at links every 10 s only
	for _, r := range replicas {
		if r["flags"] == "slave" {
			there++
		}
		if r["flags"] == "slave" && r["master-link-status"] == "ok" {
			linked++
		}
	}
	if master["flags"] != "master" || master["num-other-sentinels"] != "2" || there < 2 || linked < 1 {
		return fmt.Errorf("sentinel %s knows %s others and %d replicas, %d with a link; the master is %q", sentinel.Addr(), master["num-other-sentinels"], there, linked, master["flags"])
	}
	return nil
}

// attached wants a master whose replicas have all its data.
func (g *Group) attached(master *Server) error {
	role, err := g.role(master, "master")
	if err == nil && len(role) == 3 {
		if replicas, _ := role[2].([]any); len(replicas) < len(g.Servers)-1 {
			err = fmt.Errorf("the master has %d replicas", len(replicas))
		}
	}
	return err
}

func (g *Group) role(s *Server, want string) ([]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c := redis.NewClient(clientOptions(s.Addr(), s.password))
	defer func() { _ = c.Close() }()
	role, err := c.Do(ctx, "role").Slice()
	if err == nil && (len(role) == 0 || role[0] != want) {
		err = fmt.Errorf("%s says that it is %v", s.Addr(), role)
	}
	return role, err
}

func (g *Group) await(what string, ok func() error) {
	g.t.Helper()
	over := time.NewTimer(startTimeout)
	defer over.Stop()
	tick := time.NewTicker(4 * pollEvery)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-over.C:
			g.t.Fatalf("redistest: %s: not within %v: %v", what, startTimeout, err)
		}
	}
}
