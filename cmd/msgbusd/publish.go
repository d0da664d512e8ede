package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/msgbus"
)

func publishCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "publish",
		Usage:     "publish an event under a topic",
		UsageText: "msgbusd publish [options] TOPIC [DATA|-]",
		Description: "DATA goes as it is; - reads it from standard input. It waits until the twins that want the event have it, and\n" +
			"prints how many listeners heard it there and here.\n\n" +
			"Exit status: 0 all twins that want it have it, 1 one does not (or no relay runs), 2 wrong usage.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "durable", Usage: "keep it for those who come later, at each twin that wants it"},
			&cli.BoolFlag{Name: "retain", Usage: "keep it as the latest of its topic"},
			&cli.DurationFlag{Name: "exp", Value: 30 * time.Second, Usage: "`TIME` within which it must arrive; whole seconds"},
		}, redisFlags()...),
		Action: func(c *cli.Context) error { return publish(c, s) },
	}
}

func publish(c *cli.Context, s streams) error {
	data, err := readData(c, s, "topic")
	if err != nil {
		return err
	}
	topic := c.Args().First()
	if !msgbus.ValidTopic(topic) {
		return withHint(usageError("%q is no topic", topic), "words with dots between them, and in front an exchange if need be: task/run.17")
	}
	bus, err := openClient(c)
	if err != nil {
		return err
	}
	defer bus.Close()
	opts := []client.CallOption{client.Expire(c.Duration("exp"))}
	if c.Bool("durable") {
		opts = append(opts, client.Durable())
	}
	if c.Bool("retain") {
		opts = append(opts, client.Retain())
	}
	listeners, err := bus.PublishCounted(c.Context, topic, data, opts...)
	if err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	_, err = fmt.Fprintf(s.out, "listeners: %d\n", listeners)
	return err
}
