package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Exit codes of call.
const (
	exitAnswered   = 0
	exitErrorReply = 1
	exitNoReply    = 2
)

// replyMargin is how long after its deadline a request has certainly ended.
const replyMargin = 10 * time.Second

func callCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "call",
		Usage: "call a command of other twins and print what they answer",
		UsageText: "msgbusd call --dst 1002 [--dst 1003] COMMAND [DATA|-]\n\n" +
			"   DATA goes to the service as it is; - reads it from standard input.\n" +
			"   Exit status: 0 all answered, 1 an error reply, 2 no reply.",
		Flags: append([]cli.Flag{
			&cli.UintSliceFlag{Name: "dst", Required: true, Usage: "`TWIN` to ask; repeatable"},
			&cli.DurationFlag{Name: "exp", Value: time.Minute, Usage: "how long the request lives"},
			&cli.IntFlag{Name: "try", Value: 3, Usage: "how often to try again when a twin cannot be joined"},
			&cli.BoolFlag{Name: "json", Usage: "print each reply as JSON"},
		}, redisFlags()...),
		Action: func(c *cli.Context) error { return call(c, s) },
	}
}

func call(c *cli.Context, s streams) error {
	if c.NArg() < 1 || c.NArg() > 2 {
		return withHint(usageError("call takes a command and at most one piece of data"), "msgbusd call --dst 1002 COMMAND [DATA|-]; options come first")
	}
	data := []byte(c.Args().Get(1))
	if c.Args().Get(1) == "-" {
		var err error
		if data, err = io.ReadAll(s.in); err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
	}
	m := &msgbus.Message{
		Version: msgbus.Version, Command: c.Args().First(), Retry: c.Int("try"),
		Expiration:  int64(max(time.Second, c.Duration("exp")).Seconds()),
		Data:        base64.StdEncoding.EncodeToString(data),
		ReturnQueue: uuid.NewString(), Now: time.Now().Unix(),
	}
	for _, id := range c.UintSlice("dst") {
		m.Destinations = append(m.Destinations, uint32(id))
	}
	m.UniqueDestinations()

	rdb, err := localRedis(c)
	if err != nil {
		return err
	}
	defer rdb.Close()
	if err := rdb.RPush(c.Context, c.String("redis-prefix")+".system.local", m.AppendWire(nil)).Err(); err != nil {
		return withHint(fmt.Errorf("push the request to the local Redis: %w", err), "--redis says where it is")
	}
	return printReplies(c.Context, rdb, m, time.Duration(m.Expiration)*time.Second+replyMargin, c.Bool("json"), s)
}

// printReplies waits for one reply a destination.
func printReplies(ctx context.Context, rdb *redis.Client, m *msgbus.Message, wait time.Duration, asJSON bool, s streams) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	status := exitAnswered
	for range m.Destinations {
		raw, err := pop(ctx, rdb, m.ReturnQueue)
		if err != nil {
			return withHint(exitCode{exitNoReply, fmt.Errorf("no reply: %w", err)}, "is msgbusd running on this Redis?")
		}
		reply, err := msgbus.Decode(raw)
		if err != nil {
			return exitCode{exitErrorReply, fmt.Errorf("the reply is no message: %w", err)}
		}
		if reply.Error != "" {
			status = exitErrorReply
		}
		if err := printReply(reply, raw, len(m.Destinations) > 1, asJSON, s); err != nil {
			return err
		}
	}
	if status != exitAnswered {
		return exitCode{code: status}
	}
	return nil
}

func printReply(reply *msgbus.Message, raw []byte, several, asJSON bool, s streams) error {
	if asJSON {
		_, err := fmt.Fprintf(s.out, "%s\n", raw)
		return err
	}
	from := strconv.FormatUint(uint64(reply.Source), 10)
	if reply.Error != "" {
		_, err := fmt.Fprintf(s.err, "msgbusd: twin %s: %s\n", from, reply.Error)
		return err
	}
	data, err := base64.StdEncoding.DecodeString(reply.Data)
	if err != nil {
		data = []byte(reply.Data)
	}
	prefix := ""
	if several {
		prefix = from + "\t"
	}
	_, err = fmt.Fprintf(s.out, "%s%s\n", prefix, data)
	return err
}

// localRedis connects to the Redis that the flags name.
func localRedis(c *cli.Context) (*redis.Client, error) {
	opts, err := readRedis(c)
	if err != nil {
		return nil, err
	}
	opts.MaxRetries = -1
	opts.ContextTimeoutEnabled = true
	opts.DialerRetries = 1
	return redis.NewClient(opts), nil
}

// pop waits for one message of a list, for as long as ctx lives.
func pop(ctx context.Context, rdb *redis.Client, list string) ([]byte, error) {
	for {
		result, err := rdb.BLPop(ctx, time.Second, list).Result()
		switch {
		case err == nil:
			return []byte(result[1]), nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, redis.Nil):
			return nil, err
		}
	}
}

func signCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "sign",
		Usage: "print a signed request for /zbus-cmd of another relay",
		UsageText: "msgbusd sign --src 1001 --dst 1002 --mnemonics-file FILE COMMAND [DATA|-] | curl --data-binary @- http://HOST:8051/zbus-cmd\n\n" +
			"   The signature is good for a minute, and once.",
		Flags: append([]cli.Flag{
			&cli.UintFlag{Name: "src", Required: true, Usage: "`TWIN` that signs"},
			&cli.UintFlag{Name: "dst", Required: true, Usage: "`TWIN` whose relay gets the request"},
			&cli.DurationFlag{Name: "exp", Value: time.Minute, Usage: "how long the request lives"},
		}, secretFlags()...),
		Action: func(c *cli.Context) error { return sign(c, s) },
	}
}

func sign(c *cli.Context, s streams) error {
	if c.NArg() < 1 || c.NArg() > 2 {
		return usageError("sign takes a command and at most one piece of data")
	}
	id, err := readIdentity(c)
	if err != nil {
		return err
	}
	data := []byte(c.Args().Get(1))
	if c.Args().Get(1) == "-" {
		if data, err = io.ReadAll(s.in); err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
	}
	m := &msgbus.Message{
		Version: msgbus.Version, Command: c.Args().First(), Proxied: true,
		Expiration: int64(max(time.Second, c.Duration("exp")).Seconds()),
		Data:       base64.StdEncoding.EncodeToString(data),
		Source:     uint32(c.Uint("src")), Destinations: []uint32{uint32(c.Uint("dst"))},
		Now: time.Now().Unix(),
	}
	challenge := m.Challenge()
	m.Signature = fmt.Sprintf("%x", id.Sign(challenge[:]))
	_, err = fmt.Fprintf(s.out, "%s\n", m.AppendWire(nil))
	return err
}
