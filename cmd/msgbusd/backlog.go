package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/inspect"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

func backlogCommand(s streams) *cli.Command {
	return subcommands("backlog", "look at requests that have not ended; retry and drop them",
		&cli.Command{
			Name: "ls", Usage: "list requests, those first that end first", UsageText: "msgbusd backlog ls [options]",
			Flags:  inspectFlags(append(mostFlags("requests"), &cli.UintFlag{Name: "twin", Usage: "only requests to this `TWIN`"})...),
			Action: inspecting(s, 0, 0, listRequests),
		},
		&cli.Command{
			Name: "show", Usage: "print one request, with its data", UsageText: "msgbusd backlog show [options] UID",
			Flags: inspectFlags(&cli.IntFlag{Name: "bytes", Value: 1000, Usage: "print no more than so many `BYTES` of its data"}), Action: inspecting(s, 1, 1, showRequest),
		},
		&cli.Command{
			Name: "retry", Usage: "try a request now that waits because its twin could not be reached", UsageText: "msgbusd backlog retry [options] UID",
			Description: "What waits for one twin goes together: this is msgbusd lane retry for its twin.",
			Flags:       inspectFlags(), Action: inspecting(s, 1, 1, retryRequest),
		},
		&cli.Command{
			Name: "drop", Usage: "end requests with an error to their apps", UsageText: "msgbusd backlog drop [options] UID…",
			Description: "A reply that still comes is late then. What the service has done is done.",
			Flags:       inspectFlags(yesFlag()), Action: inspecting(s, 1, -1, dropRequests),
		})
}

func listRequests(i *inspection) error {
	views, total, err := i.store.ViewRequests(i.Context.Context, uint32(i.Uint("twin")), i.Int("skip"), i.Int("most"))
	if err != nil {
		return err
	}
	value := struct {
		Total    int64                 `json:"total"`
		Requests []backlog.RequestView `json:"requests"`
	}{total, views}
	return i.print(value, func(w io.Writer) {
		i.requestTable(w, views)
		if i.Uint("twin") == 0 && total > int64(len(views)) {
			fmt.Fprintf(w, "%d of %d; --skip and --most show others\n", len(views), total)
		}
	})
}

func (i *inspection) requestTable(w io.Writer, views []backlog.RequestView) {
	row(w, "UID", "COMMAND", "STATE", "AGE", "ENDS IN", "TRIES LEFT", "BYTES", "WHY")
	for _, v := range views {
		tries := "-"
		if v.TriesLeft >= 0 {
			tries = fmt.Sprint(v.TriesLeft)
		}
		row(w, v.UID, orDash(v.Command), v.State, i.since(v.Admitted), i.until(v.Deadline), tries, v.Bytes, inspect.Because(v.Reason, v.Detail))
	}
}

// noRequest says what it means that a request is not there.
func noRequest(uid string, err error) error {
	if !errors.Is(err, msgbus.ErrNotFound) {
		return err
	}
	return withHint(fmt.Errorf("no request %s waits here: it has ended, or never was", uid), "msgbusd backlog ls lists those that wait")
}

func showRequest(i *inspection) error {
	uid := i.Args().First()
	v, err := i.store.ViewRequest(i.Context.Context, uid)
	if err != nil {
		return noRequest(uid, err)
	}
	entry, err := i.store.Entry(i.Context.Context, uid)
	if err != nil {
		return noRequest(uid, err)
	}
	data, readable := []byte(entry.Message.Data), false
	if decoded, err := base64.StdEncoding.DecodeString(entry.Message.Data); err == nil {
		data, readable = decoded, true
	}
	cut := len(data) > i.Int("bytes")
	if cut {
		data = data[:max(0, i.Int("bytes"))]
	}
	value := struct {
		backlog.RequestView
		Data []byte `json:"data"` // base64 in JSON, as it is on the wire
		Cut  bool   `json:"cut"`
	}{v, data, cut}
	return i.print(value, func(w io.Writer) {
		row(w, "uid", v.UID)
		row(w, "twin", v.Twin)
		row(w, "command", v.Command)
		row(w, "state", v.State)
		row(w, "why", inspect.Because(v.Reason, v.Detail))
		row(w, "age", i.since(v.Admitted))
		row(w, "ends in", i.until(v.Deadline))
		if v.TriesLeft >= 0 {
			row(w, "tries left", v.TriesLeft)
		}
		row(w, "ret", v.ReturnQueue)
		row(w, "bytes", v.Bytes)
		text := string(data)
		if cut {
			text += " …"
		}
		if readable {
			row(w, "data", text)
		} else {
			row(w, "dat", text)
		}
	})
}

func retryRequest(i *inspection) error {
	uid := i.Args().First()
	v, err := i.store.ViewRequest(i.Context.Context, uid)
	if err != nil {
		return noRequest(uid, err)
	}
	if v.State == backlog.RequestSent {
		return withHint(fmt.Errorf("request %s has been sent: twin %d has it, and its reply is awaited", uid, v.Twin), "msgbusd trace %s, there and here, tells more", uid)
	}
	if _, err := i.retryLane(i.Context.Context, v.Twin); err != nil {
		return err
	}
	return i.print(map[string]any{"uid": uid, "lane": v.Twin}, func(w io.Writer) { fmt.Fprintf(w, "the lane to twin %d is due now\n", v.Twin) })
}

func dropRequests(i *inspection) error {
	uids := i.Args().Slice()
	if err := i.confirm("end %d requests with an error to their apps", len(uids)); err != nil {
		return err
	}
	for _, uid := range uids {
		if err := i.drop(uid); err != nil {
			return noRequest(uid, err)
		}
	}
	return i.print(map[string]any{"dropped": uids}, func(w io.Writer) { fmt.Fprintf(w, "%d requests ended\n", len(uids)) })
}

// drop ends a request as the relay of its twin would.
func (i *inspection) drop(uid string) error {
	if err := dropRequest(context.WithoutCancel(i.Context.Context), i.store, relay.Options{}, uid); err != nil {
		return err
	}
	return i.Context.Context.Err() // between two requests is early enough to stop
}

// dropRequest ends a request as the relay of its twin would, which need not run. o says
// who is told.
func dropRequest(ctx context.Context, store *backlog.Store, o relay.Options, uid string) error {
	entry, err := store.Entry(ctx, uid)
	if err != nil {
		return err
	}
	o.Twin, o.Log = entry.Message.Source, zerolog.Nop()
	return relay.New(o, store, nil).DropRequest(ctx, uid)
}
