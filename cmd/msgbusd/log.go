package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
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

// A threshold is the least level that is logged. It may change at any time, for
// all loggers that came of one. As their sampler it keeps them from putting
// together what nobody will see; those with a sampler of their own do not ask it
// then, and so it is their writer too.
type threshold struct {
	least atomic.Int32
	out   io.Writer
}

func (t *threshold) set(l zerolog.Level) { t.least.Store(int32(l)) }

func (t *threshold) now() zerolog.Level { return zerolog.Level(t.least.Load()) }

func (t *threshold) Sample(l zerolog.Level) bool { return int32(l) >= t.least.Load() }

func (t *threshold) Write(line []byte) (int, error) { return t.out.Write(line) }

func (t *threshold) WriteLevel(l zerolog.Level, line []byte) (int, error) {
	if !t.Sample(l) {
		return len(line), nil
	}
	return t.out.Write(line)
}

// newLog returns the log that the options ask for: lines for people, or JSON;
// without a time of their own where journald adds one.
func newLog(c *cli.Context, w io.Writer) (zerolog.Logger, error) {
	log, _, err := newLogThrough(c, w, w)
	return log, err
}

func readLogLevel(c *cli.Context) (zerolog.Level, error) {
	level, err := zerolog.ParseLevel(c.String("log-level"))
	if err != nil || !slices.Contains(logLevels, c.String("log-level")) {
		return 0, configError("--log-level %q is none of debug, info, warn, error, fatal, panic", c.String("log-level"))
	}
	return level, nil
}

// newLogThrough is newLog for lines that reach w through another writer, with
// what changes its level.
func newLogThrough(c *cli.Context, w, through io.Writer) (zerolog.Logger, *threshold, error) {
	level, err := readLogLevel(c)
	if err != nil {
		return zerolog.Nop(), nil, err
	}
	journald := writesToJournal(w)
	switch format := c.String("log-format"); format {
	case "json":
	case "console":
		console := zerolog.ConsoleWriter{Out: through, TimeFormat: "15:04:05", NoColor: !writesToTerminal(w)}
		if journald {
			console.PartsExclude = []string{zerolog.TimestampFieldName}
			console.FormatLevel = levelForJournal
		}
		through = console
	default:
		return zerolog.Nop(), nil, configError("--log-format %q is neither console nor json", format)
	}
	t := &threshold{out: through}
	t.set(level)
	log := zerolog.New(t).Sample(t)
	if journald {
		return log, t, nil
	}
	return log.With().Timestamp().Logger(), t, nil
}

// levelForJournal begins a line with its priority (sd-daemon(3)), which journald takes
// off it: journalctl -p warning shows what is worth a look.
func levelForJournal(name any) string {
	level, err := zerolog.ParseLevel(fmt.Sprint(name))
	if err != nil {
		return ""
	}
	return priority(level) + zerolog.FormattedLevels[level]
}

func priority(l zerolog.Level) string {
	switch {
	case l >= zerolog.FatalLevel:
		return "<2>"
	case l == zerolog.ErrorLevel:
		return "<3>"
	case l == zerolog.WarnLevel:
		return "<4>"
	case l == zerolog.InfoLevel:
		return "<6>"
	}
	return "<7>"
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
