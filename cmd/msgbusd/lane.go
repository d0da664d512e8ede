package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/inspect"
	"github.com/msgbusd/msgbusd/msgbus"
)

func laneCommand(s streams) *cli.Command {
	return subcommands("lane", "look at what waits for other twins; pause, resume, retry",
		&cli.Command{
			Name: "ls", Usage: "list the lanes on which something waits", UsageText: "msgbusd lane ls [options]",
			Flags: inspectFlags(), Action: inspecting(s, 0, 0, listLanes),
		},
		&cli.Command{
			Name: "show", Usage: "print the lane to one twin, and its first requests", UsageText: "msgbusd lane show [options] TWIN",
			Flags: inspectFlags(), Action: inspecting(s, 1, 1, showLane),
		},
		&cli.Command{
			Name: "pause", Usage: "send nothing to a twin until its lane is resumed", UsageText: "msgbusd lane pause [options] TWIN…",
			Description: "Requests wait, and end at their deadlines. A lane stays paused over restarts.",
			Flags:       inspectFlags(), Action: inspecting(s, 1, -1, func(i *inspection) error { return i.lanes("paused", i.store.PauseLane) }),
		},
		&cli.Command{
			Name: "resume", Usage: "let a lane that was paused go on", UsageText: "msgbusd lane resume [options] TWIN…",
			Flags: inspectFlags(), Action: inspecting(s, 1, -1, func(i *inspection) error { return i.lanes("resumed", i.store.ResumeLane) }),
		},
		&cli.Command{
			Name: "retry", Usage: "try a twin now that could not be reached, instead of after the rest", UsageText: "msgbusd lane retry [options] TWIN…",
			Flags: inspectFlags(), Action: inspecting(s, 1, -1, func(i *inspection) error { return i.lanes("due now", i.retryLane) }),
		},
		&cli.Command{
			Name: "drop", Usage: "end all requests that wait for a twin, with an error to their apps", UsageText: "msgbusd lane drop [options] TWIN",
			Flags: inspectFlags(yesFlag()), Action: inspecting(s, 1, 1, dropLane),
		})
}

func listLanes(i *inspection) error {
	views, err := i.store.ViewLanes(i.Context.Context)
	if err != nil {
		return err
	}
	return i.print(views, func(w io.Writer) {
		row(w, "TWIN", "STATE", "SINCE/IN", "REQUESTS", "PUT OFF", "REPLIES", "FAILED", "WHY")
		for _, v := range views {
			row(w, v.Twin, v.State, i.when(v), v.Requests, v.PutOff, v.Replies, v.Failures, inspect.Because(v.Reason, v.Detail))
		}
	})
}

// when tells since when a lane is paused, or in how long it goes on.
func (i *inspection) when(v backlog.LaneView) string {
	if v.State == backlog.LanePaused {
		return i.since(v.At)
	}
	return i.until(v.At)
}

// lane reads the lane that the first argument names.
func (i *inspection) lane() (backlog.LaneView, error) {
	twins, err := i.twins()
	if err != nil {
		return backlog.LaneView{}, err
	}
	return i.store.ViewLane(i.Context.Context, twins[0])
}

func showLane(i *inspection) error {
	lane, err := i.lane()
	if err != nil {
		return err
	}
	requests, _, err := i.store.ViewRequests(i.Context.Context, lane.Twin, 0, 10)
	if err != nil {
		return err
	}
	value := struct {
		backlog.LaneView
		First []backlog.RequestView `json:"first"`
	}{lane, requests}
	return i.print(value, func(w io.Writer) {
		row(w, "twin", lane.Twin)
		row(w, "state", lane.State)
		switch lane.State {
		case backlog.LanePaused:
			row(w, "paused for", i.since(lane.At))
		case backlog.LaneFailing, backlog.LanePutOff:
			row(w, "goes on in", i.until(lane.At))
		}
		row(w, "why", inspect.Because(lane.Reason, lane.Detail))
		row(w, "failed", fmt.Sprintf("%d attempts one after another", lane.Failures))
		row(w, "requests", fmt.Sprintf("%d, of which %d put off", lane.Requests, lane.PutOff))
		row(w, "replies", lane.Replies)
		if len(requests) > 0 {
			fmt.Fprintln(w)
			i.requestTable(w, requests)
		}
	})
}

// lanes does something to each lane that is named.
func (i *inspection) lanes(done string, do func(context.Context, uint32) (bool, error)) error {
	twins, err := i.twins()
	if err != nil {
		return err
	}
	type result struct {
		Twin    uint32 `json:"twin"`
		Changed bool   `json:"changed"`
	}
	var results []result
	for _, twin := range twins {
		changed, err := do(i.Context.Context, twin)
		if err != nil {
			return err
		}
		results = append(results, result{twin, changed})
	}
	return i.print(results, func(w io.Writer) {
		for _, r := range results {
			if r.Changed {
				fmt.Fprintf(w, "lane %d is %s\n", r.Twin, done)
			} else {
				fmt.Fprintf(w, "lane %d is as it was\n", r.Twin)
			}
		}
	})
}

// retryLane ends the rest of a lane that is not paused.
func (i *inspection) retryLane(ctx context.Context, twin uint32) (bool, error) {
	err := i.store.RetryLane(ctx, twin)
	if errors.Is(err, backlog.ErrPaused) {
		err = withHint(err, "msgbusd lane resume %d lets it go on", twin)
	}
	return err == nil, err
}

func dropLane(i *inspection) error {
	lane, err := i.lane()
	if err != nil {
		return err
	}
	if err := i.confirm("end %d requests to twin %d with an error to their apps", lane.Requests, lane.Twin); err != nil {
		return err
	}
	dropped, skip := 0, 0
	for {
		requests, _, err := i.store.ViewRequests(i.Context.Context, lane.Twin, skip, 100)
		if err != nil {
			return err
		}
		if len(requests) == 0 {
			break
		}
		for _, r := range requests {
			if r.State == backlog.RequestSent { // its reply is awaited, and nothing waits on the lane
				skip++
				continue
			}
			err := i.drop(r.UID)
			if err != nil && !errors.Is(err, msgbus.ErrNotFound) {
				return err
			}
			dropped++
		}
	}
	return i.print(map[string]int{"dropped": dropped}, func(w io.Writer) { fmt.Fprintf(w, "%d requests ended\n", dropped) })
}
