package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/msgbus"
)

func subscribeCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "subscribe",
		Usage:     "print the events whose topics match a pattern",
		UsageText: "msgbusd subscribe [options] PATTERN",
		Description: "In PATTERN, * stands for one word and # for any number of them; in front may stand an exchange, as in 'task/run.*'.\n" +
			"Each event is a line: its topic, the twin that it comes from, and its data, with a tab between two of them.\n" +
			"It ends with Ctrl-C.",
		Flags: append([]cli.Flag{
			&cli.UintSliceFlag{Name: "from", Usage: "other `TWIN` whose events are wanted, too; repeatable"},
			&cli.BoolFlag{Name: "retained", Usage: "print the latest event of each topic first, as far as it was kept"},
			&cli.StringFlag{Name: "after", Usage: "read the durable events of the exchange behind the one with this `ID`; 0 begins with the oldest that is kept"},
			&cli.IntFlag{Name: "count", Usage: "end after this `NUMBER` of events (default none)"},
			&cli.BoolFlag{Name: "json", Usage: "print each event in JSON"},
		}, redisFlags()...),
		Action: func(c *cli.Context) error { return subscribe(c, s) },
	}
}

func subscribe(c *cli.Context, s streams) error {
	pattern := c.Args().First()
	switch {
	case c.NArg() != 1:
		return withHint(usageError("subscribe takes one pattern"), "%s; options stand before it, and a shell needs quotes around * and #", c.Command.UsageText)
	case !msgbus.ValidPattern(pattern):
		return withHint(usageError("%q is no pattern of topics", pattern), "words with dots between them, of which * stands for one and # for any number: 'task/run.*'")
	case c.Bool("retained") && c.IsSet("after"):
		return usageError("--retained and --after do not go together: what is durable is all there")
	}
	var opts []client.SubscribeOption
	if len(c.UintSlice("from")) > 0 {
		twins, err := twinIDs("from", c.UintSlice("from")...)
		if err != nil {
			return err
		}
		opts = append(opts, client.From(twins...))
	}
	bus, err := openClient(c)
	if err != nil {
		return err
	}
	defer bus.Close()
	events, end, err := hear(c, bus, pattern, opts)
	if err != nil {
		return err
	}
	defer end()
	fmt.Fprintf(s.err, "msgbusd: listening to %s\n", pattern)
	heard := 0
	for e := range events {
		if err := printEvent(c, s, e); err != nil {
			return err
		}
		if heard++; heard == c.Int("count") {
			break
		}
	}
	return nil
}

// hear begins a subscription, or reads a stream, and returns how to end that.
func hear(c *cli.Context, bus *client.Client, pattern string, opts []client.SubscribeOption) (events iter.Seq[*client.Event], end func() error, err error) {
	if c.IsSet("after") {
		exchange, key := msgbus.SplitTopic(pattern)
		stream, err := bus.Stream(c.Context, exchange, append(opts, client.After(c.String("after")), client.Matching(key))...)
		if err != nil {
			return nil, nil, err
		}
		return stream.All(c.Context), stream.Close, nil
	}
	if c.Bool("retained") {
		opts = append(opts, client.Retained())
	}
	subscription, err := bus.Subscribe(c.Context, pattern, opts...)
	if err != nil {
		return nil, nil, err
	}
	return subscription.All(c.Context), subscription.Close, nil
}

// printEvent tells on the side that events are missing.
func printEvent(c *cli.Context, s streams, e *client.Event) error {
	switch {
	case e.Lost < 0:
		fmt.Fprintln(s.err, "msgbusd: Redis was away: events may be missing here")
	case e.Lost > 0:
		fmt.Fprintf(s.err, "msgbusd: %d events are missing here: they were not printed in time\n", e.Lost)
	}
	if !c.Bool("json") {
		_, err := fmt.Fprintf(s.out, "%s\t%d\t%s\n", oneLine(e.Topic), e.Source, oneLine(string(e.Data)))
		return err
	}
	return json.NewEncoder(s.out).Encode(struct {
		ID     string          `json:"id,omitempty"` // in its stream
		Topic  string          `json:"topic"`
		Source uint32          `json:"src"`
		Now    int64           `json:"now"`
		Data   []byte          `json:"dat"`
		Schema string          `json:"shm,omitempty"`
		Tag    json.RawMessage `json:"tag,omitempty"`
		Latest bool            `json:"latest,omitempty"` // it was published before
	}{e.ID, e.Topic, e.Source, e.Time.Unix(), e.Data, e.Schema, e.Tag, e.Latest})
}

// openClient opens the bus as an app does.
func openClient(c *cli.Context) (*client.Client, error) {
	rdb, err := localRedis(c) // which says what is wrong
	if err != nil {
		return nil, err
	}
	if err := rdb.Close(); err != nil {
		return nil, err
	}
	return client.Open(client.Options{Redis: strings.Join(addresses(c, "redis"), ","), Prefix: c.String("redis-prefix")})
}
