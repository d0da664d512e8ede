package main

import (
	"io"
	"os"
	"slices"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

var logLevels = []string{"debug", "info", "warn", "error", "fatal", "panic"}

// newLog returns the log that the options ask for: lines for people, or JSON;
// without a time of their own where journald adds one.
func newLog(c *cli.Context, w io.Writer) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(c.String("log-level"))
	if err != nil || !slices.Contains(logLevels, c.String("log-level")) {
		return zerolog.Nop(), configError("--log-level %q is none of debug, info, warn, error, fatal, panic", c.String("log-level"))
	}
	journald := writesToJournal(w)
	switch format := c.String("log-format"); format {
	case "json":
	case "console":
		console := zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05", NoColor: !writesToTerminal(w)}
		if journald {
			console.PartsExclude = []string{zerolog.TimestampFieldName}
		}
		w = console
	default:
		return zerolog.Nop(), configError("--log-format %q is neither console nor json", format)
	}
	log := zerolog.New(w).Level(level)
	if journald {
		return log, nil
	}
	return log.With().Timestamp().Logger(), nil
}

func writesToTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// writesToJournal tells whether journald reads what is written. That its
// variable is set is not enough: what a unit starts inherits it.
func writesToJournal(w io.Writer) bool {
	if w != os.Stderr {
		return false
	}
	is, err := journal.StderrIsJournalStream()
	return err == nil && is
}
