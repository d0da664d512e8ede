package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

func configCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "config",
		Usage:     "print each setting of the relay, and where its value is from",
		UsageText: "msgbusd config [--json] [options of the relay]",
		Description: "Reads the options, the environment and the configuration file as the relay does, and says what it\n" +
			"would refuse. Secrets are not shown.\n\n" +
			"Exit status: 0 a relay would start with these, 78 it would not.",
		Flags:  append(daemonFlags(), &cli.BoolFlag{Name: "json", Category: groupOutput, Usage: "print JSON"}),
		Action: func(c *cli.Context) error { return config(c, s.out) },
	}
}

func config(c *cli.Context, out io.Writer) error {
	if c.Args().Present() {
		return withHint(usageError("config takes no arguments"), "msgbusd config --help lists its options")
	}
	o, err := readOptions(c)
	if err != nil {
		return err
	}
	write := writeSourced
	if c.Bool("json") {
		write = writeSourcedJSON
	}
	if err := write(out, o.list()); err != nil {
		return err
	}
	_, err = o.check()
	return err
}

func writeSourcedJSON(out io.Writer, all []sourced) error {
	shown := []sourced{}
	for _, s := range all {
		if !s.hidden {
			shown = append(shown, s)
		}
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // patterns and addresses are to be read
	return e.Encode(map[string]any{"settings": shown})
}

// writeSourced aligns what fits; a long list moves its source to the right and no
// other's.
func writeSourced(out io.Writer, all []sourced) error {
	const longest = 40
	names, texts := 0, 0
	for _, s := range all {
		names = max(names, len(s.Name))
		if n := utf8.RuneCountInString(s.text); n <= longest {
			texts = max(texts, n)
		}
	}
	var b strings.Builder
	group := ""
	for _, s := range all {
		if s.hidden {
			continue
		}
		if s.Group != group {
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("\n", min(b.Len(), 1)), s.Group)
			group = s.Group
		}
		source := strings.TrimSpace(s.Source + " " + oneLine(s.From))
		fmt.Fprintf(&b, "  %-*s  %-*s  %s\n", names, s.Name, texts, s.text, source)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
