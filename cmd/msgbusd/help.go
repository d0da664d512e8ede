package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// The library's help puts an option on one line of up to 200 characters, with
// the variable that its name already tells. Ours is made for a terminal.
const (
	helpWidth  = 100
	helpIndent = 28 // where the texts begin
)

// optionGroups is the order in which the help shows options.
var optionGroups = [...]string{groupIdentity, groupNetwork, groupTLS, groupRedis, groupServices, groupLimits, groupLog, ""}

const (
	groupIdentity = "Who this twin is"
	groupNetwork  = "Network"
	groupTLS      = "TLS (files are read again when they change)"
	groupRedis    = "Local Redis"
	groupServices = "Services"
	groupLimits   = "Limits"
	groupLog      = "Log and configuration"
)

// appHelp is a template in the library's sense, of which nothing varies.
func appHelp(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, "msgbusd %s\n\nUsage:\n", app.Usage)
	b.WriteString("  msgbusd --substrate URL --mnemonics-file FILE [--twin ID] [options]    run the relay of a twin\n")
	b.WriteString("  msgbusd COMMAND [options] [arguments]\n")
	b.WriteString("\nCommands (msgbusd COMMAND --help tells more):\n")
	writeCommands(&b, app.Commands)
	writeOptions(&b, app.Flags)
	b.WriteString(`
Each option of the relay is a variable too: --peer-port is MSGBUSD_PEER_PORT, lists are separated by
commas. In the YAML file of --config it is peer-port. Options win over variables, variables over the file.

Exit status: 0 stopped, 1 error, 2 wrong usage, 78 wrong configuration (starting again will not help).

New here? msgbusd demo runs two twins on this machine and tells what to try.
`)
	return b.String()
}

// commandHelp is the same for a command.
func commandHelp(c *cli.Command, parent string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s\n\nUsage:\n", parent, c.Name, c.Usage)
	usage := c.UsageText
	if usage == "" {
		usage = parent + " " + c.Name + " [options]"
	}
	fmt.Fprintf(&b, "  %s\n", usage)
	if c.Description != "" {
		fmt.Fprintf(&b, "\n%s\n", c.Description)
	}
	if len(c.Subcommands) > 0 {
		b.WriteString("\nCommands:\n")
		writeCommands(&b, c.Subcommands)
	}
	writeOptions(&b, c.Flags)
	return b.String()
}

func writeCommands(b *strings.Builder, commands []*cli.Command) {
	for _, c := range commands {
		fmt.Fprintf(b, "  %-10s %s\n", c.Name, c.Usage)
	}
}

// writeOptions groups the options of the relay; a command has few enough to
// do without.
func writeOptions(b *strings.Builder, flags []cli.Flag) {
	grouped := slices.ContainsFunc(flags, func(f cli.Flag) bool { return groupOf(f) == groupNetwork })
	if !grouped {
		if len(flags) > 0 {
			b.WriteString("\nOptions:\n")
		}
		for _, f := range flags {
			writeOption(b, f)
		}
		return
	}
	for _, group := range optionGroups {
		title := "\n" + group + ":\n"
		for _, f := range flags {
			if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() && groupOf(f) == group {
				b.WriteString(title)
				title = ""
				writeOption(b, f)
			}
		}
	}
}

func groupOf(f cli.Flag) string {
	if c, ok := f.(cli.CategorizableFlag); ok {
		return c.GetCategory()
	}
	return ""
}

func writeOption(b *strings.Builder, f cli.Flag) {
	doc, ok := f.(cli.DocGenerationFlag)
	visible, _ := f.(cli.VisibleFlag)
	if !ok || visible == nil || !visible.IsVisible() {
		return
	}
	placeholder, text := splitUsage(doc.GetUsage())
	left := "  --" + f.Names()[0]
	if doc.TakesValue() {
		if placeholder == "" {
			placeholder = "VALUE"
		}
		left += " " + placeholder
	}
	if value := doc.GetDefaultText(); doc.TakesValue() && value != "" && value != "0" && value != `""` {
		text += " (default " + strings.Trim(value, `"`) + ")"
	}
	b.WriteString(left)
	at := utf8.RuneCountInString(left)
	if at >= helpIndent-1 {
		b.WriteString("\n")
		at = 0
	}
	b.WriteString(strings.Repeat(" ", helpIndent-at))
	b.WriteString(wrap(text, helpWidth-helpIndent, "\n"+strings.Repeat(" ", helpIndent)))
	b.WriteString("\n")
}

// splitUsage takes the value's name, which stands in back quotes, out of a text.
func splitUsage(usage string) (placeholder, text string) {
	before, rest, ok := strings.Cut(usage, "`")
	if !ok {
		return "", usage
	}
	name, after, _ := strings.Cut(rest, "`")
	return name, before + name + after
}

func wrap(text string, width int, newline string) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteString(newline)
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
