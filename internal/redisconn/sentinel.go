package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// askedFor is how long a sentinel, and a connection to the master, are waited for.
	askedFor = time.Second
	// hearOut is how long the other sentinels have when one has answered: one that was
	// cut off may name a master of yesterday.
	hearOut = 100 * time.Millisecond
	// watchEvery is how often the sentinels are asked whether the master is another one.
	watchEvery = 500 * time.Millisecond
)

// sentinels know which server is the master. Each connection asks them anew, all at once,
// and believes the one that knows of the latest fail-over. While there are connections
// they are asked all the time, and connections to what is the master no more are closed,
// also those in use: a server that hangs, or that woke up and has not been told yet,
// would be written to otherwise.
//
// go-redis has a client of its own for this. It asks one sentinel for as long as that
// answers, or hangs, takes any server that it names, and leaves subscriptions where they
// are.
type sentinels struct {
	name    string          // of the master
	options []redis.Options // of each sentinel
	tls     *tls.Config     // of the data servers; nil: none

	mu      sync.Mutex
	users   int                // connections, those under way too; guarded by mu
	clients []*redis.Client    // one of each sentinel, while there are users; guarded by mu
	stop    context.CancelFunc // of the watch; guarded by mu
	conns   map[*conn]struct{} // guarded by mu
}

// A conn is a connection to a data server.
type conn struct {
	*net.TCPConn
	master string // that it was made to
	closed sync.Once
	of     *sentinels
}

func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.closed.Do(func() {
		c.of.mu.Lock()
		delete(c.of.conns, c)
		c.of.mu.Unlock()
		c.of.release()
	})
	return err
}

// dial connects to the master.
func (s *sentinels) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	clients := s.hold()
	c, err := s.dialMaster(ctx, clients)
	if err != nil {
		s.release()
		return nil, err
	}
	if s.tls == nil {
		return c, nil
	}
	config := s.tls.Clone()
	config.ServerName, _, _ = net.SplitHostPort(c.master)
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = secure.Close()
		return nil, fmt.Errorf("master %s: %w", c.master, err)
	}
	return secure, nil
}

func (s *sentinels) dialMaster(ctx context.Context, clients []*redis.Client) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askedFor)
	defer cancel()
	master, err := s.master(ctx, clients)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: askedFor}
	raw, err := dialer.DialContext(ctx, "tcp", master)
	if err != nil {
		return nil, fmt.Errorf("master %s: %w", s.name, err)
	}
	c := &conn{TCPConn: raw.(*net.TCPConn), master: master, of: s}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	return c, nil
}

// onlyMaster refuses a server that is no master: it may not have been told yet that it is
// to be one, or have been told already that it is none any more. Who may not ask finds
// out when it writes.
func onlyMaster(ctx context.Context, c *redis.Conn) error {
	role, err := c.Do(ctx, "role").Slice()
	switch {
	case redis.HasErrorPrefix(err, "NOPERM"):
		return nil
	case err != nil:
		return err
	case len(role) == 0 || role[0] != "master":
		return errors.New("the server that the sentinels name is not a master now")
	}
	return nil
}

// hold keeps the sentinels' clients open until release.
func (s *sentinels) hold() []*redis.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users++
	if s.users == 1 {
		s.clients = s.connect()
		ctx, stop := context.WithCancel(context.Background())
		s.stop = stop
		go s.watch(ctx, s.clients)
	}
	return s.clients
}

func (s *sentinels) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	s.stop()
	for _, c := range s.clients {
		_ = c.Close()
	}
	s.clients = nil
}

func (s *sentinels) connect() []*redis.Client {
	clients := make([]*redis.Client, len(s.options))
	for i, opts := range s.options {
		opts = tune(opts)
		opts.PoolSize = 4
		opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout = askedFor, askedFor, askedFor
		clients[i] = connect(opts)
	}
	return clients
}

// watch closes connections to what is the master no more, until ctx ends.
func (s *sentinels) watch(ctx context.Context, clients []*redis.Client) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked, cancel := context.WithTimeout(ctx, askedFor)
		master, err := s.master(asked, clients)
		cancel()
		if err != nil && !errors.Is(err, errDown) {
			continue // nobody says that it is another one
		}
		s.mu.Lock()
		var stale []*conn
		for c := range s.conns {
			if c.master != master {
				stale = append(stale, c)
			}
		}
		s.mu.Unlock()
		for _, c := range stale {
			_ = c.Close()
		}
	}
}

// errDown says that the sentinels have agreed on it.
var errDown = errors.New("the sentinels say that the master is down, and have named no other yet")

// master asks where the master is.
func (s *sentinels) master(ctx context.Context, clients []*redis.Client) (string, error) {
	answers := make(chan SentinelView, len(clients))
	for i, c := range clients {
		go func() { answers <- s.ask(ctx, i, c) }()
	}
	var best *SentinelView
	var failed error // of one of them
	var enough <-chan time.Time
	for range clients {
		select {
		case a := <-answers:
			if a.Err != nil {
				failed = a.Err
			} else if best == nil || a.Epoch > best.Epoch {
				best = &a
			}
			if best != nil && enough == nil {
				timer := time.NewTimer(hearOut)
				defer timer.Stop()
				enough = timer.C
			}
			continue
		case <-enough:
		case <-ctx.Done():
			failed = ctx.Err()
		}
		break
	}
	switch {
	case best == nil:
		return "", fmt.Errorf("none of %d sentinels tells where %s is: %w", len(clients), s.name, failed)
	case best.down:
		return "", errDown
	}
	return best.Master, nil
}

// A SentinelView is what one sentinel tells of the master.
type SentinelView struct {
	Address   string        // of the sentinel, as it was given
	Err       error         // it does not tell
	Master    string        // host:port
	Epoch     int64         // of the latest fail-over that it knows of
	Quorum    int           // sentinels that must find the master down
	Sentinels int           // that watch it, with this one
	Replicas  int           // of the master
	DownAfter time.Duration // of silence, the master is taken for down

	down bool
}

func (s *sentinels) ask(ctx context.Context, i int, c *redis.Client) SentinelView {
	v := SentinelView{Address: s.options[i].Addr}
	cmd := redis.NewMapStringStringCmd(ctx, "sentinel", "master", s.name)
	_ = c.Process(ctx, cmd)
	told, err := cmd.Result()
	if err != nil {
		v.Err = fmt.Errorf("sentinel %s: %w", v.Address, err)
		return v
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(told[name])
		return n
	}
	v.Master = net.JoinHostPort(told["ip"], told["port"])
	v.Epoch = int64(number("config-epoch"))
	v.Quorum, v.Sentinels, v.Replicas = number("quorum"), number("num-other-sentinels")+1, number("num-slaves")
	v.DownAfter = time.Duration(number("down-after-milliseconds")) * time.Millisecond
	v.down = strings.Contains(told["flags"], "o_down")
	return v
}

// Sentinels asks each sentinel of the address for what it knows; none without sentinels.
func (a *Address) Sentinels(ctx context.Context) []SentinelView {
	if a.sentinels == nil {
		return nil
	}
	clients := a.sentinels.hold()
	defer a.sentinels.release()
	views := make([]SentinelView, len(clients))
	var asking sync.WaitGroup
	for i, c := range clients {
		asking.Go(func() { views[i] = a.sentinels.ask(ctx, i, c) })
	}
	asking.Wait()
	return views
}
