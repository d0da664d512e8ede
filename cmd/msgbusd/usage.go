package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// unknownOption is how package flag says it.
const unknownOption = "flag provided but not defined: -"

// onUsageError is asked about every option that cannot be read, on the
// command line or in the environment.
func onUsageError(c *cli.Context, err error, _ bool) error {
	// The library's words for a variable. A restart would not mend it.
	if strings.HasPrefix(err.Error(), "could not parse") {
		return exitCode{exitConfig, err}
	}
	help := strings.TrimSpace("msgbusd " + commandName(c))
	if name, unknown := strings.CutPrefix(err.Error(), unknownOption); unknown {
		err = usageError("there is no option --%s", name)
		if near := nearestOption(c.Command.Flags, name); near != "" {
			return withHint(err, "did you mean --%s? %s --help lists all", near, help)
		}
		return withHint(err, "%s --help lists all", help)
	}
	return withHint(exitCode{exitUsage, err}, "%s --help tells what each option takes", help)
}

// commandName is what stands between msgbusd and the options.
func commandName(c *cli.Context) string {
	if c.Command == nil || c.Command.Name == c.App.Name {
		return ""
	}
	return strings.TrimPrefix(strings.TrimPrefix(c.Command.HelpName, c.App.Name), " ")
}

// nearestOption returns the name that was likely meant, or "".
func nearestOption(flags []cli.Flag, name string) string {
	var names []string
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() {
			names = append(names, f.Names()[0])
		}
	}
	return nearest(names, name)
}

// unknownVariables warns of variables that look like settings and are none: a limit that
// somebody misspelt is not in force.
func unknownVariables(environment []string) (warnings []string) {
	var known []string
	for _, f := range daemonFlags() {
		known = append(known, variable(f.Names()[0])...)
	}
	for _, setting := range environment {
		name, _, _ := strings.Cut(setting, "=")
		if !strings.HasPrefix(name, "MSGBUSD_") || slices.Contains(known, name) {
			continue
		}
		warning := "the variable " + name + " is no setting, and changes nothing"
		if near := nearest(known, name); near != "" {
			warning += "; did you mean " + near + "?"
		}
		warnings = append(warnings, warning)
	}
	return warnings
}

// nearest returns the name that is at most two letters away, or "".
func nearest(names []string, word string) string {
	best, distance := "", 3
	for _, name := range names {
		if d := editDistance(name, word); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance counts the letters to insert, remove or change.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

var plainWord = regexp.MustCompile(`^[A-Za-z-]{1,20}$`)

// noSuchCommand tells about a first argument that is no command. It may be
// part of a phrase that somebody forgot to quote, so it is repeated only when
// it cannot be.
func noSuchCommand(c *cli.Context) error {
	name := c.Args().First()
	if c.IsSet("mnemonics") || c.IsSet("menmonics") || !plainWord.MatchString(name) {
		return withHint(usageError("an argument stands where none is expected"),
			"a phrase is one argument: --mnemonics \"word word …\"; better, --mnemonics-file FILE")
	}
	var names []string
	for _, command := range c.App.Commands {
		names = append(names, command.Name)
	}
	if near := nearest(names, name); near != "" {
		return withHint(usageError("there is no command %q", name), "did you mean %s? msgbusd --help lists all", near)
	}
	return withHint(usageError("there is no command %q", name), "msgbusd --help lists all")
}
