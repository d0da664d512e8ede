package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/msgbus"
)

func groupCommand(s streams) *cli.Command {
	return subcommands("group", "look at groups of twins, which apps can call by one name; change them",
		&cli.Command{
			Name: "ls", Usage: "list the groups with their twins", UsageText: "msgbusd group ls [options]",
			Flags: inspectFlags(), Action: inspecting(s, 0, 0, listGroups),
		},
		&cli.Command{
			Name: "add", Usage: "add twins to a group, which need not be there yet", UsageText: "msgbusd group add [options] GROUP TWIN…",
			Flags: inspectFlags(), Action: inspecting(s, 2, -1, func(i *inspection) error { return i.changeGroup("added to", i.store.AddToGroup) }),
		},
		&cli.Command{
			Name: "remove", Usage: "take twins out of a group", UsageText: "msgbusd group remove [options] GROUP TWIN…",
			Flags: inspectFlags(), Action: inspecting(s, 2, -1, func(i *inspection) error { return i.changeGroup("removed from", i.store.RemoveFromGroup) }),
		})
}

func listGroups(i *inspection) error {
	names, err := i.store.Groups(i.Context.Context)
	if err != nil {
		return err
	}
	type group struct {
		Name  string   `json:"name"`
		Twins []uint32 `json:"twins"`
	}
	groups := []group{}
	for _, name := range names {
		twins, err := i.store.Group(i.Context.Context, name)
		if err != nil {
			return err
		}
		groups = append(groups, group{name, twins})
	}
	return i.print(groups, func(w io.Writer) {
		row(w, "GROUP", "TWINS")
		for _, g := range groups {
			row(w, g.Name, strings.Trim(fmt.Sprint(g.Twins), "[]"))
		}
	})
}

// changeGroup does something with the twins that stand behind a group's name.
func (i *inspection) changeGroup(done string, do func(context.Context, string, []uint32) (int64, error)) error {
	name := i.Args().First()
	if !msgbus.ValidGroup(name) {
		return usageError("%q is no group: one word of letters, digits, _, -, : and @, at most %d", name, msgbus.MaxID)
	}
	twins, err := parseTwins(i.Args().Tail())
	if err != nil {
		return err
	}
	n, err := do(i.Context.Context, name, twins)
	if err != nil {
		return err
	}
	return i.print(map[string]int64{"changed": n}, func(w io.Writer) { fmt.Fprintf(w, "%d twins %s group %s\n", n, done, name) })
}
