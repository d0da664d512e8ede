package main

import (
	"context"
	"io"

	"github.com/urfave/cli/v2"
)

// streams are where a command reads and writes; tests pass their own.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run is the program. It returns the exit status, after it has written to
// stderr what went wrong and what to do next.
func run(ctx context.Context, args []string, s streams) int {
	return report(s.err, newApp(s).RunContext(ctx, args))
}

func newApp(s streams) *cli.App {
	app := &cli.App{
		Name:    "msgbusd",
		Usage:   "carries messages between the local Redis servers of different machines",
		Version: version,
		Flags:   daemonFlags(),
		Before:  refuseMisplacedOptions,
		Action:  func(c *cli.Context) error { return daemonCommand(c, s) },
		Commands: []*cli.Command{
			demoCommand(s),
			callCommand(s),
			serveCommand(s),
			publishCommand(s),
			subscribeCommand(s),
			benchCommand(s),
			registryCommand(s),
			statusCommand(s),
			topCommand(s),
			queueCommand(s),
			laneCommand(s),
			backlogCommand(s),
			deadCommand(s),
			groupCommand(s),
			eventCommand(s),
			traceCommand(s),
			doctorCommand(s),
			configCommand(s),
			keyCommand(s),
			signCommand(s),
			tokenCommand(s),
			completionCommand(s),
			versionCommand(s),
			manualCommand(s),
		},
		Reader:         s.in,
		Writer:         s.out,
		ErrWriter:      s.err,
		ExitErrHandler: func(*cli.Context, error) {}, // report decides
		OnUsageError:   onUsageError,
	}
	for _, c := range app.Commands {
		prepareCommand(c, "msgbusd")
	}
	app.CustomAppHelpTemplate = appHelp(app)
	return app
}

// prepareCommand gives a command what all have in common.
func prepareCommand(c *cli.Command, parent string) {
	c.OnUsageError = onUsageError
	// The library would give every command one named help: the argument of
	// `msgbusd call --dst 1002 help` is a command of twin 1002.
	c.HideHelpCommand = true
	c.CustomHelpTemplate = commandHelp(c, parent)
	for _, sub := range c.Subcommands {
		prepareCommand(sub, parent+" "+c.Name)
	}
}

// refuseMisplacedOptions keeps `msgbusd --redis X call …` from calling
// through another Redis than X.
func refuseMisplacedOptions(c *cli.Context) error {
	name := c.Args().First()
	if c.NumFlags() == 0 || c.App.Command(name) == nil {
		return nil
	}
	return withHint(usageError("options that stand before %q are those of the relay itself", name), "msgbusd %s --help lists its own, which stand after it", name)
}
