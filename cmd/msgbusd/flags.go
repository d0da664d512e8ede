package main

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// variable names the variable of an option: --peer-port is MSGBUSD_PEER_PORT.
func variable(option string) []string {
	return []string{"MSGBUSD_" + strings.ToUpper(strings.ReplaceAll(option, "-", "_"))}
}

// A choice is an option that takes one of a few words, which help lists and
// completion offers.
type choice struct {
	*cli.StringFlag
	words []string
}

// oneOf adds the words to what the flag's usage says.
func oneOf(words []string, f cli.StringFlag) cli.Flag {
	last := len(words) - 1
	f.Usage += ": " + strings.Join(words[:last], ", ") + " or " + words[last]
	return choice{&f, words}
}

// redisFlags are shared by all commands that use the local Redis.
func redisFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "redis", Category: groupRedis, EnvVars: variable("redis"), Value: cli.NewStringSlice("127.0.0.1:6379"),
			Usage: "`ADDRESS` of the local Redis: host:port, redis://user:password@host:port/db, rediss://… for TLS, unix:///path, or sentinel://host:port,host:port/name"},
		&cli.StringFlag{Name: "redis-prefix", Category: groupRedis, EnvVars: variable("redis-prefix"), Value: "msgbus",
			Usage: "`NAME` that every key begins with"},
	}
}

// secretFlags say who signs.
func secretFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "mnemonics-file", Category: groupIdentity, EnvVars: variable("mnemonics-file"),
			Usage: "`FILE` with the phrase or secret URI of the twin's key, which nobody but its owner may read"},
		&cli.StringFlag{Name: "mnemonics", Category: groupIdentity, EnvVars: variable("mnemonics"),
			Usage: "`PHRASE` or secret URI itself (//Alice, phrase//hard/soft); ps shows it to everybody on this machine"},
		&cli.StringFlag{Name: "menmonics", Category: groupIdentity, Hidden: true}, // as the specification's usage line spells it
		keyTypeFlag(variable("key-type")),
	}
}

func keyTypeFlag(env []string) cli.Flag {
	return oneOf(keyTypes, cli.StringFlag{Name: "key-type", Category: groupIdentity, EnvVars: env, Value: keyTypes[0], Usage: "`TYPE` of the key"})
}

// daemonFlags are the settings of the relay. The configuration file has the
// same names.
func daemonFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringSliceFlag{Name: "substrate", Category: groupIdentity, EnvVars: variable("substrate"),
			Usage: "`URL` of a resolver, which knows the keys and addresses of twins: http(s)://…, alone or after gridproxy+, graphql+ or node+; given several times, they are tried in turn"},
		&cli.UintFlag{Name: "twin", Category: groupIdentity, EnvVars: variable("twin"),
			Usage: "`ID` of this twin; without it, the resolver is asked which twin has the key"},
	}
	flags = append(flags, secretFlags()...)
	flags = append(flags, networkFlags()...)
	flags = append(flags, tlsFlags()...)
	flags = append(flags, redisFlags()...)
	flags = append(flags, &cli.StringFlag{Name: "instance", Category: groupRedis, EnvVars: variable("instance"),
		Usage: "`NAME` of this relay among those of the same Redis; keep it over restarts (default host name and listen address)"})
	flags = append(flags, serviceFlags()...)
	flags = append(flags, gatewayFlags()...)
	flags = append(flags, limitFlags()...)
	flags = append(flags, traceFlags()...)
	flags = append(flags, logFlags("info")...)
	return append(flags, &cli.StringFlag{Name: "config", Category: groupLog, EnvVars: variable("config"),
		Usage: "YAML `FILE` of settings"})
}

func networkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "listen", Category: groupNetwork, EnvVars: variable("listen"), Value: ":8051",
			Usage: "`ADDRESS` that other relays and HTTP clients connect to"},
		&cli.StringFlag{Name: "admin-listen", Category: groupNetwork, EnvVars: variable("admin-listen"), Value: "127.0.0.1:8052",
			Usage: "`ADDRESS` of the console, /healthz, /readyz and /metrics; one that others can reach needs --admin-token-file"},
		&cli.StringFlag{Name: "admin-token-file", Category: groupNetwork, EnvVars: variable("admin-token-file"),
			Usage: "`FILE` with the token of the console, which nobody but its owner may read; without it nothing can be changed there"},
		&cli.StringSliceFlag{Name: "admin-host", Category: groupNetwork, EnvVars: variable("admin-host"),
			Usage: "`NAME` under which browsers may ask for the console, besides localhost and addresses; repeatable (default none)"},
		&cli.UintFlag{Name: "peer-port", Category: groupNetwork, EnvVars: variable("peer-port"), Value: 8051,
			Usage: "`PORT` of relays whose twin record names none"},
		&cli.StringSliceFlag{Name: "allow-network", Category: groupNetwork, EnvVars: variable("allow-network"),
			Usage: "private, loopback or link-local `CIDR` whose addresses may be dialled; repeatable (default none)"},
		&cli.StringSliceFlag{Name: "allow-port", Category: groupNetwork, EnvVars: variable("allow-port"),
			Usage: "`PORT`, or range such as 8000-8999, that may be dialled besides --peer-port; repeatable (default none)"},
		&cli.BoolFlag{Name: "require-v2", Category: groupNetwork, EnvVars: variable("require-v2"),
			Usage: "take and send signed transfers only, and nothing in version 1 of the wire"},
		&cli.BoolFlag{Name: "require-encryption", Category: groupNetwork, EnvVars: variable("require-encryption"),
			Usage: "take and send encrypted transfers only; implies --require-v2"},
		&cli.IntFlag{Name: "compress-from", Category: groupNetwork, EnvVars: variable("compress-from"),
			Usage: "compress transfers of at least so many `BYTES`, for slow networks; 0: none"},
	}
}

func serviceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "expose", Category: groupServices, EnvVars: variable("expose"), Value: cli.NewStringSlice("*"),
			Usage: "`GLOB` of commands that other twins may call; repeatable"},
		&cli.StringSliceFlag{Name: "allow-twin", Category: groupServices, EnvVars: variable("allow-twin"),
			Usage: "number or `RANGE` (1000-1999) of twins to deal with, and with no others; repeatable (default all)"},
		&cli.StringSliceFlag{Name: "deny-twin", Category: groupServices, EnvVars: variable("deny-twin"),
			Usage: "number or `RANGE` of twins not to deal with, whatever --allow-twin says; repeatable (default none)"},
		&cli.StringSliceFlag{Name: "allow-command", Category: groupServices, EnvVars: variable("allow-command"),
			Usage: "`GLOB=TWINS` of commands that no others may call, such as zos.*=10,11,1000-1999; repeatable (default all may call all)"},
		&cli.StringSliceFlag{Name: "ref-services", Category: groupServices, EnvVars: variable("ref-services"),
			Usage: "`GLOB` of commands whose services speak the dialect of rmb-rs (ref instead of uid); repeatable"},
		&cli.StringSliceFlag{Name: "brpop", Category: groupServices, EnvVars: variable("brpop"),
			Usage: "`GLOB` of commands whose services take with BRPOP instead of BLPOP; repeatable"},
	}
}

func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "workers", Category: groupLimits, EnvVars: variable("workers"), Value: 1000,
			Usage: "`NUMBER` of destination twins that are served at once, and as many more that are slow or known to fail; an idle worker costs nothing"},
		&cli.DurationFlag{Name: "max-exp", Category: groupLimits, EnvVars: variable("max-exp"), Value: 7 * 24 * time.Hour,
			Usage: "longest `TIME` that a request lives: cut to it for local apps, refused when it comes from remote"},
		&cli.IntFlag{Name: "max-body", Category: groupLimits, EnvVars: variable("max-body"), Value: 4 << 20,
			Usage: "`BYTES` of the largest message"},
		number("max-dst", 1000, "`NUMBER` of twins that one request may name"),
		number("max-backlog", 1_000_000, "`NUMBER` of requests that wait for replies; then the relay takes no more, and the queue waits"),
		number("max-queue", 100_000, "`NUMBER` of messages in one service's queue, of which one twin gets half; then remote requests wait at their source"),
		number("max-unread", 1000, "`NUMBER` of queues that remote requests may fill and no service has read"),
		number("max-replies", 100_000, "`NUMBER` of replies that wait for one twin; then its requests are refused"),
		number("max-dead", 10_000, "`NUMBER` of dead letters that are kept, about"),
		number("max-in-flight", 64<<20, "`BYTES` of large messages on their way at once, in and out each"),
		number("max-twin-at-once", 64, "`NUMBER` of requests that one twin's relay or clients may have handled at once; then they are told to come again"),
		number("max-twin-rate", 0, "`NUMBER` of messages a second that one twin may send; then it is told to come again (default no limit)"),
		number("max-twin-bytes", 0, "`BYTES` a second that one twin may send; then it is told to come again (default no limit)"),
		number("max-bad-signatures", 10, "`NUMBER` of signatures a second that may fail, of whoever claims at one address to be one twin; then no more are checked"),
		&cli.DurationFlag{Name: "drain", Category: groupLimits, EnvVars: variable("drain"), Value: 10 * time.Second,
			Usage: "longest `TIME` that a stop waits for what is in flight"},
	}
}

func number(name string, value int, usage string) cli.Flag {
	return &cli.IntFlag{Name: name, Category: groupLimits, EnvVars: variable(name), Value: value, Usage: usage}
}

func traceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "otlp-endpoint", Category: groupTraces, EnvVars: variable("otlp-endpoint"),
			Usage: "base `URL` of an OpenTelemetry collector, http(s)://…, which gets a span of each request whose traceparent is sampled, by OTLP over HTTP: /v1/traces is added (default none)"},
		&cli.BoolFlag{Name: "exemplars", Category: groupTraces, EnvVars: variable("exemplars"),
			Usage: "let /metrics name a trace beside msgbusd_message_age_seconds, for those who ask in the OpenMetrics form"},
	}
}

// logFlags are shared by the commands that run until they are stopped.
func logFlags(level string) []cli.Flag {
	return []cli.Flag{
		oneOf(logLevels, cli.StringFlag{Name: "log-level", Category: groupLog, EnvVars: variable("log-level"), Value: level, Usage: "`LEVEL`"}),
		oneOf(logFormats, cli.StringFlag{Name: "log-format", Category: groupLog, EnvVars: variable("log-format"), Value: logFormats[0], Usage: "`FORMAT`"}),
	}
}
