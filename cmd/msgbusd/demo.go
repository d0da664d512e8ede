package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/backlog"
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
		Description: "It needs nothing: a registry, two Redis servers, two relays and an echo service run inside this one\n" +
			"process, on ports of 127.0.0.1 that happen to be free. The message is shown at each of its five\n" +
			"stations; then there are three lines to try from another shell.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "once", Usage: "end after the first round trip"},
		}, logFlags("warn")...),
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError("demo takes no arguments")
			}
			log, err := newLog(c, s.err)
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

func (s *site) address() string   { return s.daemon.public.Addr().String() }
func (s *site) redisPort() string { return s.redis.Port() }

// demo shows one round trip, and stays until ctx ends.
func demo(ctx context.Context, out io.Writer, log zerolog.Logger, once bool) error {
	d, err := newDemoWorld(log)
	if err != nil {
		return err
	}
	defer d.close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveHTTP(ctx, d.registry, d.records, log) })
	for _, at := range d.sites() {
		group.Go(func() error { return at.daemon.run(ctx) })
		group.Go(func() error { return passTime(ctx, at.redis) })
	}
	told := make(chan string, stationsTold)
	group.Go(func() error { return d.echo(ctx, told) })
	group.Go(func() error {
		if err := d.roundTrip(ctx, out, told); err != nil {
			return err
		}
		if once {
			return errDemoOver
		}
		fmt.Fprint(out, d.thingsToTry(shellWord(ownCommand())))
		<-ctx.Done()
		fmt.Fprintln(out, "\nStopping.")
		return nil
	})
	if err := group.Wait(); err != nil && !errors.Is(err, errDemoOver) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// errDemoOver ends all parts of the demo without being an error of any.
var errDemoOver = errors.New("the demo is over")

// A demoWorld is everything that a message needs, on this machine.
type demoWorld struct {
	registry net.Listener
	records  *twin.Registry
	asker    *site
	service  *site
}

func (d *demoWorld) sites() []*site { return []*site{d.asker, d.service} }

func newDemoWorld(log zerolog.Logger) (_ *demoWorld, err error) {
	d := new(demoWorld)
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.registry, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	url := "http://" + d.registry.Addr().String()
	if d.asker, err = newSite(demoAsker, demoAskerKey, url, log); err != nil {
		return nil, err
	}
	if d.service, err = newSite(demoService, demoServiceKey, url, log); err != nil {
		return nil, err
	}
	var records []twin.Record
	for _, s := range d.sites() {
		rec, err := twin.NewRecord(s.id, s.daemon.settings.identity.Account(), s.address())
		if err != nil {
			return nil, err
		}
		records = append(records, rec)
	}
	d.records, err = twin.NewRegistryFromRecords(records)
	return d, err
}

// close ends what has begun. The Redis servers are last to go: a relay that
// stops gives back what it holds.
func (d *demoWorld) close() {
	if d.registry != nil {
		_ = d.registry.Close()
	}
	for _, s := range d.sites() {
		if s != nil {
			s.close()
		}
	}
}

