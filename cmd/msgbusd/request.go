package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// What call and sign have in common: they make a request.

func expFlag() cli.Flag {
	return &cli.DurationFlag{Name: "exp", Value: time.Minute, Usage: "`TIME` that the request lives; whole seconds"}
}

// newRequest reads COMMAND [DATA|-].
func newRequest(c *cli.Context, s streams) (*msgbus.Message, error) {
	data, err := readData(c, s, "command")
	if err != nil {
		return nil, err
	}
	return &msgbus.Message{
		Version:    msgbus.Version,
		Command:    c.Args().First(),
		Expiration: int64(c.Duration("exp") / time.Second),
		Data:       base64.StdEncoding.EncodeToString(data),
		Now:        time.Now().Unix(),
	}, nil
}

// readData reads [DATA|-] behind the name of what it is for. It looks at --exp first, since
// it may have to wait for standard input.
func readData(c *cli.Context, s streams, name string) ([]byte, error) {
	if c.NArg() < 1 || c.NArg() > 2 {
		return nil, withHint(usageError("%s takes a %s and at most one piece of data", c.Command.Name, name),
			"%s; options stand before the %s", c.Command.UsageText, name)
	}
	if c.Duration("exp") < time.Second {
		return nil, usageError("--exp must be 1s or more")
	}
	data := c.Args().Get(1)
	if data != "-" {
		return []byte(data), nil
	}
	read, err := io.ReadAll(s.in)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return read, nil
}

// twinIDs checks what --dst and --src name.
func twinIDs(option string, ids ...uint) ([]uint32, error) {
	out := make([]uint32, 0, len(ids))
	for _, id := range ids {
		if id == 0 || id > math.MaxUint32 {
			return nil, usageError("--%s %d is no twin id", option, id)
		}
		out = append(out, uint32(id))
	}
	if len(out) == 0 || out[0] == 0 {
		return nil, usageError("--%s is missing", option)
	}
	return out, nil
}

// localRedis connects to the Redis that the options name, and makes sure that
// it answers.
func localRedis(c *cli.Context, settings ...func(*redis.Options)) (*redis.Client, error) {
	where, err := readRedis(c)
	if err != nil {
		return nil, err
	}
	rdb := where.Connect(settings...)
	if err := rdb.Ping(c.Context).Err(); err != nil {
		_ = rdb.Close()
		return nil, noRedis(where, err)
	}
	return rdb, nil
}

func noRedis(where *backlog.Address, err error) error {
	return withHint(fmt.Errorf("the local Redis (%s) does not answer: %w", where, err),
		"is it running? --redis says where it is, and with which password: redis://user:password@host:port/db")
}

// pop waits for one message of a list, for as long as ctx lives. It waits a
// second at a time, since a context does not interrupt a command that blocks.
func pop(ctx context.Context, rdb *redis.Client, list string) ([]byte, error) {
	for {
		result, err := rdb.BLPop(ctx, time.Second, list).Result()
		switch {
		case err == nil:
			return []byte(result[1]), nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case isOver(ctx):
			return nil, context.DeadlineExceeded
		case !errors.Is(err, redis.Nil):
			return nil, err
		}
	}
}

// isOver tells whether the deadline of ctx has come. The connection to Redis has the same
// deadline, and may notice it before ctx does.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}
