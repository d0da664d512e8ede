package main

import (
	"fmt"
	"net/netip"
	"os"
	"path"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/twin"
)

// settings are what the daemon runs by.
type settings struct {
	identity    *twin.Identity
	substrate   []string
	twin        uint32 // 0: find it by account
	redis       *redis.Options
	prefix      string
	listen      string
	adminListen string
	peerPort    uint16
	instance    string
	workers     int
	maxExp      time.Duration
	maxBody     int
	drain       time.Duration
	expose      []string
	refServices []string
	brpop       []string
	allow       []netip.Prefix
}

// env names the variable of a flag: --peer-port is MSGBUSD_PEER_PORT.
func env(flag string) []string {
	return []string{"MSGBUSD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
}

// redisFlags are shared by all commands that use the local Redis.
func redisFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "redis", EnvVars: env("redis"), Value: cli.NewStringSlice("127.0.0.1:6379"),
			Usage: "`ADDRESS` of the local Redis: host:port, redis://user:password@host:port/db, rediss://… or unix:///path"},
		&cli.StringFlag{Name: "redis-prefix", EnvVars: env("redis-prefix"), Value: "msgbus",
			Usage: "first part of every key's `NAME`"},
	}
}

// secretFlags say who signs.
func secretFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "mnemonics", EnvVars: env("mnemonics"),
			Usage: "`PHRASE` or secret URI (//Alice, phrase//hard/soft) of the twin's key; ps shows it: prefer --mnemonics-file"},
		&cli.StringFlag{Name: "menmonics", Hidden: true}, // as the specification's usage line spells it
		&cli.StringFlag{Name: "mnemonics-file", EnvVars: env("mnemonics-file"),
			Usage: "`FILE` that holds the phrase, readable by its owner only"},
		&cli.StringFlag{Name: "key-type", EnvVars: env("key-type"), Value: "sr25519",
			Usage: "`TYPE` of the key: sr25519 or ed25519"},
	}
}

func daemonFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringSliceFlag{Name: "substrate", EnvVars: env("substrate"),
			Usage: "`URL` of the resolver of twins: http(s)://… or gridproxy+https://…; several are tried in turn"},
		&cli.UintFlag{Name: "twin", EnvVars: env("twin"),
			Usage: "`ID` of this twin; without it, it is looked up by the key's account"},
		&cli.StringFlag{Name: "listen", EnvVars: env("listen"), Value: ":8051",
			Usage: "`ADDRESS` for other relays and HTTP clients"},
		&cli.StringFlag{Name: "admin-listen", EnvVars: env("admin-listen"), Value: "127.0.0.1:8052",
			Usage: "`ADDRESS` for /healthz and /readyz"},
		&cli.UintFlag{Name: "peer-port", EnvVars: env("peer-port"), Value: 8051,
			Usage: "`PORT` of relays whose twin record names none"},
		&cli.StringFlag{Name: "instance", EnvVars: env("instance"),
			Usage: "`NAME` of this relay among those on the same Redis (default: host name and listen address)"},
		&cli.IntFlag{Name: "workers", EnvVars: env("workers"), Value: 1000,
			Usage: "lanes (destination twins) served at once; an idle one costs nothing"},
		&cli.DurationFlag{Name: "max-exp", EnvVars: env("max-exp"), Value: 7 * 24 * time.Hour,
			Usage: "longest life of a request: cut for local apps, refused from remote"},
		&cli.IntFlag{Name: "max-body", EnvVars: env("max-body"), Value: 4 << 20,
			Usage: "largest message in `BYTES`"},
		&cli.DurationFlag{Name: "drain", EnvVars: env("drain"), Value: 10 * time.Second,
			Usage: "longest time for what is in flight at a stop"},
		&cli.StringSliceFlag{Name: "expose", EnvVars: env("expose"), Value: cli.NewStringSlice("*"),
			Usage: "`GLOB` of commands that may be called from remote; repeatable"},
		&cli.StringSliceFlag{Name: "ref-services", EnvVars: env("ref-services"),
			Usage: "`GLOB` of commands whose services speak the dialect of rmb-rs (ref instead of uid); repeatable"},
		&cli.StringSliceFlag{Name: "brpop", EnvVars: env("brpop"),
			Usage: "`GLOB` of commands whose services read with BRPOP; repeatable"},
		&cli.StringSliceFlag{Name: "allow-network", EnvVars: env("allow-network"),
			Usage: "private, loopback or link-local `CIDR` that may be dialled; repeatable"},
		&cli.StringFlag{Name: "log-level", EnvVars: env("log-level"), Value: "info",
			Usage: "`LEVEL`: debug, info, warn, error, fatal or panic"},
		&cli.StringFlag{Name: "log-format", EnvVars: env("log-format"), Value: "console",
			Usage: "`FORMAT`: console or json"},
		&cli.StringFlag{Name: "config", EnvVars: env("config"),
			Usage: "YAML `FILE` of these settings by their names; weaker than variables and options"},
	}
	return append(append(flags, secretFlags()...), redisFlags()...)
}

