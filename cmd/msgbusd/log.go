package main

import (
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// newLog returns the log of a daemon: lines for people, without a time of
// their own where journald adds one, or JSON.
func newLog(w io.Writer, level, format string) (zerolog.Logger, error) {
	lvl, err := zerolog.ParseLevel(strings.ToLower(level))
	if err != nil || level == "" {
		return zerolog.Nop(), configError("--log-level %q is none of debug, info, warn, error, fatal, panic", level)
	}
	zerolog.TimeFieldFormat = time.RFC3339
	switch format {
	case "json":
		return zerolog.New(w).Level(lvl).With().Timestamp().Logger(), nil
	case "console":
	default:
		return zerolog.Nop(), configError("--log-format %q is neither console nor json", format)
	}
	file, isFile := w.(*os.File)
	console := zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05", NoColor: !isFile || !isatty.IsTerminal(file.Fd())}
	context := zerolog.New(console).Level(lvl).With()
	if os.Getenv("JOURNAL_STREAM") != "" {
		console.PartsExclude = []string{zerolog.TimestampFieldName}
		return zerolog.New(console).Level(lvl), nil
	}
	return context.Timestamp().Logger(), nil
}

// fromEnvironment tells whether a flag's value came from its variable.
func fromEnvironment(flag string) bool {
	_, ok := os.LookupEnv(env(flag)[0])
	return ok
}
