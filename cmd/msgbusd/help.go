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
var optionGroups = [...]string{groupIdentity, groupNetwork, groupTLS, groupRedis, groupServices, groupBrowsers, groupLimits, groupTraces, groupLog, groupOutput}

const (
	groupIdentity = "Who this twin is"
	groupNetwork  = "Network"
	groupTLS      = "TLS (files are read again when they change)"
	groupRedis    = "Local Redis"
	groupServices = "Services"
	groupBrowsers = "Browsers"
	groupLimits   = "Limits"
	groupTraces   = "Metrics and traces"
	groupLog      = "Log and configuration"
	groupOutput   = "Output"
)

// What help and manual both say.
const (
	relayUsage    = "msgbusd --substrate URL --mnemonics-file FILE [--twin ID] [options]"
	commandUsage  = "msgbusd COMMAND [options] [arguments]"
	aboutSettings = "Each option of the relay is a variable too: --peer-port is MSGBUSD_PEER_PORT, lists are separated by\n" +
		"commas. In the YAML file of --config it is peer-port. Options win over variables, variables over the file.\n" +
		"msgbusd config shows what is in force. SIGHUP has the relay read the file again."
	exitStatus = "Exit status: " // begins a paragraph of a command's description, too
	aboutExit  = "0 stopped, 1 error, 2 wrong usage, 78 wrong configuration (starting again will not help)."
	aboutDemo  = "New here? msgbusd demo runs two twins on this machine and tells what to try."
)

// appHelp is a template in the library's sense, of which nothing varies.
func appHelp(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, "msgbusd %s\n\nUsage:\n", app.Usage)
	fmt.Fprintf(&b, "  %s    run the relay of a twin\n  %s\n", relayUsage, commandUsage)
	b.WriteString("\nCommands (msgbusd COMMAND --help tells more):\n")
	writeCommands(&b, app.Commands)
	writeOptions(&b, app.Flags)
	fmt.Fprintf(&b, "\n%s\n\n%s%s\n\n%s\n", aboutSettings, exitStatus, aboutExit, aboutDemo)
	return b.String()
}

// commandHelp is the same for a command.
func commandHelp(c *cli.Command, parent string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s\n\nUsage:\n", parent, c.Name, c.Usage)
	fmt.Fprintf(&b, "  %s\n", usageOf(c, parent))
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

func usageOf(c *cli.Command, parent string) string {
	if c.UsageText == "" {
		return parent + " " + c.Name + " [options]"
	}
	return c.UsageText
}

func writeCommands(b *strings.Builder, commands []*cli.Command) {
	for _, c := range commands {
		if !c.Hidden {
			fmt.Fprintf(b, "  %-10s %s\n", c.Name, c.Usage)
		}
	}
}

// writeOptions groups the options of the relay; a command has few enough to
// do without.
func writeOptions(b *strings.Builder, flags []cli.Flag) {
	for _, g := range grouped(flags) {
		b.WriteString("\n" + g.title + ":\n")
		for _, o := range g.options {
			o.write(b)
		}
	}
}

// A group is options that belong together.
type group struct {
	title   string
	options []option
}

func grouped(flags []cli.Flag) []group {
	if !slices.ContainsFunc(flags, func(f cli.Flag) bool { return groupOf(f) == groupNetwork }) {
		if options := optionsOf(flags); len(options) > 0 {
			return []group{{"Options", options}}
		}
		return nil
	}
	var groups []group
	for _, title := range optionGroups {
		of := slices.DeleteFunc(slices.Clone(flags), func(f cli.Flag) bool { return groupOf(f) != title })
		if options := optionsOf(of); len(options) > 0 {
			groups = append(groups, group{title, options})
		}
	}
	return groups
}

func groupOf(f cli.Flag) string {
	if c, ok := f.(cli.CategorizableFlag); ok {
		return c.GetCategory()
	}
	return ""
}

// An option is what help, manual and completion say of a flag.
type option struct {
	Name       string
	Value      string // the name of what it takes, in capitals; "" when it takes nothing
	Text       string
	Default    string   // "" when there is none, or when Text has it
	Words      []string // all that it takes, where that is fixed
	Repeatable bool
}

// optionOf describes a flag, unless nobody should know it.
func optionOf(f cli.Flag) (o option, ok bool) {
	doc, ok := f.(cli.DocGenerationFlag)
	visible, _ := f.(cli.VisibleFlag)
	if !ok || visible == nil || !visible.IsVisible() {
		return option{}, false
	}
	o.Name = f.Names()[0]
	o.Value, o.Text = splitUsage(doc.GetUsage())
	if !doc.TakesValue() {
		o.Value = ""
		return o, true
	}
	if o.Value == "" {
		o.Value = "VALUE"
	}
	if value := doc.GetDefaultText(); value != "0" {
		o.Default = strings.Trim(value, `"`)
	}
	if c, fixed := f.(choice); fixed {
		o.Words = c.words
	}
	if slice, is := f.(cli.DocGenerationSliceFlag); is {
		o.Repeatable = slice.IsSliceFlag()
	}
	return o, true
}

// optionsOf describes the flags of a command.
func optionsOf(flags []cli.Flag) []option {
	var options []option
	for _, f := range flags {
		if o, ok := optionOf(f); ok {
			options = append(options, o)
		}
	}
	return options
}

// full is the text with the default.
func (o option) full() string {
	if o.Default == "" {
		return o.Text
	}
	return o.Text + " (default " + o.Default + ")"
}

func (o option) write(b *strings.Builder) {
	left := strings.TrimRight("  --"+o.Name+" "+o.Value, " ")
	b.WriteString(left)
	at := utf8.RuneCountInString(left)
	if at >= helpIndent-1 {
		b.WriteString("\n")
		at = 0
	}
	b.WriteString(strings.Repeat(" ", helpIndent-at))
	b.WriteString(wrap(o.full(), helpWidth-helpIndent, "\n"+strings.Repeat(" ", helpIndent)))
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
