package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/gateway"
	"github.com/msgbusd/msgbusd/httpapi"
)

// gatewayFlags are those of what browsers connect to.
func gatewayFlags() []cli.Flag {
	bound := func(name string, value int, usage string) cli.Flag {
		return &cli.IntFlag{Name: name, Category: groupBrowsers, EnvVars: variable(name), Value: value, Usage: usage}
	}
	return []cli.Flag{
		&cli.StringFlag{Name: "gateway-listen", Category: groupBrowsers, EnvVars: variable("gateway-listen"),
			Usage: "`ADDRESS` at which browsers get events of the bus, as server-sent events and by WebSocket (default none)"},
		&cli.StringFlag{Name: "gateway-secret-file", Category: groupBrowsers, EnvVars: variable("gateway-secret-file"),
			Usage: "`FILE` with the secret of 32 characters or more that signs browsers' tokens, which nobody but its owner may read"},
		&cli.StringSliceFlag{Name: "gateway-origin", Category: groupBrowsers, EnvVars: variable("gateway-origin"),
			Usage: "`ORIGIN` of pages that may connect, such as https://app.example.org, besides those of the gateway's own host; * is all; repeatable (default none)"},
		&cli.StringSliceFlag{Name: "gateway-from", Category: groupBrowsers, EnvVars: variable("gateway-from"),
			Usage: "`TWIN` whose events browsers get, besides those of this machine; repeatable (default none)"},
		bound("gateway-max-connections", 10_000, "`NUMBER` of browsers that may be connected at once"),
		bound("gateway-max-user", 20, "`NUMBER` of these that may be of one user"),
		bound("gateway-max-patterns", 50, "`NUMBER` of patterns of topics that one of them may have"),
		bound("gateway-max-queue", 256, "`NUMBER` of events that wait for one of them; of more, the oldest are lost, and it is told so"),
		bound("gateway-max-queue-bytes", 1<<20, "`BYTES` of these"),
		bound("gateway-max-message", 64<<10, "`BYTES` of the largest message of a browser"),
	}
}

var gatewayBounds = [...]string{
	"gateway-max-connections", "gateway-max-user", "gateway-max-patterns", "gateway-max-queue", "gateway-max-queue-bytes", "gateway-max-message",
}

// gatewaySettings are what the gateway runs by.
type gatewaySettings struct {
	listen string // "": there is none
	redis  string // its address, which may hold a password
	from   []uint32
	opts   gateway.Options
}

func readGateway(c *cli.Context) (*gatewaySettings, error) {
	s := &gatewaySettings{listen: c.String("gateway-listen"), redis: strings.Join(addresses(c, "redis"), ",")}
	for _, option := range gatewayBounds {
		if c.Int(option) <= 0 {
			return nil, configError("--%s must be 1 or more", option)
		}
	}
	for _, text := range c.StringSlice("gateway-from") {
		twin, err := strconv.ParseUint(text, 10, 32)
		if err != nil || twin == 0 {
			return nil, configError("--gateway-from %q is no twin id", text)
		}
		s.from = append(s.from, uint32(twin))
	}
	s.opts = gateway.Options{
		Origins:        c.StringSlice("gateway-origin"),
		MaxConnections: c.Int("gateway-max-connections"), MaxUser: c.Int("gateway-max-user"), MaxPatterns: c.Int("gateway-max-patterns"),
		MaxQueue: c.Int("gateway-max-queue"), MaxQueueBytes: c.Int("gateway-max-queue-bytes"), MaxMessage: c.Int("gateway-max-message"),
	}
	if err := gateway.CheckOrigins(s.opts.Origins); err != nil {
		return nil, configError("--gateway-origin: %w", err)
	}
	if s.listen == "" {
		return s, nil
	}
	if _, _, err := net.SplitHostPort(s.listen); err != nil {
		return nil, withHint(configError("--gateway-listen %q is no address to listen on", s.listen), "host:port, or :port for all addresses of this machine")
	}
	secret, err := readGatewaySecret(c, "gateway-secret-file")
	s.opts.Secret = secret
	return s, err
}

// readGatewaySecret reads what signs tokens. An app that makes its own takes the same: the
// text of the file, without the spaces and line ends around it.
func readGatewaySecret(c *cli.Context, option string) ([]byte, error) {
	name := c.String(option)
	if name == "" {
		return nil, withHint(configError("tokens need a secret, and no file is named that holds it"),
			"--%s FILE names it; (umask 077; openssl rand -hex 32 > FILE) makes one", option)
	}
	secret, err := readPrivate(name, "the file with the secret of tokens", "--"+option+" names it; it holds the secret and nothing else")
	if err != nil {
		return nil, err
	}
	if len(secret) < gateway.LeastSecret {
		return nil, withHint(configError("the secret in %s is shorter than %d characters", name, gateway.LeastSecret), "(umask 077; openssl rand -hex 32 > %s) makes a good one", name)
	}
	return []byte(secret), nil
}

// A browserSide is the gateway and what it needs.
type browserSide struct {
	gateway  *gateway.Gateway
	client   *client.Client
	listener net.Listener
}

// openGateway returns nil when no gateway is wanted. It is an app of this machine like
// others: what it knows of the bus it has from Redis.
func (d *daemonProcess) openGateway() (*browserSide, error) {
	s := d.settings.gateway
	if s == nil || s.listen == "" { // the demo has none
		return nil, nil
	}
	log := d.log.With().Str("for", "browsers").Logger()
	c, err := client.Open(client.Options{Redis: s.redis, Prefix: d.settings.prefix, Log: slog.New(zerolog.NewSlogHandler(log))})
	if err != nil {
		return nil, configError("--redis: %w", err)
	}
	opts := s.opts
	opts.Log, opts.Observer = log, d.metrics
	b := &browserSide{client: c}
	if b.gateway, err = gateway.New(opts, gateway.OnClient(c, s.from)); err != nil {
		return nil, errors.Join(configError("the gateway: %w", err), c.Close())
	}
	config := net.ListenConfig{Control: endSilent}
	if b.listener, err = config.Listen(context.Background(), "tcp", s.listen); err != nil {
		err = withHint(fmt.Errorf("listen for browsers: %w", err), "is another msgbusd running? --gateway-listen takes another address")
		return nil, errors.Join(err, c.Close())
	}
	return b, nil
}

// run serves browsers until ctx ends. The connections end first, so that nothing waits for
// them, and the client last: users' names are given back through it.
func (b *browserSide) run(ctx context.Context, tls *httpapi.TLS, log zerolog.Logger) (err error) {
	work, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { b.gateway.Run(work) })
	group.Go(func() {
		defer stop()
		err = serveHTTP(work, tls.Listener(b.listener), b.gateway.Handler(), log)
	})
	group.Wait()
	if closeErr := b.client.Close(); closeErr != nil {
		log.Debug().Err(closeErr).Msg("the gateway's client does not end well")
	}
	return err
}

// close is for one that has not run.
func (b *browserSide) close() {
	_ = b.listener.Close()
	_ = b.client.Close()
}
