package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

func deadCommand(s streams) *cli.Command {
	which := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "all that were buried for this `REASON`, instead of naming them"},
			&cli.BoolFlag{Name: "all", Usage: "all, instead of naming them"},
		}
	}
	return subcommands("dead", "look at messages that nobody could handle; retry and drop them",
		&cli.Command{
			Name: "ls", Usage: "list dead letters, the latest first", UsageText: "msgbusd dead ls [options]",
			Flags: inspectFlags(
				&cli.IntFlag{Name: "most", Value: 50, Usage: "print no more than this `NUMBER` of them"},
				&cli.StringFlag{Name: "before", Usage: "those before the one with this `ID`"},
				&cli.StringFlag{Name: "reason", Usage: "only those that were buried for this `REASON`"}),
			Action: inspecting(s, 0, 0, listDead),
		},
		&cli.Command{
			Name: "show", Usage: "print one dead letter", UsageText: "msgbusd dead show [options] ID",
			Flags: inspectFlags(&cli.IntFlag{Name: "bytes", Value: 4000, Usage: "print no more than so many `BYTES` of the message"}), Action: inspecting(s, 1, 1, showDead),
		},
		&cli.Command{
			Name: "retry", Usage: "put dead letters back to where they came from", UsageText: "msgbusd dead retry [options] ID…|--reason REASON|--all",
			Description: "They go to the end of their queue, as if they had just been pushed.",
			Flags:       inspectFlags(which()...), Action: inspecting(s, 0, -1, retryDead),
		},
		&cli.Command{
			Name: "drop", Usage: "drop dead letters: they are forgotten for good", UsageText: "msgbusd dead drop [options] ID…|--reason REASON|--all",
			Flags: inspectFlags(append(which(), yesFlag())...), Action: inspecting(s, 0, -1, dropDead),
		})
}

// deadLine is how many bytes of a message a line shows.
const deadLine = 80

func listDead(i *inspection) error {
	if i.Int("most") < 1 {
		return usageError("--most must be 1 or more")
	}
	letters, next, err := i.store.DeadLetters(i.Context.Context, i.String("before"), msgbus.Reason(i.String("reason")), i.Int("most"), deadLine)
	if err != nil {
		return err
	}
	if letters == nil {
		letters = []backlog.DeadLetter{}
	}
	return i.print(letters, func(w io.Writer) {
		row(w, "ID", "AGE", "FROM", "REASON", "BYTES", "MESSAGE")
		for _, l := range letters {
			text := l.Message
			if l.Bytes > len(text) {
				text += " …"
			}
			row(w, l.ID, i.since(l.At), l.Queue, l.Reason, l.Bytes, text)
		}
		if next != "" {
			fmt.Fprintf(w, "there are more: --before %s\n", next)
		}
	})
}

// noLetter says what it means that a dead letter is not there.
func noLetter(id string, err error) error {
	switch {
	case errors.Is(err, msgbus.ErrNotFound):
		return withHint(fmt.Errorf("there is no dead letter %s", id), "msgbusd dead ls lists them")
	case errors.Is(err, backlog.ErrNoRetry), errors.Is(err, backlog.ErrNoList):
		return withHint(err, "msgbusd dead show %s prints it, msgbusd dead drop %s drops it for good", id, id)
	}
	return err
}

func showDead(i *inspection) error {
	id := i.Args().First()
	letter, err := i.store.DeadLetter(i.Context.Context, id)
	if err != nil {
		return noLetter(id, err)
	}
	if most := max(0, i.Int("bytes")); len(letter.Message) > most {
		letter.Message = letter.Message[:most]
	}
	return i.print(letter, func(w io.Writer) {
		row(w, "id", letter.ID)
		row(w, "buried", letter.At.UTC().Format(time.RFC3339)+", "+i.since(letter.At)+" ago")
		row(w, "from", letter.Queue)
		if letter.To != "" {
			row(w, "for", letter.To)
		}
		row(w, "reason", letter.Reason)
		row(w, "detail", orDash(letter.Detail))
		row(w, "bytes", letter.Bytes)
		row(w, "message", letter.Message)
	})
}

// chosenDead returns the dead letters that the arguments or options name.
func (i *inspection) chosenDead() ([]string, error) {
	ids := i.Args().Slice()
	all := i.Bool("all") || i.String("reason") != ""
	if all == (len(ids) > 0) {
		return nil, withHint(usageError("%s takes ids, or --reason, or --all", i.Command.HelpName), "msgbusd dead ls lists them")
	}
	if !all {
		return ids, nil
	}
	return i.store.DeadIDs(i.Context.Context, msgbus.Reason(i.String("reason")))
}

func retryDead(i *inspection) error {
	ids, err := i.chosenDead()
	if err != nil {
		return err
	}
	back, left, err := i.store.RetryDeadLetters(i.Context.Context, ids...)
	if err != nil {
		return err
	}
	if len(ids) == 1 && len(left) == 1 {
		return noLetter(ids[0], left[0])
	}
	reasons := []string{}
	for _, why := range left {
		reasons = append(reasons, why.Error())
	}
	err = i.print(map[string]any{"retried": append([]string{}, back...), "left": reasons}, func(w io.Writer) {
		fmt.Fprintf(w, "%d dead letters put back\n", len(back))
		for _, why := range reasons {
			row(w, "left: "+why)
		}
	})
	if err == nil && len(left) > 0 {
		err = withHint(fmt.Errorf("%d of %d dead letters cannot be put back", len(left), len(ids)), "msgbusd dead show ID prints one, msgbusd dead drop ID drops it for good")
	}
	return err
}

func dropDead(i *inspection) error {
	ids, err := i.chosenDead()
	if err != nil {
		return err
	}
	if err := i.confirm("drop %d dead letters for good", len(ids)); err != nil {
		return err
	}
	dropped, err := i.store.DropDeadLetters(i.Context.Context, ids...)
	if err != nil {
		return err
	}
	return i.print(map[string]int64{"dropped": dropped}, func(w io.Writer) { fmt.Fprintf(w, "%d dead letters dropped\n", dropped) })
}
