package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
)

func queueCommand(s streams) *cli.Command {
	return subcommands("queue", "look at the queues that relays and services take from",
		&cli.Command{
			Name: "ls", Usage: "list the queues", UsageText: "msgbusd queue ls [options]",
			Description: "WAITING is in the list, CLAIMED is what a relay has taken and not dealt with yet, or a service that has announced\n" +
				"itself. SERVICES is how many of those there are. TAKEN tells when a service was last seen to take from its queue; never is\n" +
				"a command that others call and nobody serves. Where it says \"no list\", something else has written to the key of the queue.",
			Flags:  inspectFlags(),
			Action: inspecting(s, 0, 0, listQueues),
		},
		&cli.Command{
			Name: "show", Usage: "print the first messages of a queue", UsageText: "msgbusd queue show [options] local|remote|reply|COMMAND",
			Flags: inspectFlags(
				&cli.IntFlag{Name: "most", Value: 10, Usage: "print no more than this `NUMBER` of messages"},
				&cli.IntFlag{Name: "bytes", Value: 1000, Usage: "and of each no more than so many `BYTES`"}),
			Action: inspecting(s, 1, 1, showQueue),
		})
}

func listQueues(i *inspection) error {
	views, err := i.store.ViewQueues(i.Context.Context)
	if err != nil {
		return err
	}
	return i.print(views, func(w io.Writer) {
		row(w, "QUEUE", "OF", "WAITING", "CLAIMED", "SERVICES", "TAKEN")
		for _, v := range views {
			length := fmt.Sprint(v.Length)
			if v.Length < 0 {
				length = "no list"
			}
			if !v.Service {
				row(w, v.Name, "relay", length, v.Claimed, "-", "-")
				continue
			}
			claimed, services, taken := "-", "-", "never"
			if v.Announced > 0 || v.Claimed > 0 {
				claimed, services, taken = fmt.Sprint(v.Claimed), fmt.Sprint(v.Announced), "-"
			}
			if !v.Served.IsZero() {
				taken = i.since(v.Served) + " ago"
			}
			row(w, v.Name, "service", length, claimed, services, taken)
		}
	})
}

func showQueue(i *inspection) error {
	name := i.Args().First()
	service := name != "local" && name != "remote" && name != "reply"
	if i.Int("most") < 1 || i.Int("bytes") < 1 {
		return usageError("--most and --bytes must be 1 or more")
	}
	messages, err := i.store.ViewQueue(i.Context.Context, name, service, i.Int("most"), i.Int("bytes"))
	if err != nil {
		return err
	}
	return i.print(messages, func(w io.Writer) {
		for _, m := range messages {
			row(w, m)
		}
	})
}
