package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"
)

// Exit codes, as systemd and scripts know them.
const (
	exitOK     = 0
	exitError  = 1
	exitUsage  = 2
	exitConfig = 78 // EX_CONFIG: trying again will not help (RestartPreventExitStatus)
)

// streams are where a command reads and writes; tests pass their own.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// An exitCode is an error that decides the exit status.
type exitCode struct {
	code int
	err  error // nil when everything has been said
}

func (e exitCode) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e exitCode) Unwrap() error { return e.err }

// A hinted is an error that says what to do next.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

func withHint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

func configError(format string, args ...any) error {
	return exitCode{exitConfig, fmt.Errorf(format, args...)}
}

func usageError(format string, args ...any) error {
	return exitCode{exitUsage, fmt.Errorf(format, args...)}
}

// run is the program. It returns the exit status, after it has written to
// stderr what went wrong and what to do next.
func run(ctx context.Context, args []string, s streams) int {
	app := newApp(s)
	err := app.RunContext(ctx, args)
	if err == nil {
		return exitOK
	}
	code := exitCode{code: exitError, err: err}
	if !errors.As(err, &code) {
		code.err = err
	}
	if code.err != nil {
		fmt.Fprintf(s.err, "msgbusd: %s\n", code.err)
		var h hinted
		if errors.As(err, &h) {
			fmt.Fprintf(s.err, "hint: %s\n", h.hint)
		}
	}
	return code.code
}

func newApp(s streams) *cli.App {
	app := &cli.App{
		Name:        "msgbusd",
		Usage:       "the relay between the local Redis of programs on different machines",
		UsageText:   "msgbusd --substrate URL --mnemonics-file FILE --twin N [options]\n   msgbusd COMMAND [options] [arguments]",
		Version:     version,
		HideVersion: true,
		Flags:       daemonFlags(),
		Action:      func(c *cli.Context) error { return daemonCommand(c, s) },
		Commands: []*cli.Command{
			demoCommand(s),
			registryCommand(s),
			callCommand(s),
			serveCommand(s),
			signCommand(s),
			keyCommand(s),
			versionCommand(s),
		},
		Reader:               s.in,
		Writer:               s.out,
		ErrWriter:            s.err,
		ExitErrHandler:       func(*cli.Context, error) {}, // run decides
		OnUsageError:         onUsageError,
		EnableBashCompletion: false,
		Suggest:              true,
	}
	for _, c := range app.Commands {
		c.OnUsageError = onUsageError
		for _, sub := range c.Subcommands {
			sub.OnUsageError = onUsageError
		}
	}
	return app
}

func onUsageError(_ *cli.Context, err error, _ bool) error {
	return withHint(exitCode{exitUsage, err}, "msgbusd --help lists the options; options come before arguments")
}
