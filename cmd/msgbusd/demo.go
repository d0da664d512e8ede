package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/twin"
)

// The twins of the demo. Their secrets are substrate's public development keys.
const (
	demoAsker, demoAskerKey     = 1001, "//Alice"
	demoService, demoServiceKey = 1002, "//Bob"
)

func demoCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "run two twins on this machine and carry a message between them",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "once", Usage: "end after the first round trip"},
			&cli.StringFlag{Name: "log-level", Value: "warn", Usage: "`LEVEL` of what the relays log"},
		},
		Action: func(c *cli.Context) error {
			log, err := newLog(s.err, c.String("log-level"), "console")
			if err != nil {
				return err
			}
			return demo(c.Context, s.out, log, c.Bool("once"))
		},
	}
}

// A site is one twin's machine: a Redis of its own and a relay.
type site struct {
	id     uint32
	secret string
	redis  *miniredis.Miniredis
	rdb    *redis.Client
	daemon *daemonProcess
}

func (s *site) url() string       { return s.daemon.public.Addr().String() }
func (s *site) redisPort() string { return s.redis.Port() }

// demo runs a registry, two sites and an echo service, shows one round trip,
// and stays until ctx ends.
func demo(ctx context.Context, out io.Writer, log zerolog.Logger, once bool) error {
	registry, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	asker, err := newSite(demoAsker, demoAskerKey, "http://"+registry.Addr().String(), log)
	if err != nil {
		return errors.Join(err, registry.Close())
	}
	defer asker.close()
	service, err := newSite(demoService, demoServiceKey, "http://"+registry.Addr().String(), log)
	if err != nil {
		return errors.Join(err, registry.Close())
	}
	defer service.close()
	records, err := recordsOf(asker, service)
	if err != nil {
		return errors.Join(err, registry.Close())
	}

	// Until all is told, the sites outlive the interrupt: they drain.
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveHTTP(ctx, registry, records, log) })
	for _, at := range []*site{asker, service} {
		group.Go(func() error { return at.daemon.run(ctx) })
		group.Go(func() error { return passTime(ctx, at.redis) })
	}
	told := make(chan string, 2)
	group.Go(func() error { return echo(ctx, service, asker, told) })
	group.Go(func() error {
		if err := roundTrip(ctx, out, asker, service, told); err != nil {
			return err
		}
		if once {
			return errDemoOver
		}
		fmt.Fprint(out, thingsToTry(asker, service))
		<-ctx.Done()
		fmt.Fprintln(out, "\nStopping.")
		return nil
	})
	if err := group.Wait(); err != nil && !errors.Is(err, errDemoOver) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

var errDemoOver = errors.New("the demo is over")

func newSite(id uint32, secret, registry string, log zerolog.Logger) (*site, error) {
	identity, err := twin.NewIdentity(secret, twin.SR25519)
	if err != nil {
		return nil, err
	}
	server, err := miniredis.Run()
	if err != nil {
		return nil, err
	}
	settings := &settings{
		identity: identity, substrate: []string{registry}, twin: id,
		redis:  &redis.Options{Addr: server.Addr()},
		prefix: "msgbus", listen: "127.0.0.1:0", adminListen: "127.0.0.1:0", peerPort: 8051,
		instance: fmt.Sprintf("demo-%d", id), workers: 1000, maxExp: 7 * 24 * time.Hour, maxBody: 4 << 20, drain: 10 * time.Second,
		expose: []string{"*"}, allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	daemon, err := newDaemon(settings, log.With().Uint32("relay", id).Logger())
	if err != nil {
		server.Close()
		return nil, err
	}
	return &site{
		id: id, secret: secret, redis: server, daemon: daemon,
		rdb: redis.NewClient(&redis.Options{Addr: server.Addr(), DialerRetries: 1, MaxRetries: -1, ContextTimeoutEnabled: true}),
	}, nil
}

func (s *site) close() {
	_ = s.rdb.Close()
	s.redis.Close()
}

func recordsOf(sites ...*site) (*twin.Registry, error) {
	var records []twin.Record
	for _, s := range sites {
		rec, err := twin.NewRecord(s.id, s.daemon.settings.identity.Account(), s.url())
		if err != nil {
			return nil, err
		}
		records = append(records, rec)
	}
	return twin.NewRegistryFromRecords(records)
}

// passTime ends what has a time to live: the embedded Redis does not on its own.
func passTime(ctx context.Context, server *miniredis.Miniredis) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			server.FastForward(time.Second)
		}
	}
}

