package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// callLife is how long a call of a fail-over row may take: longer than a fail-over, and
// short enough to see each of them end.
const callLife = 15 * time.Second

// Asked is what apps of one site asked a service of another one, through the client
// library, and how each ended.
type asked struct {
	row *row

	mu      sync.Mutex
	served  map[string]int // how often a service began with a request; guarded by mu
	ends    map[string]int // of calls, by how they ended; guarded by mu
	begun   int            // guarded by mu
	ended   int            // guarded by mu
	since   time.Time      // the latest call that was answered began then; guarded by mu
	changed chan struct{}  // closed and made anew at each answer; guarded by mu
}

// run asks so many times a second, until stop is called, which waits for all calls to end.
func (c *asked) run(from *client.Client, to uint32, rate int) (stop func()) {
	ctx, cancel := context.WithCancel(c.row.Context())
	var asking, all sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			all.Go(func() { c.ask(from, to, fmt.Sprint(n)) })
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		asking.Wait()
		all.Wait()
	})
}

func (c *asked) ask(from *client.Client, to uint32, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.row.Context()), callLife)
	defer cancel()
	began := time.Now()
	c.mu.Lock()
	c.begun++
	c.mu.Unlock()
	err := from.Call(ctx, to, "work", id, nil)
	var answered *client.Error
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended++
	switch {
	case err == nil:
		c.ends["answered"]++
		if began.After(c.since) {
			c.since = began
		}
		close(c.changed)
		c.changed = make(chan struct{})
	case strings.HasPrefix(err.Error(), "push request"):
		c.ends["not taken"]++ // the app is told at once
	case errors.As(err, &answered):
		c.ends["an error of the bus"]++
		c.row.Logf("call %s ended after %s: %v", id, time.Since(began).Round(time.Millisecond), err)
	default:
		c.ends["lost"]++
	}
}

func (c *asked) serve(ctx context.Context, id string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served[id]++
	return id, nil
}

// repeated is how many requests a service was given more than once.
func (c *asked) repeated() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.served {
		if times > 1 {
			n++
		}
	}
	return n
}

// awaitAnswer waits for the answer to a call that began after a time, and returns how
// long after it that came.
func (c *asked) awaitAnswer(after time.Time) time.Duration {
	c.row.Helper()
	over := time.NewTimer(fleettest.Patience)
	defer over.Stop()
	for {
		c.mu.Lock()
		done, changed := c.since.After(after), c.changed
		c.mu.Unlock()
		if done {
			return time.Since(after)
		}
		select {
		case <-changed:
		case <-over.C:
			c.row.Fatalf("no app is answered for %s", fleettest.Patience)
		}
	}
}

// onGroup makes a site whose Redis is the master of a group.
func onGroup(f *fleettest.Fleet, id uint32, g *redistest.Group, prefix string) *fleettest.Site {
	s := f.SiteOn(id, g.Servers[0])
	s.Without("--redis")
	s.Prefix = prefix
	s.Args = append(s.Args, "--redis", g.URL(), "--redis-prefix", prefix)
	return s
}

