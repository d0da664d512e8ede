package main

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/relay"
	"github.com/msgbusd/msgbusd/tracing"
	"github.com/msgbusd/msgbusd/twin"
)

// settings are what the daemon runs by.
type settings struct {
	identity    *twin.Identity
	substrate   []string
	twin        uint32 // 0: find it by account
	redis       *backlog.Address
	prefix      string
	listen      string
	adminListen string
	console     consoleSettings
	peerPort    uint16
	ports       []twin.Ports // that may be dialled
	tls         tlsFiles
	gateway     *gatewaySettings // apart: the password of Redis and a secret are in it
	instance    string
	workers     int
	maxExp      time.Duration
	maxBody     int
	bounds
	drain       time.Duration
	expose      []string
	refServices []string
	brpop       []string
	allow       []netip.Prefix
	policy      relay.Policy
	logLevel    zerolog.Level

	requireV2, requireEncryption bool
	compressFrom                 int // bytes

	traces    string // URL of the collector; "": none
	exemplars bool
}

// Format prints nothing of the settings, whatever the verb: the password of Redis is
// among them.
func (settings) Format(f fmt.State, _ rune) { fmt.Fprint(f, "settings") }

// bounds are on what is kept, so that nothing grows without end.
type bounds struct {
	maxBacklog, maxQueue, maxUnread, maxReplies, maxDead int // entries
	maxDestinations                                      int // of one request
	maxInFlight                                          int // bytes, each way
	maxTwinAtOnce, maxTwinRate, maxTwinBytes             int // of one twin: requests, messages a second, bytes a second
	maxBadSignatures                                     int // a second, of a twin and an address
}

// boundOptions are the options of bounds and the others that count something.
var boundOptions = [...]string{"workers", "max-body", "max-backlog", "max-queue", "max-unread", "max-replies", "max-dead", "max-dst", "max-in-flight", "max-twin-at-once", "max-bad-signatures"}

// rateOptions are those of which 0 means no limit.
var rateOptions = [...]string{"max-twin-rate", "max-twin-bytes"}

// settings checks what the options say.
func (o *options) settings() (*settings, error) {
	c := o.Context
	identity, err := readIdentity(c)
	if err != nil {
		return nil, err
	}
	if err := checkSettings(c); err != nil {
		return nil, err
	}
	s := &settings{
		identity:    identity,
		substrate:   c.StringSlice("substrate"),
		twin:        uint32(c.Uint("twin")),
		prefix:      c.String("redis-prefix"),
		listen:      c.String("listen"),
		adminListen: c.String("admin-listen"),
		peerPort:    uint16(c.Uint("peer-port")),
		workers:     c.Int("workers"),
		maxExp:      c.Duration("max-exp"),
		maxBody:     c.Int("max-body"),
		bounds: bounds{
			maxBacklog: c.Int("max-backlog"), maxQueue: c.Int("max-queue"), maxUnread: c.Int("max-unread"),
			maxReplies: c.Int("max-replies"), maxDead: c.Int("max-dead"),
			maxDestinations: c.Int("max-dst"), maxInFlight: c.Int("max-in-flight"),
			maxTwinAtOnce: c.Int("max-twin-at-once"), maxTwinRate: c.Int("max-twin-rate"), maxTwinBytes: c.Int("max-twin-bytes"),
			maxBadSignatures: c.Int("max-bad-signatures"),
		},
		drain:       c.Duration("drain"),
		expose:      c.StringSlice("expose"),
		refServices: c.StringSlice("ref-services"),
		brpop:       c.StringSlice("brpop"),

		requireV2: c.Bool("require-v2"), requireEncryption: c.Bool("require-encryption"), compressFrom: c.Int("compress-from"),
		exemplars: c.Bool("exemplars"),
	}
	s.requireV2 = s.requireV2 || s.requireEncryption // version 1 has none
	if s.redis, err = readRedis(c); err != nil {
		return nil, err
	}
	if s.allow, err = readNetworks(c.StringSlice("allow-network")); err != nil {
		return nil, err
	}
	if s.ports, err = readPorts(c.StringSlice("allow-port")); err != nil {
		return nil, err
	}
	s.ports = append(s.ports, twin.Ports{First: s.peerPort, Last: s.peerPort})
	if s.console, err = readConsole(c); err != nil {
		return nil, err
	}
	if s.tls, err = readTLS(c); err != nil {
		return nil, err
	}
	if s.gateway, err = readGateway(c); err != nil {
		return nil, err
	}
	if s.policy, err = readPolicy(c); err != nil {
		return nil, err
	}
	if s.traces, err = readCollector(c); err != nil {
		return nil, err
	}
	if s.instance, err = readInstance(c); err != nil {
		return nil, err
	}
	if s.logLevel, err = readLogLevel(c); err != nil {
		return nil, err
	}
	return s, nil
}

