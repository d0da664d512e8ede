package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os/exec"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/msgbus"
)

func serveCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "serve a command by running a program for each request",
		UsageText: "msgbusd serve [options] COMMAND -- PROGRAM [ARGUMENT…]",
		Description: "The program gets the data on standard input; what it writes to standard output is the answer.\n" +
			"When it fails, the error is the last line that it wrote to standard error. MSGBUS_SRC, MSGBUS_CMD\n" +
			"and MSGBUS_UID tell it who asks for what.",
		Flags: append(append([]cli.Flag{
			&cli.IntFlag{Name: "concurrency", Value: 4, Usage: "`NUMBER` of programs that run at once"},
			&cli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "longest `TIME` for one request"},
		}, redisFlags()...), logFlags("info")...),
		Action: func(c *cli.Context) error { return serve(c, s) },
	}
}

func serve(c *cli.Context, s streams) error {
	log, err := newLog(c, s.err)
	if err != nil {
		return err
	}
	for _, w := range shownByPS(c) {
		log.Warn().Msg(w)
	}
	w, err := newWorker(c, log)
	if err != nil {
		return err
	}
	if w.rdb, err = localRedis(c); err != nil {
		return err
	}
	defer w.rdb.Close()
	log.Info().Str("queue", w.queue).Str("program", w.program).Msg("serving")
	notify("READY=1")
	var group errgroup.Group
	for range c.Int("concurrency") {
		group.Go(func() error { return w.work(c.Context) })
	}
	return group.Wait()
}

// newWorker reads COMMAND -- PROGRAM [ARGUMENT…]; the two dashes may be left out.
func newWorker(c *cli.Context, log zerolog.Logger) (*worker, error) {
	args := c.Args().Slice()
	if len(args) > 1 && args[1] == "--" {
		args = append(args[:1:1], args[2:]...)
	}
	switch {
	case len(args) < 2:
		return nil, withHint(usageError("serve takes a command and a program"), "%s", c.Command.UsageText)
	case msgbus.ReservedCommand(args[0]):
		return nil, withHint(usageError("command %q is reserved for the relay", args[0]), "serve another name")
	case c.Int("concurrency") < 1:
		return nil, usageError("--concurrency must be 1 or more")
	case c.Duration("timeout") <= 0:
		return nil, usageError("--timeout must be more than 0")
	}
	program, err := exec.LookPath(args[1])
	if err != nil {
		return nil, withHint(exitCode{exitUsage, err}, "PROGRAM is a file, or a name that PATH leads to")
	}
	prefix := c.String("redis-prefix")
	return &worker{
		log:     log,
		queue:   prefix + "." + args[0],
		replies: prefix + ".system.reply",
		service: service{program: program, args: args[2:], timeout: c.Duration("timeout")},
	}, nil
}

// A worker answers requests by running a program.
type worker struct {
	service
	rdb            *redis.Client
	log            zerolog.Logger
	queue, replies string
}

// work serves until ctx ends. A request that it has taken it answers first.
func (w *worker) work(ctx context.Context) error {
	for {
		raw, err := pop(ctx, w.rdb, w.queue)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			w.log.Warn().Err(err).Msg("cannot take requests; trying again")
			sleep(ctx, time.Second)
			continue
		}
		m, err := msgbus.Decode(raw)
		if err != nil {
			w.log.Warn().Err(err).Msg("left a request unanswered that is no message")
			continue
		}
		w.answer(ctx, m)
	}
}

// answer runs the program and pushes what it says, also when ctx ends meanwhile.
func (w *worker) answer(ctx context.Context, m *msgbus.Message) {
	start := time.Now()
	var out []byte
	data, err := base64.StdEncoding.DecodeString(m.Data)
	if err != nil {
		err = fmt.Errorf("dat is not base64")
	} else {
		out, err = w.run(context.WithoutCancel(ctx), m, data)
	}
	log := w.log.With().Str("msg_id", m.UID).Uint32("twin", m.Source).Dur("took", time.Since(start)).Logger()
	reply := replyTo(m, out, err)
	to := m.ReturnQueue
	if to == "" {
		to = w.replies
	}
	if pushErr := w.push(ctx, to, reply); pushErr != nil {
		log.Error().Err(pushErr).Msg("lost an answer: Redis does not take it")
		return
	}
	if err != nil {
		log.Info().Err(err).Msg("answered with an error")
		return
	}
	log.Info().Msg("answered")
}

// push tries for as long as the service runs, and once more after that: the
// work is done, and only Redis is missing.
func (w *worker) push(ctx context.Context, to string, reply *msgbus.Message) error {
	const limit = 5 * time.Second
	for {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		err := w.rdb.RPush(own, to, reply.AppendWire(nil)).Err()
		cancel()
		if err == nil || ctx.Err() != nil || redis.HasErrorPrefix(err, "WRONGTYPE") {
			return err
		}
		w.log.Warn().Err(err).Msg("cannot answer; trying again")
		sleep(ctx, time.Second)
	}
}

// replyTo turns a request round.
func replyTo(m *msgbus.Message, out []byte, err error) *msgbus.Message {
	reply := m.Clone()
	if len(m.Destinations) > 0 {
		reply.Source = m.Destinations[0]
	}
	reply.Destinations = []uint32{m.Source}
	reply.Data = base64.StdEncoding.EncodeToString(out)
	reply.Error, reply.Signature, reply.Now = "", "", time.Now().Unix()
	if err != nil {
		reply.Data, reply.Error = "", err.Error()
	}
	if reply.UID == "" {
		reply.UID = m.Ref
	}
	return reply
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
