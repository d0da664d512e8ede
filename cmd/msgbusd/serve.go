package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/msgbus"
)

func serveCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "serve a command by running a program for each request",
		UsageText: "msgbusd serve COMMAND -- PROGRAM [ARGUMENT…]\n\n" +
			"   The program gets the data on standard input; what it writes to standard output is the\n" +
			"   answer. When it fails, the error is the last line that it wrote to standard error.\n" +
			"   MSGBUS_SRC, MSGBUS_CMD and MSGBUS_UID tell it who asks for what.",
		Flags: append([]cli.Flag{
			&cli.IntFlag{Name: "concurrency", Value: 4, Usage: "programs run at once"},
			&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "longest time for one request"},
		}, redisFlags()...),
		Action: func(c *cli.Context) error { return serve(c, s) },
	}
}

func serve(c *cli.Context, s streams) error {
	args := c.Args().Slice()
	if len(args) > 1 && args[1] == "--" {
		args = append(args[:1:1], args[2:]...)
	}
	if len(args) < 2 {
		return withHint(usageError("serve takes a command and a program"), "msgbusd serve COMMAND -- PROGRAM [ARGUMENT…]")
	}
	if msgbus.ReservedCommand(args[0]) {
		return usageError("command %q is reserved", args[0])
	}
	program, err := exec.LookPath(args[1])
	if err != nil {
		return usageError("%v", err)
	}
	if c.Int("concurrency") < 1 {
		return usageError("--concurrency must be 1 or more")
	}
	log, err := newLog(s.err, "info", "console")
	if err != nil {
		return err
	}
	rdb, err := localRedis(c)
	if err != nil {
		return err
	}
	defer rdb.Close()
	w := &worker{
		rdb: rdb, log: log, timeout: c.Duration("timeout"),
		queue:   c.String("redis-prefix") + "." + args[0],
		replies: c.String("redis-prefix") + ".system.reply",
		program: program, args: args[2:],
	}
	if err := rdb.Ping(c.Context).Err(); err != nil {
		return withHint(fmt.Errorf("the local Redis: %w", err), "--redis says where it is")
	}
	log.Info().Str("queue", w.queue).Strs("program", args[1:]).Msg("serving")
	var group errgroup.Group
	for range c.Int("concurrency") {
		group.Go(func() error { return w.work(c.Context) })
	}
	return group.Wait()
}

// A worker answers requests by running a program.
type worker struct {
	rdb            *redis.Client
	log            zerolog.Logger
	queue, replies string
	program        string
	args           []string
	timeout        time.Duration
}

// work serves until ctx ends. A request that it has taken it answers first.
func (w *worker) work(ctx context.Context) error {
	for {
		raw, err := pop(ctx, w.rdb, w.queue)
		if ctx.Err() != nil && err != nil {
			return nil
		}
		if err != nil {
			w.log.Warn().Err(err).Msg("cannot take requests; trying again")
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
			continue
		}
		m, err := msgbus.Decode(raw)
		if err != nil {
			w.log.Warn().Err(err).Msg("left a request unanswered that is no message")
			continue
		}
		if err := w.answer(context.WithoutCancel(ctx), m); err != nil {
			w.log.Error().Err(err).Str("msg_id", m.UID).Msg("cannot answer")
		}
	}
}

// answer runs the program and pushes what it says.
func (w *worker) answer(ctx context.Context, m *msgbus.Message) error {
	start := time.Now()
	out, failed := w.runProgram(ctx, m)
	reply := m.Clone()
	if len(m.Destinations) > 0 {
		reply.Source = m.Destinations[0]
	}
	reply.Destinations = []uint32{m.Source}
	reply.Data = base64.StdEncoding.EncodeToString(out)
	reply.Error, reply.Signature, reply.Now = failed, "", time.Now().Unix()
	if reply.UID == "" {
		reply.UID = m.Ref
	}
	to := m.ReturnQueue
	if to == "" {
		to = w.replies
	}
	err := w.rdb.RPush(ctx, to, reply.AppendWire(nil)).Err()
	w.log.Info().Str("msg_id", m.UID).Uint32("twin", m.Source).Str("err", failed).Dur("took", time.Since(start)).Msg("answered")
	return err
}

func (w *worker) runProgram(ctx context.Context, m *msgbus.Message) (out []byte, failed string) {
	data, err := base64.StdEncoding.DecodeString(m.Data)
	if err != nil {
		return nil, "dat is not base64"
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.program, w.args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(cmd.Environ(), fmt.Sprintf("MSGBUS_SRC=%d", m.Source), "MSGBUS_CMD="+m.Command, "MSGBUS_UID="+m.UID)
	cmd.Stdin = bytes.NewReader(data)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err = cmd.Output()
	switch {
	case err == nil:
		return out, ""
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Sprintf("the service did not finish within %s", w.timeout)
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return nil, last
	}
	return nil, err.Error()
}