func readInstance(c *cli.Context) (string, error) {
	if name := c.String("instance"); name != "" {
		return name, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", withHint(configError("this host has no name: %w", err), "give the relay one with --instance")
	}
	return host + "/" + c.String("listen"), nil
}

// checkSettings refuses values that have the right type and make no sense.
func checkSettings(c *cli.Context) error {
	if len(c.StringSlice("substrate")) == 0 {
		return withHint(configError("no resolver of twins is named"),
			"--substrate URL names it; for a fleet of your own, msgbusd registry is one")
	}
	if id := c.Uint("twin"); id > math.MaxUint32 {
		return configError("--twin %d is no twin id", id)
	}
	if p := c.Uint("peer-port"); p == 0 || p > math.MaxUint16 {
		return configError("--peer-port %d is no port", p)
	}
	for _, option := range []string{"listen", "admin-listen"} {
		if _, _, err := net.SplitHostPort(c.String(option)); err != nil {
			return withHint(configError("--%s %q is no address to listen on", option, c.String(option)), "host:port, or :port for all addresses of this machine")
		}
	}
	for _, option := range boundOptions {
		if c.Int(option) <= 0 {
			return configError("--%s must be 1 or more", option)
		}
	}
	for _, option := range rateOptions {
		if c.Int(option) < 0 {
			return configError("--%s must be 1 or more, or 0 for no limit", option)
		}
	}
	if body, inFlight := int64(c.Int("max-body")), int64(c.Int("max-in-flight")); body > math.MaxInt64/4 || inFlight < httpapi.LeastInFlight(body) {
		return withHint(configError("--max-in-flight %d is too little for --max-body %d: the largest messages would never be taken", inFlight, body),
			"it must be three times --max-body or more: a message may be held encrypted, compressed and as it is at once")
	}
	if c.Int("compress-from") < 0 {
		return configError("--compress-from must be 0 or more")
	}
	for _, option := range []string{"max-exp", "drain"} {
		if c.Duration(option) < time.Second {
			return configError("--%s must be 1s or more", option)
		}
	}
	for _, option := range []string{"expose", "ref-services", "brpop"} {
		for _, glob := range c.StringSlice(option) {
			if _, err := path.Match(glob, ""); err != nil {
				return withHint(configError("--%s %q is no pattern", option, glob), "* and ? stand for any letters, [a-z] for one of these")
			}
		}
	}
	return nil
}

// readPolicy reads with whom the relay deals, and who may call what.
func readPolicy(c *cli.Context) (p relay.Policy, err error) {
	const hint = "one twin is 1001, a range 1000-1999"
	if p.Allow, err = relay.ParseTwins(c.StringSlice("allow-twin")); err != nil {
		return p, withHint(configError("--allow-twin: %w", err), hint)
	}
	if p.Deny, err = relay.ParseTwins(c.StringSlice("deny-twin")); err != nil {
		return p, withHint(configError("--deny-twin: %w", err), hint)
	}
	if p.Commands, err = relay.ParseCommandRules(c.StringSlice("allow-command")); err != nil {
		return p, withHint(configError("--allow-command: %w", err), "a pattern and the twins that may call what fits it: zos.*=10,11,1000-1999")
	}
	return p, nil
}

func readNetworks(texts []string) (networks []netip.Prefix, err error) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, withHint(configError("--allow-network %q is no network", text), "such as 10.0.0.0/8 or fd00::/8; one address is 10.1.2.3/32")
		}
		networks = append(networks, p)
	}
	return networks, nil
}

func readPorts(texts []string) (ports []twin.Ports, err error) {
	for _, text := range texts {
		p, err := twin.ParsePorts(text)
		if err != nil {
			return nil, withHint(configError("--allow-port %q: %w", text, err), "such as 8100 or 8000-8999")
		}
		ports = append(ports, p)
	}
	return ports, nil
}

// readCollector reads where spans go. The address may hold a password, like that of Redis.
func readCollector(c *cli.Context) (string, error) {
	base := c.String("otlp-endpoint")
	if base == "" {
		return "", nil
	}
	url, err := tracing.ParseEndpoint(base)
	if err != nil {
		return "", withHint(configError("--otlp-endpoint: %w", err), "such as http://127.0.0.1:4318, without /v1/traces")
	}
	return url, nil
}

// readRedis reads where Redis is. The address may hold a password, which the
// errors do not repeat.
func readRedis(c *cli.Context) (*backlog.Address, error) {
	named := addresses(c, "redis")
	if len(named) != 1 {
		return nil, configError("--redis names %d servers; it takes one, or sentinels", len(named))
	}
	where, err := backlog.ParseURL(named[0])
	if err != nil {
		return nil, configError("--redis: %w", err)
	}
	return where, nil
}