// The master's machine dies, or it is cut off and comes back without knowing that it is
// the master no more. Operators see both relays and their apps go on with the new master
// within seconds, and nobody restarts anything; what is lost are the last moments that
// no replica had.
func TestFailOverOfSentinels(t *testing.T) {
	r := begin(t, 10, "Sentinel fail-over: the master is killed; it hangs and comes back")
	g := redistest.StartGroup(r, redistest.Passwords{Servers: "of-servers", Sentinels: "of-sentinels"}, redistest.Arg("--min-replicas-to-write", "1"))
	f := fleettest.New(r)
	a, b := onGroup(f, 1001, g, "a"), onGroup(f, 1002, g, "b")
	a.Launch()
	b.Launch()
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()

	wantToldOfLoss(r, g)

	ledger := &asked{row: r, served: make(map[string]int), ends: make(map[string]int), changed: make(chan struct{})}
	server := client.NewServer(openOn(r, g, "b"), client.ServerOptions{})
	client.Handle(server, "work", ledger.serve)
	serving, stopServing := context.WithCancel(context.WithoutCancel(r.Context()))
	served := make(chan error, 1)
	go func() { served <- server.Run(serving) }()
	stop := ledger.run(openOn(r, g, "a"), b.ID, r.of(50, 100))
	defer func() {
		stop()
		stopServing()
		if err := <-served; err != nil {
			r.Errorf("the service stops with %v", err)
		}
	}()
	ledger.awaitAnswer(time.Now())

	var killed, hung times
	for i := range r.of(2, 100) {
		old, err := g.Master()
		if err != nil {
			r.Fatal(err)
		}
		r.pass(r.upTo(500 * time.Millisecond))
		kill := i%2 == 0
		if kill {
			old.Kill()
		} else {
			old.Stop()
		}
		now := g.AwaitOther(old)
		took := ledger.awaitAnswer(time.Now())
		if kill {
			killed = append(killed, took)
		} else {
			hung = append(hung, took)
			old.Continue()
			wantForsaken(r, old)
		}
		r.progress("%d: %s is the master; serving after %s", i+1, now.Addr(), took.Round(time.Millisecond))
		g.Rejoin(old)
		g.AwaitWhole()
		ledger.awaitAnswer(time.Now())
	}
	stop()
	r.figure("%d calls: %d answered, %d not taken, %d ended by the bus, %d lost, %d served more than once", ledger.begun,
		ledger.ends["answered"], ledger.ends["not taken"], ledger.ends["an error of the bus"], ledger.ends["lost"], ledger.repeated())
	for what, took := range map[string]times{"killed": killed, "hung": hung} {
		r.figure("%s: serving after a median of %s", what, took.median().Round(time.Millisecond))
		r.atMost(what+": longest until serving, in s", took.worst().Seconds(), 5)
	}
	r.Log(r.said())
	if ledger.ended != ledger.begun {
		r.Errorf("%d of %d calls have not ended", ledger.begun-ledger.ended, ledger.begun)
	}
	for _, s := range []*fleettest.Site{a, b} {
		if len(s.Daemons()) != 1 || s.Daemon.HasEnded() {
			r.Errorf("the relay of %d was restarted, or has ended", s.ID)
		}
	}
}

// wantToldOfLoss wants doctor to say what the set-up can lose, and what is wrong with it.
func wantToldOfLoss(r *row, g *redistest.Group) {
	r.Helper()
	doctor := func(status int) string {
		p := fleettest.StartProcess(r, "doctor", nil, "doctor", "--redis", g.URL(), "--redis-prefix", "doctor")
		p.WantSaid("a fail-over loses what no replica had")
		p.WantExit(status)
		return p.Said()
	}
	if said := doctor(0); !strings.Contains(said, "3 of 3 sentinels answer, 3 watch") {
		r.Errorf("doctor says of a good set-up:\n%s", said)
	}
	set := func(to string) {
		if err := g.Servers[0].Client().ConfigSet(r.Context(), "min-replicas-to-write", to).Err(); err != nil {
			r.Fatal(err)
		}
	}
	set("0")
	if said := doctor(1); !strings.Contains(said, "CONFIG SET min-replicas-to-write 1") {
		r.Errorf("doctor says of a master that takes messages when it is cut off:\n%s", said)
	}
	set("1")
}

// wantForsaken wants nobody to speak to a server that was the master, but the sentinels
// and who asks.
func wantForsaken(r *row, s *redistest.Server) {
	r.Helper()
	rdb := s.Client()
	fleettest.Eventually(r, "a master of yesterday is left alone", func() error {
		clients, err := rdb.Do(r.Context(), "client", "list", "type", "normal").Text()
		if err != nil {
			return err
		}
		for line := range strings.Lines(clients) {
			if !strings.Contains(line, "name=sentinel-") && !strings.Contains(line, "cmd=client") {
				return fmt.Errorf("somebody is connected to it: %s", line)
			}
		}
		return nil
	})
}

func openOn(r *row, g *redistest.Group, prefix string) *client.Client {
	r.Helper()
	c, err := client.Open(client.Options{Redis: g.URL(), Prefix: prefix})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = c.Close() })
	return c
}