func newSite(id uint32, secret, registry string, log zerolog.Logger) (*site, error) {
	identity, err := twin.NewIdentity(secret, twin.SR25519)
	if err != nil {
		return nil, err
	}
	server, err := miniredis.Run()
	if err != nil {
		return nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	daemon, err := newDaemon(&settings{
		identity: identity, substrate: []string{registry}, twin: id,
		redis:  backlog.At(redis.Options{Addr: server.Addr()}),
		prefix: "msgbus", listen: "127.0.0.1:0", adminListen: "127.0.0.1:0", peerPort: 8051,
		instance: fmt.Sprintf("demo-%d", id), workers: 1000, maxExp: 7 * 24 * time.Hour, maxBody: 4 << 20, drain: 10 * time.Second,
		expose: []string{"*"}, allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, ports: []twin.Ports{{First: 1, Last: math.MaxUint16}},
	}, log.With().Uint32("relay", id).Logger())
	if err != nil {
		server.Close()
		return nil, err
	}
	return &site{id: id, secret: secret, redis: server, daemon: daemon, rdb: backlog.At(redis.Options{Addr: server.Addr()}).Connect()}, nil
}

func (s *site) close() {
	s.daemon.close()
	_ = s.rdb.Close()
	s.redis.Close()
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

// stationsTold is how many texts echo tells of the first request.
const stationsTold = 3

// echo serves the command echo. Of the first request it tells what waits in
// the asker's backlog meanwhile, what it got and what it answers.
func (d *demoWorld) echo(ctx context.Context, told chan<- string) error {
	at := d.service
	for first := true; ; first = false {
		raw, err := pop(ctx, at.rdb, "msgbus.echo")
		if err != nil {
			return nil // the demo is over
		}
		m, err := msgbus.Decode(raw)
		if err != nil {
			continue
		}
		data, err := base64.StdEncoding.DecodeString(m.Data)
		answer := replyTo(m, data, err).AppendWire(nil)
		if first {
			entry, err := d.asker.rdb.HGet(ctx, "msgbus.system.backlog", m.UID).Result()
			if err != nil {
				return fmt.Errorf("look into the backlog: %w", err)
			}
			for _, text := range [stationsTold]string{entry, string(raw), string(answer)} {
				told <- text
			}
		}
		if err := at.rdb.RPush(ctx, m.ReturnQueue, answer).Err(); err != nil && ctx.Err() == nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// roundTrip sends one request and prints the message at each station.
func (d *demoWorld) roundTrip(ctx context.Context, out io.Writer, told <-chan string) error {
	m := msgbus.Message{
		Version: msgbus.Version, Command: "echo", Expiration: 60, Retry: 3,
		Data:         base64.StdEncoding.EncodeToString([]byte("hello from 1001")),
		Destinations: []uint32{d.service.id}, ReturnQueue: "demo-reply", Now: time.Now().Unix(),
	}
	start := time.Now()
	request := m.AppendWire(nil)
	if err := d.asker.rdb.RPush(ctx, "msgbus.system.local", request).Err(); err != nil {
		return err
	}
	fmt.Fprintf(out, "Two twins on this machine:\n")
	for _, s := range d.sites() {
		fmt.Fprintf(out, "  twin %d   relay %s   Redis 127.0.0.1:%s\n", s.id, s.address(), s.redisPort())
	}
	station := func(n int, where, text string) { fmt.Fprintf(out, "\n%d. %s\n   %s\n", n, where, text) }
	station(1, "an app of 1001 pushes a request to its own Redis: RPUSH msgbus.system.local", string(request))
	for i, where := range [stationsTold]string{
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
	reply, err := pop(ctx, d.asker.rdb, "demo-reply")
	if err != nil {
		return err
	}
	took := time.Since(start)
	station(5, "the answer is back where the app of 1001 wanted it: BLPOP demo-reply", string(reply))
	answer, err := msgbus.Decode(reply)
	if err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("the reply is an error: %s", answer.Error)
	}
	data, err := base64.StdEncoding.DecodeString(answer.Data)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe reply says %q; the round trip took %s.\n", data, took.Round(100*time.Microsecond))
	return nil
}

// thingsToTry are shell lines that work as printed while the demo runs.
func (d *demoWorld) thingsToTry(msgbusd string) string {
	return fmt.Sprintf(`
Three things to try from another shell:

  # with nothing but Redis
  redis-cli -p %[1]s RPUSH msgbus.system.local '{"ver":1,"uid":"","cmd":"echo","exp":60,"try":3,"dat":"aGVsbG8=","src":0,"dst":[%[2]d],"ret":"try-redis","shm":"","now":0,"err":""}' && redis-cli -p %[1]s BLPOP try-redis 10

  # with nothing but HTTP (msgbusd sign signs the request)
  queue=$(%[3]s sign --mnemonics %[4]s --src %[5]d --dst %[2]d echo hello | curl -s --data-binary @- http://%[6]s/zbus-cmd) && curl -s "http://%[6]s/zbus-result?wait=10s" -d "$queue"

  # with msgbusd itself
  %[3]s call --redis 127.0.0.1:%[1]s --dst %[2]d echo hello

Ctrl-C ends the demo.
`, d.asker.redisPort(), d.service.id, msgbusd, d.asker.secret, d.asker.id, d.service.address())
}

// ownCommand is what calls this program from any folder: its name, where PATH
// leads to it, and else its whole path.
func ownCommand() string {
	self, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	name := filepath.Base(self)
	if found, err := exec.LookPath(name); err == nil {
		if found, err = filepath.EvalSymlinks(found); err == nil && found == self {
			return name
		}
	}
	return self
}

// shellWord quotes what a shell would take apart.
func shellWord(word string) string {
	if strings.ContainsFunc(word, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-+:@", r)
	}) {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}
