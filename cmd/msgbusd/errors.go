package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

// Exit codes, as systemd and scripts know them. call has its own.
const (
	exitOK     = 0
	exitError  = 1
	exitUsage  = 2
	exitConfig = 78 // EX_CONFIG: trying again will not help (RestartPreventExitStatus)
)

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

// configError is about settings: wrong until somebody changes them.
func configError(format string, args ...any) error {
	return exitCode{exitConfig, fmt.Errorf(format, args...)}
}

// usageError is about the command line.
func usageError(format string, args ...any) error {
	return exitCode{exitUsage, fmt.Errorf(format, args...)}
}

// report writes what went wrong and what to do next, and returns the exit status.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitError
	var own exitCode
	var library cli.ExitCoder // only its help command makes one: no such topic
	switch {
	case errors.As(err, &own):
		code = own.code
		if own.err == nil {
			return code
		}
	case errors.As(err, &library):
		code = exitUsage
	}
	mark := ""
	if writesToJournal(w) {
		mark = priority(zerolog.ErrorLevel)
	}
	fmt.Fprintf(w, "%smsgbusd: %s\n", mark, err)
	var h hinted
	if errors.As(err, &h) {
		fmt.Fprintf(w, "%shint: %s\n", mark, h.hint)
	}
	return code
}
