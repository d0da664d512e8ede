package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/inspect"
	"github.com/msgbusd/msgbusd/msgbus"
)

func traceCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "trace",
		Usage:     "tell where a message is, or what became of it",
		UsageText: "msgbusd trace [options] UID",
		Description: "UID is the id that the relay gave, such as 1002.17; it stands in the log and in replies. Each machine\n" +
			"tells its own part: that of the app how the request fares, that of the service who took it.\n\n" +
			"Exit status: 0 something is known, 1 nothing is (or Redis does not answer), 2 wrong usage.",
		Flags:  inspectFlags(),
		Action: inspecting(s, 1, 1, trace),
	}
}

func trace(i *inspection) error {
	uid := i.Args().First()
	j, err := inspect.ReadJourney(i.Context.Context, i.store, uid)
	if errors.Is(err, msgbus.ErrNotFound) {
		return withHint(fmt.Errorf("nothing is known of %s here", uid),
			"only the latest thousands of requests that have ended are remembered; msgbusd dead ls lists what nobody could handle")
	}
	if err != nil {
		return err
	}
	return i.print(j, func(w io.Writer) {
		for _, s := range j.Stations {
			at := "now"
			if !s.At.IsZero() {
				at = s.At.UTC().Format("2006-01-02 15:04:05.000Z")
			}
			row(w, at, s.What, s.Text)
		}
	})
}
