package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/inspect"
	"github.com/msgbusd/msgbusd/internal/redisacl"
)

// What the commands have in common that look at what is kept in the local Redis, or
// change it. They need no relay that runs.

// An inspection is one such command at work.
type inspection struct {
	streams
	*cli.Context
	store *backlog.Store
}

// inspecting is a command that looks at the local Redis. It takes from least to most
// arguments; most < 0 stands for any number.
func inspecting(s streams, least, most int, do func(*inspection) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if n := c.NArg(); n < least || most >= 0 && n > most {
			return withHint(usageError("%s takes %s", c.Command.HelpName, arguments(least, most)), "%s; options stand before the arguments", strings.TrimSpace(c.Command.UsageText))
		}
		store, err := localStore(c)
		if err != nil {
			return err
		}
		defer store.Close()
		return do(&inspection{s, c, store})
	}
}

// localStore opens what is kept in the Redis that the options name, and reads its clock.
func localStore(c *cli.Context) (*backlog.Store, error) {
	where, err := readRedis(c)
	if err != nil {
		return nil, err
	}
	store, err := backlog.Open(backlog.Options{Redis: where, Prefix: c.String("redis-prefix")})
	if err != nil {
		return nil, err
	}
	err = store.ReadClock(c.Context)
	if err == nil {
		return store, nil
	}
	rights, rightsErr := store.Rights(c.Context, false)
	_ = store.Close()
	if rightsErr == nil && len(rights.Missing) > 0 {
		return nil, notAllowed(err, rights)
	}
	return nil, noRedis(where, err)
}

// notAllowed is an error of Redis with what the user needs.
func notAllowed(err error, rights redisacl.Rights) error {
	return withHint(fmt.Errorf("the user %s may not do all that is needed in Redis: %w", rights.User, err), "%s", rights.Grant())
}

func arguments(least, most int) string {
	switch {
	case most == 0:
		return "no arguments"
	case least == most:
		return strconv.Itoa(least) + " argument"
	case least == 0:
		return "any number of arguments"
	default:
		return "one argument or more"
	}
}

// inspectFlags are the options of such a command.
func inspectFlags(more ...cli.Flag) []cli.Flag {
	return append(append(more, &cli.BoolFlag{Name: "json", Usage: "print JSON"}), redisFlags()...)
}

func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Usage: "do it without asking, as scripts must say"}
}

// mostFlags say which part of a long list is printed.
func mostFlags(what string) []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "most", Value: 50, Usage: "print no more than this `NUMBER` of " + what},
		&cli.IntFlag{Name: "skip", Usage: "leave out the first `NUMBER` of them"},
	}
}

// subcommands is a command that only has sub-commands.
func subcommands(name, usage string, commands ...*cli.Command) *cli.Command {
	var names []string
	for _, c := range commands {
		names = append(names, "msgbusd "+name+" "+c.Name)
	}
	return &cli.Command{
		Name: name, Usage: usage, UsageText: "msgbusd " + name + " COMMAND [options] [arguments]", Subcommands: commands,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return withHint(usageError("%s cannot %q", name, c.Args().First()), "%s", strings.Join(names, ", "))
			}
			return withHint(usageError("%s needs to know what to do", name), "%s", strings.Join(names, ", "))
		},
	}
}

// print writes a value as JSON, or as text by a function that gets a table writer.
func (i *inspection) print(value any, text func(w io.Writer)) error {
	if i.Bool("json") {
		return json.NewEncoder(i.out).Encode(value)
	}
	w := tabwriter.NewWriter(i.out, 0, 0, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// row writes a line of a table. What apps and strangers wrote stays on its line.
func row(w io.Writer, cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, oneLine(fmt.Sprint(cell)))
	}
	fmt.Fprintln(w)
}

// confirm asks on a terminal before something is lost for good.
func (i *inspection) confirm(format string, args ...any) error {
	if i.Bool("yes") {
		return nil
	}
	what := fmt.Sprintf(format, args...)
	file, ok := i.in.(*os.File)
	if !ok || !isatty.IsTerminal(file.Fd()) {
		return withHint(usageError("nobody is there to be asked whether to %s", what), "--yes does it without asking")
	}
	fmt.Fprintf(i.err, "%s? [y/N] ", strings.ToUpper(what[:1])+what[1:])
	answer, _ := bufio.NewReader(file).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return exitCode{exitError, fmt.Errorf("nothing was changed")}
	}
	return nil
}

// twins reads the arguments as twins.
func (i *inspection) twins() ([]uint32, error) { return parseTwins(i.Args().Slice()) }

func parseTwins(arguments []string) ([]uint32, error) {
	var twins []uint32
	for _, text := range arguments {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil || id == 0 || id > math.MaxUint32 {
			return nil, usageError("%q is no twin id", text)
		}
		twins = append(twins, uint32(id))
	}
	return twins, nil
}

// since is how long ago something was, or is to be, by Redis's clock, to the second.
func (i *inspection) since(t time.Time) string {
	if t.IsZero() || t.UnixMilli() == 0 {
		return "-"
	}
	return inspect.Short(i.store.Now().Sub(t))
}

// until is since for what is to come.
func (i *inspection) until(t time.Time) string {
	if t.IsZero() || t.UnixMilli() == 0 {
		return "-"
	}
	return inspect.Short(t.Sub(i.store.Now()))
}

// orDash is a text for a table, in which nothing would leave a hole.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
