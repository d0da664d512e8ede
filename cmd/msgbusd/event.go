package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
)

func eventCommand(s streams) *cli.Command {
	return subcommands("event", "look at who hears of what, and at who is present",
		&cli.Command{
			Name: "ls", Usage: "list who hears of which topics, and what is kept", UsageText: "msgbusd event ls [options]",
			Description: "One table has who wants events: connections on this machine, its apps that want those of other twins, and\n" +
				"other twins that want this one's, with the time until they must ask again. The other has what is kept of durable events.",
			Flags:  inspectFlags(),
			Action: inspecting(s, 0, 0, listEvents),
		},
		&cli.Command{
			Name: "present", Usage: "list the names that apps have, as long as they live", UsageText: "msgbusd event present [options]",
			Flags:  inspectFlags(),
			Action: inspecting(s, 0, 0, listPresent),
		})
}

func listEvents(i *inspection) error {
	v, err := i.store.ViewEvents(i.Context.Context)
	if err != nil {
		return err
	}
	return i.print(v, func(w io.Writer) {
		row(w, "PATTERN", "OF", "WANTED BY", "ASKED/UNTIL")
		for _, l := range v.Listening {
			row(w, l.Pattern, "here", fmt.Sprintf("connections: %d", l.Connections), "-")
		}
		for _, a := range v.Wanted {
			asked := "not yet"
			if !a.Asked.IsZero() {
				asked = i.since(a.Asked) + " ago"
			}
			row(w, a.Pattern, fmt.Sprintf("twin %d", a.Twin), "app "+a.App, asked)
		}
		for _, o := range v.Subscribed {
			row(w, o.Pattern, "here", fmt.Sprintf("twin %d", o.Twin), "for "+i.until(o.Until))
		}
		fmt.Fprintln(w)
		row(w, "STREAM", "EVENTS", "GROUPS", "LATEST")
		for _, k := range v.Streams {
			row(w, k.Exchange, k.Events, k.Groups, i.since(k.Latest)+" ago")
		}
		fmt.Fprintf(w, "\n%d topics have a latest event\n", v.Retained)
	})
}

func listPresent(i *inspection) error {
	views, err := i.store.ViewPresence(i.Context.Context)
	if err != nil {
		return err
	}
	return i.print(views, func(w io.Writer) {
		row(w, "NAME", "LEASE", "SAYS")
		for _, v := range views {
			row(w, v.Name, v.Left.Round(100e6), orDash(v.Says))
		}
	})
}
