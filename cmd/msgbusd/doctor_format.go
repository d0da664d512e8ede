package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// The exit statuses of a Nagios plugin.
const (
	nagiosWarning  = 1
	nagiosCritical = 2
)

// doctorFormat returns how a diagnosis is printed. The function's error holds the exit
// status.
func doctorFormat(c *cli.Context) (func(*diagnosis, io.Writer) error, error) {
	format := c.String("format")
	if c.Bool("json") {
		format = "json"
	}
	switch format {
	case "text":
		return func(d *diagnosis, w io.Writer) error { return d.exit(d.print(w)) }, nil
	case "json":
		return func(d *diagnosis, w io.Writer) error { return d.exit(json.NewEncoder(w).Encode(d)) }, nil
	case "nagios":
		return (*diagnosis).printNagios, nil
	}
	return nil, usageError("--format %q is neither text, json nor nagios", format)
}

func (d *diagnosis) exit(err error) error {
	if err != nil || d.OK {
		return err
	}
	return exitCode{code: exitError} // what was printed says why
}

// printNagios prints one line: what is wrong, and figures to draw.
func (d *diagnosis) printNagios(w io.Writer) error {
	state, code := "OK", exitOK
	var why []string
	for _, p := range d.Problems {
		why = append(why, p.Reason)
		switch {
		case p.Critical:
			state, code = "CRITICAL", nagiosCritical
		case code != nagiosCritical:
			state, code = "WARNING", nagiosWarning
		}
	}
	text := "nothing is wrong"
	if len(why) > 0 {
		text = strings.Join(why, ", ")
	}
	_, err := fmt.Fprintf(w, "MSGBUSD %s - %s | waiting=%d accepted=%dc answered=%dc failed=%dc dead=%d\n", state, text,
		d.Counts.Waiting, d.Counts.Accepted, d.Counts.Answered, d.Counts.Failed, d.Dead)
	if err != nil || code == exitOK {
		return err
	}
	return exitCode{code: code}
}

// unanswered tells that Redis does not answer, in the form that was asked for.
func unanswered(s streams, c *cli.Context, err error) error {
	if c.String("format") != "nagios" {
		return err
	}
	fmt.Fprintf(s.out, "MSGBUSD CRITICAL - %s\n", oneLine(err.Error()))
	return exitCode{code: nagiosCritical}
}