// echo serves the command echo at one site. Of the first request it tells what
// waits in the asker's backlog meanwhile, what it got and what it answers.
func echo(ctx context.Context, at, asker *site, told chan<- string) error {
	for first := true; ; first = false {
		raw, err := pop(ctx, at.rdb, "msgbus.echo")
		if err != nil {
			return nil // the demo is over
		}
		m, err := msgbus.Decode(raw)
		if err != nil {
			continue
		}
		reply := m.Clone()
		reply.Source, reply.Destinations, reply.Now = at.id, []uint32{m.Source}, time.Now().Unix()
		answer := reply.AppendWire(nil)
		if first {
			entry, err := asker.rdb.HGet(ctx, "msgbus.system.backlog", m.UID).Result()
			if err != nil {
				return fmt.Errorf("look into the backlog: %w", err)
			}
			told <- entry
			told <- string(raw)
			told <- string(answer)
		}
		if err := at.rdb.RPush(ctx, m.ReturnQueue, answer).Err(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// roundTrip sends one request and prints the message at each station.
func roundTrip(ctx context.Context, out io.Writer, asker, service *site, told <-chan string) error {
	m := msgbus.Message{
		Version: msgbus.Version, Command: "echo", Expiration: 60, Retry: 3,
		Data:         base64.StdEncoding.EncodeToString([]byte("hello from 1001")),
		Destinations: []uint32{service.id}, ReturnQueue: "demo-reply", Now: time.Now().Unix(),
	}
	start := time.Now()
	request := m.AppendWire(nil)
	if err := asker.rdb.RPush(ctx, "msgbus.system.local", request).Err(); err != nil {
		return err
	}
	fmt.Fprintf(out, "Two twins on this machine:\n")
	for _, s := range []*site{asker, service} {
		fmt.Fprintf(out, "  twin %d   relay %s   Redis 127.0.0.1:%s\n", s.id, s.url(), s.redisPort())
	}
	station := func(n int, where, text string) { fmt.Fprintf(out, "\n%d. %s\n   %s\n", n, where, text) }
	station(1, "an app of 1001 pushes a request to its own Redis: RPUSH msgbus.system.local", string(request))
	for i, where := range []string{
		"the relay of 1001 gives it a uid and keeps it: HGET msgbus.system.backlog",
		"the relay of 1002 took it over signed HTTP, and a service of 1002 takes it: BLPOP msgbus.echo",
		"the service answers to its own Redis: RPUSH msgbus.system.reply",
	} {
		select {
		case text := <-told:
			station(i+2, where, text)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	reply, err := pop(ctx, asker.rdb, "demo-reply")
	if err != nil {
		return err
	}
	station(5, "the answer is back where the app of 1001 wanted it: BLPOP demo-reply", string(reply))
	answer, err := msgbus.Decode(reply)
	if err != nil {
		return err
	}
	data, err := base64.StdEncoding.DecodeString(answer.Data)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe reply says %q; the round trip took %s.\n", data, time.Since(start).Round(100*time.Microsecond))
	return nil
}

// thingsToTry are shell lines that work as printed while the demo runs.
func thingsToTry(asker, service *site) string {
	self := os.Args[0]
	return fmt.Sprintf(`
Three things to try from another shell:

  # with nothing but Redis
  redis-cli -p %[1]s RPUSH msgbus.system.local '{"ver":1,"uid":"","cmd":"echo","exp":60,"try":3,"dat":"aGVsbG8=","src":0,"dst":[%[2]d],"ret":"try-redis","shm":"","now":0,"err":""}' && redis-cli -p %[1]s BLPOP try-redis 10

  # with nothing but HTTP
  queue=$(%[3]s sign --mnemonics %[4]s --src %[5]d --dst %[2]d echo hello | curl -s --data-binary @- http://%[6]s/zbus-cmd) && curl -s "http://%[6]s/zbus-result?wait=10s" -d "$queue"

  # with msgbusd itself
  %[3]s call --redis 127.0.0.1:%[1]s --dst %[2]d echo hello

Ctrl-C ends the demo.
`, asker.redisPort(), service.id, self, asker.secret, asker.id, service.url())
}