// readSettings checks what the command line, the environment and the
// configuration file say.
func readSettings(c *cli.Context) (*settings, error) {
	if err := readConfigFile(c); err != nil {
		return nil, err
	}
	identity, err := readIdentity(c)
	if err != nil {
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
		instance:    c.String("instance"),
		workers:     c.Int("workers"),
		maxExp:      c.Duration("max-exp"),
		maxBody:     c.Int("max-body"),
		drain:       c.Duration("drain"),
		expose:      c.StringSlice("expose"),
		refServices: c.StringSlice("ref-services"),
		brpop:       c.StringSlice("brpop"),
	}
	if len(s.substrate) == 0 {
		return nil, withHint(configError("no resolver of twins is named"), "msgbusd --substrate https://…, or, for a fleet of your own, msgbusd registry --help")
	}
	if c.Uint("twin") > 1<<32-1 {
		return nil, configError("--twin %d is no twin id", c.Uint("twin"))
	}
	if p := c.Uint("peer-port"); p == 0 || p > 65535 {
		return nil, configError("--peer-port %d is no port", p)
	}
	for flag, n := range map[string]int64{"workers": int64(s.workers), "max-exp": int64(s.maxExp), "max-body": int64(s.maxBody), "drain": int64(s.drain)} {
		if n <= 0 {
			return nil, configError("--%s must be more than 0", flag)
		}
	}
	for _, flag := range []string{"expose", "ref-services", "brpop"} {
		for _, glob := range c.StringSlice(flag) {
			if _, err := path.Match(glob, ""); err != nil {
				return nil, configError("--%s %q is no pattern: *, ? and [a-z] have a meaning", flag, glob)
			}
		}
	}
	for _, text := range c.StringSlice("allow-network") {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, configError("--allow-network %q is no network such as 10.0.0.0/8 or fd00::/8", text)
		}
		s.allow = append(s.allow, p)
	}
	if s.redis, err = readRedis(c); err != nil {
		return nil, err
	}
	if s.instance == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, withHint(configError("this host has no name: %v", err), "give the relay one with --instance")
		}
		s.instance = host + "/" + s.listen
	}
	return s, nil
}

// readRedis reads where Redis is.
func readRedis(c *cli.Context) (*redis.Options, error) {
	addresses := c.StringSlice("redis")
	if len(addresses) != 1 {
		return nil, configError("--redis names %d servers; one is served", len(addresses))
	}
	opts, err := backlog.ParseURL(addresses[0])
	if err != nil {
		return nil, exitCode{exitConfig, err}
	}
	return opts, nil
}

// readIdentity derives the key from the secret, wherever that is.
func readIdentity(c *cli.Context) (*twin.Identity, error) {
	kt, err := twin.ParseKeyType(c.String("key-type"))
	if err != nil {
		return nil, exitCode{exitConfig, fmt.Errorf("--key-type: %w", err)}
	}
	secret := c.String("mnemonics")
	if secret == "" {
		secret = c.String("menmonics")
	}
	source := "--mnemonics"
	if file := c.String("mnemonics-file"); file != "" {
		if secret != "" {
			return nil, configError("the key is given twice: by --mnemonics and by --mnemonics-file")
		}
		if secret, err = readSecretFile(file); err != nil {
			return nil, err
		}
		source = file
	}
	if secret == "" {
		return nil, withHint(configError("no key is given"), "msgbusd key new writes one; then use --mnemonics-file FILE")
	}
	identity, err := twin.NewIdentity(secret, kt)
	if err != nil {
		return nil, exitCode{exitConfig, fmt.Errorf("the secret in %s: %w", source, err)}
	}
	return identity, nil
}

// readSecretFile refuses a file that others can read.
func readSecretFile(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", exitCode{exitConfig, fmt.Errorf("the file with the key: %w", err)}
	}
	// systemd's credentials are 0440 and in a folder that only the unit sees.
	private := info.Mode().Perm()&0o037 == 0 && os.Getenv("CREDENTIALS_DIRECTORY") != "" || info.Mode().Perm()&0o077 == 0
	if !private {
		return "", withHint(configError("others can read the key in %s (mode %#o)", file, info.Mode().Perm()), "chmod 600 %s", file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", exitCode{exitConfig, fmt.Errorf("the file with the key: %w", err)}
	}
	return strings.TrimSpace(string(text)), nil
}

// readConfigFile sets what neither the command line nor the environment does.
func readConfigFile(c *cli.Context) error {
	file := c.String("config")
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return exitCode{exitConfig, fmt.Errorf("the configuration: %w", err)}
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		return configError("the configuration %s is no YAML: %v", file, err)
	}
	known := make(map[string]bool)
	for _, f := range daemonFlags() {
		known[f.Names()[0]] = true
	}
	for name, value := range values {
		if !known[name] || name == "config" {
			return withHint(configError("the configuration %s has the unknown setting %q", file, name), "settings have the names of the options: msgbusd --help")
		}
		if c.IsSet(name) {
			continue
		}
		list, isList := value.([]any)
		if !isList {
			list = []any{value}
		}
		for _, v := range list {
			if err := c.Set(name, fmt.Sprint(v)); err != nil {
				return configError("the configuration %s: %s: %v", file, name, err)
			}
		}
	}
	return nil
}
