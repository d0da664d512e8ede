package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Exit codes of call.
const (
	exitErrorReply = 1
	exitNoReply    = 2
)

// replyMargin is how long after its deadline a request has certainly ended.
const replyMargin = 10 * time.Second

func callCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "call",
		Usage:     "call a command of other twins and print what they answer",
		UsageText: "msgbusd call --dst 1002 [--dst 1003] [--group NAME] [options] COMMAND [DATA|-]",
		Description: "DATA goes to the service as it is; - reads it from standard input. With several twins, each\n" +
			"answer stands after its twin's id and a tab.\n\n" +
			"Exit status: 0 all answered, 1 an error reply, 2 no reply (or wrong usage).",
		Flags: append([]cli.Flag{
			&cli.UintSliceFlag{Name: "dst", Usage: "`TWIN` to ask; repeatable"},
			&cli.StringFlag{Name: "group", Usage: "`NAME` of a group whose twins are asked, too; msgbusd group ls lists them"},
			expFlag(),
			&cli.IntFlag{Name: "try", Value: 3, Usage: "`NUMBER` of times to try again when a twin cannot be reached"},
			&cli.BoolFlag{Name: "json", Usage: "print each reply as it came, in JSON"},
		}, redisFlags()...),
		Action: func(c *cli.Context) error { return call(c, s) },
	}
}

func call(c *cli.Context, s streams) error {
	m, err := newRequest(c, s)
	if err != nil {
		return err
	}
	if m.Destinations, err = asked(c); err != nil {
		return err
	}
	m.UniqueDestinations()
	m.Retry, m.ReturnQueue = c.Int("try"), uuid.NewString()

	rdb, err := localRedis(c)
	if err != nil {
		return err
	}
	defer rdb.Close()
	if err := rdb.RPush(c.Context, c.String("redis-prefix")+".system.local", m.AppendWire(nil)).Err(); err != nil {
		return fmt.Errorf("push the request to the local Redis: %w", err)
	}
	p := &replyPrinter{streams: s, asJSON: c.Bool("json"), several: len(m.Destinations) > 1}
	return p.printAll(c.Context, rdb, m)
}

// asked returns the twins that --dst names, and those of --group.
func asked(c *cli.Context) ([]uint32, error) {
	group := c.String("group")
	if group == "" {
		return twinIDs("dst", c.UintSlice("dst")...)
	}
	var twins []uint32
	if len(c.UintSlice("dst")) > 0 {
		var err error
		if twins, err = twinIDs("dst", c.UintSlice("dst")...); err != nil {
			return nil, err
		}
	}
	store, err := localStore(c)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	members, err := store.Group(c.Context, group)
	if err == nil && len(members) == 0 {
		err = withHint(exitCode{exitNoReply, fmt.Errorf("group %q has no twins", group)}, "msgbusd group ls lists those that have; msgbusd group add makes one")
	}
	return append(twins, members...), err
}

// A replyPrinter prints what comes back from a call.
type replyPrinter struct {
	streams
	asJSON  bool
	several bool // there are several destinations: say who answers
}

// printAll waits for one reply a destination.
func (p *replyPrinter) printAll(ctx context.Context, rdb *redis.Client, m *msgbus.Message) error {
	wait := time.Duration(m.Expiration)*time.Second + replyMargin
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	missing := slices.Clone(m.Destinations)
	failed := false
	for range m.Destinations {
		raw, err := pop(limited, rdb, m.ReturnQueue)
		switch {
		case ctx.Err() != nil:
			return exitCode{exitNoReply, fmt.Errorf("interrupted; no reply yet from %s", twinList(missing))}
		case errors.Is(err, context.DeadlineExceeded):
			return withHint(exitCode{exitNoReply, fmt.Errorf("no reply from %s within %s", twinList(missing), wait)},
				"is msgbusd running on this Redis, with the same --redis-prefix?")
		case err != nil:
			return exitCode{exitNoReply, fmt.Errorf("no reply from %s: %w", twinList(missing), err)}
		}
		reply, err := msgbus.Decode(raw)
		if err != nil {
			return exitCode{exitErrorReply, fmt.Errorf("the reply is no message: %w", err)}
		}
		if err := p.print(reply, raw); err != nil {
			return err
		}
		if refusedHere(m, reply) {
			return exitCode{code: exitErrorReply}
		}
		missing = slices.DeleteFunc(missing, func(id uint32) bool { return id == reply.Source })
		failed = failed || reply.Error != ""
	}
	if failed {
		return exitCode{code: exitErrorReply} // print has said which
	}
	return nil
}

// refusedHere tells whether the local relay has refused a whole request: no
// other reply will come. Its error goes from its own twin to its own twin, which
// may be one of those asked; only the text tells it from that twin's reply then.
func refusedHere(asked, reply *msgbus.Message) bool {
	switch {
	case reply.Error == "":
		return false
	case !slices.Contains(asked.Destinations, reply.Source):
		return true
	default:
		return slices.Equal(reply.Destinations, []uint32{reply.Source}) && strings.HasPrefix(reply.Error, "received invalid message")
	}
}

func (p *replyPrinter) print(reply *msgbus.Message, raw []byte) error {
	if p.asJSON {
		_, err := fmt.Fprintf(p.out, "%s\n", raw)
		return err
	}
	if reply.Error != "" {
		_, err := fmt.Fprintf(p.err, "msgbusd: twin %d: %s\n", reply.Source, oneLine(reply.Error))
		return err
	}
	data, err := base64.StdEncoding.DecodeString(reply.Data)
	if err != nil {
		data = []byte(reply.Data)
	}
	from := ""
	if p.several {
		from = fmt.Sprintf("%d\t", reply.Source)
	}
	_, err = fmt.Fprintf(p.out, "%s%s\n", from, data)
	return err
}

// oneLine keeps the text of a stranger from steering the terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

func twinList(ids []uint32) string {
	if len(ids) == 1 {
		return fmt.Sprintf("twin %d", ids[0])
	}
	return "twins " + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(ids)), ", "), "[]")
}
