package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/inspect"
)

func statusCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:        "status",
		Usage:       "say in one screen how the relay of this machine fares",
		UsageText:   "msgbusd status [options]",
		Description: "It reads the local Redis, also when no relay runs. msgbusd doctor looks for what is wrong.",
		Flags:       inspectFlags(),
		Action: inspecting(s, 0, 0, func(i *inspection) error {
			o, err := inspect.ReadOverview(i.Context.Context, i.store)
			if err != nil {
				return err
			}
			return i.print(o, func(w io.Writer) { i.printOverview(w, o, nil, 0) })
		}),
	}
}

func topCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "top",
		Usage:     "show how the relay fares, again and again, with rates",
		UsageText: "msgbusd top [options]",
		Flags: inspectFlags(
			&cli.DurationFlag{Name: "interval", Value: time.Second, Usage: "`TIME` between two looks"},
			&cli.IntFlag{Name: "count", Usage: "end after this `NUMBER` of looks; 0: when it is interrupted"}),
		Action: inspecting(s, 0, 0, top),
	}
}

// printOverview prints an overview, with rates if there is an earlier one.
func (i *inspection) printOverview(w io.Writer, o, before *inspect.Overview, passed time.Duration) {
	rate := func(now, then int64) string {
		if before == nil {
			return ""
		}
		return fmt.Sprintf(" (%.0f/s)", float64(now-then)/passed.Seconds())
	}
	var b backlog.Stats
	if before != nil {
		b = before.Stats
	}
	relays := fmt.Sprintf("%d running", o.Census.Live)
	if o.Census.Live == 0 {
		relays = "none is running: messages wait"
	}
	row(w, "relays", relays)
	row(w, "requests", fmt.Sprintf("%d waiting; accepted %d%s, answered %d%s, failed %d%s", o.Stats.Waiting,
		o.Stats.Accepted, rate(o.Stats.Accepted, b.Accepted), o.Stats.Answered, rate(o.Stats.Answered, b.Answered), o.Stats.Failed, rate(o.Stats.Failed, b.Failed)))
	row(w, "queues", fmt.Sprintf("local %d, remote %d, reply %d; %d claimed", o.Queues.Local, o.Queues.Remote, o.Queues.Reply, o.Queues.Claimed))
	row(w, "services", fmt.Sprintf("%d commands, %d messages wait for them; %d commands have no service", o.Queues.Services, o.Queues.Waiting, o.Queues.Unserved))
	var states []string
	for _, s := range []backlog.LaneState{backlog.LaneSending, backlog.LaneWaiting, backlog.LaneFailing, backlog.LanePutOff, backlog.LanePaused} {
		states = append(states, fmt.Sprintf("%d %s", o.Lanes.States[s], strings.ReplaceAll(string(s), "_", " ")))
	}
	row(w, "lanes", strings.Join(states, ", ")+fmt.Sprintf("; %d requests and %d replies on them", o.Lanes.Requests, o.Lanes.Replies))
	row(w, "dead letters", o.Census.Dead)
	if len(o.Troubled) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "TWIN", "STATE", "REQUESTS", "OLDEST", "GOES ON IN", "WHY")
	for _, t := range o.Troubled {
		in := i.until(t.At)
		if t.State == backlog.LanePaused {
			in = "-"
		}
		row(w, t.Twin, t.State, t.Requests, i.since(t.OldestSince), in, inspect.Because(t.Reason, t.Detail))
	}
}

func top(i *inspection) error {
	if i.Duration("interval") < 100*time.Millisecond {
		return usageError("--interval must be 100ms or more")
	}
	ctx := i.Context.Context
	terminal := writesToTerminal(i.out)
	var before *inspect.Overview
	for n := 1; ; n++ {
		o, err := inspect.ReadOverview(ctx, i.store)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if terminal && !i.Bool("json") {
			fmt.Fprint(i.out, "\x1b[H\x1b[2J") // to the corner, and clear
		}
		passed := i.Duration("interval")
		if before != nil {
			passed = max(time.Millisecond, o.At.Sub(before.At))
		}
		if err := i.printTop(o, before, passed, terminal); err != nil {
			return err
		}
		before = o
		if n == i.Int("count") {
			return nil
		}
		sleep(ctx, i.Duration("interval"))
		if ctx.Err() != nil {
			return nil
		}
	}
}

// printTop prints a whole screen on a terminal, and a line otherwise.
func (i *inspection) printTop(o, before *inspect.Overview, passed time.Duration, terminal bool) error {
	if i.Bool("json") || terminal {
		return i.print(o, func(w io.Writer) {
			row(w, "at", o.At.UTC().Format(time.TimeOnly)+" by Redis's clock; Ctrl-C ends")
			i.printOverview(w, o, before, passed)
		})
	}
	w := tabwriter.NewWriter(i.out, 12, 0, 2, ' ', 0)
	if before == nil {
		row(w, "TIME", "WAITING", "ACCEPTED/S", "ANSWERED/S", "FAILED/S", "FAILING", "DEAD")
		before = o
	}
	rate := func(now, then int64) string { return fmt.Sprintf("%.0f", float64(now-then)/passed.Seconds()) }
	row(w, o.At.UTC().Format(time.TimeOnly), o.Stats.Waiting, rate(o.Stats.Accepted, before.Stats.Accepted),
		rate(o.Stats.Answered, before.Stats.Answered), rate(o.Stats.Failed, before.Stats.Failed), o.Lanes.States[backlog.LaneFailing], o.Census.Dead)
	return w.Flush()
}
