package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/rs/zerolog/diode"
	"github.com/urfave/cli/v2"
)

var (
	logLevels  = []string{"debug", "info", "warn", "error", "fatal", "panic"}
	logFormats = []string{"console", "json"}
)

// A stderr that nobody reads must not hold up messages: lines are written behind
// a buffer of so many, and what does not fit is left out.
const bufferedLines = 10_000

// unblocked returns a writer that never waits for w, and what writes the rest of
// its lines, unless w takes none for a second.
func unblocked(w io.Writer) (io.Writer, func()) {
	buffer := diode.NewWriter(struct{ io.Writer }{w}, bufferedLines, 0, func(missed int) {
		_, _ = fmt.Fprintf(w, "%d lines of the log were left out: nobody took them\n", missed)
	})
	return buffer, func() {
		flushed := make(chan struct{})
		go func() {
			defer close(flushed)
			_ = buffer.Close()
		}()
		select {
		case <-flushed:
		case <-time.After(time.Second):
		}
	}
}

// newLog returns the log that the options ask for: lines for people, or JSON;
// without a time of their own where journald adds one.
func newLog(c *cli.Context, w io.Writer) (zerolog.Logger, error) {
	return newLogThrough(c, w, w)
}

// newLogThrough is newLog for lines that reach w through another writer.
func newLogThrough(c *cli.Context, w, through io.Writer) (zerolog.Logger, error) {
	level, err := zerolog.ParseLevel(c.String("log-level"))
	if err != nil || !slices.Contains(logLevels, c.String("log-level")) {
		return zerolog.Nop(), configError("--log-level %q is none of debug, info, warn, error, fatal, panic", c.String("log-level"))
	}
	journald := writesToJournal(w)
	switch format := c.String("log-format"); format {
	case "json":
	case "console":
		console := zerolog.ConsoleWriter{Out: through, TimeFormat: "15:04:05", NoColor: !writesToTerminal(w)}
		if journald {
			console.PartsExclude = []string{zerolog.TimestampFieldName}
		}
		through = console
	default:
		return zerolog.Nop(), configError("--log-format %q is neither console nor json", format)
	}
	log := zerolog.New(through).Level(level)
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
