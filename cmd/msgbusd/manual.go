package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"
)

// manualCommand is for the Makefile: msgbusd manual > msgbusd.1
func manualCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:   "manual",
		Usage:  "print the manual page",
		Hidden: true,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError("manual takes no arguments")
			}
			day, err := manualDay()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(s.out, manual(c.App, day))
			return err
		},
	}
}

// manualDay is today, or the day that a reproducible build is to say.
func manualDay() (time.Time, error) {
	said := os.Getenv("SOURCE_DATE_EPOCH")
	if said == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(said, 10, 64)
	if err != nil {
		return time.Time{}, configError("SOURCE_DATE_EPOCH %q is no number of seconds", said)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// manual says in the language of man(7) what --help says of all commands.
func manual(app *cli.App, day time.Time) string {
	m := &page{}
	fmt.Fprintf(m, ".TH MSGBUSD 1 %s \"msgbusd %s\" \"User Commands\"\n", day.Format(time.DateOnly), roff(app.Version))
	m.macro("SH", "NAME")
	m.text("msgbusd - " + app.Usage)
	m.macro("SH", "SYNOPSIS")
	m.lines(relayUsage + "\n" + commandUsage)
	m.macro("SH", "DESCRIPTION")
	m.paragraph("Without a command, msgbusd is the relay of one twin: it takes the messages that programs push to the local Redis, " +
		"carries them over HTTP to the relays of other twins, and brings the answers back.")
	m.paragraph(aboutSettings)
	m.paragraph(aboutDemo)

	m.macro("SH", "OPTIONS OF THE RELAY")
	for _, g := range grouped(app.Flags) {
		m.macro("SS", g.title)
		m.options(g.options)
	}
	m.macro("SH", "COMMANDS")
	for _, c := range app.Commands {
		m.command(c, app.Name)
	}

	m.macro("SH", "EXIT STATUS")
	m.paragraph("Of the relay: " + aboutExit)
	m.macro("SH", "FILES")
	for _, f := range [][2]string{
		{"/etc/msgbusd/mnemonic", "The phrase or secret URI of the twin's key, under systemd. Only root may read it."},
		{"/etc/msgbusd/msgbusd.env", "The settings of the relay under systemd, one variable a line."},
	} {
		m.item(f[0], "")
		m.text(f[1])
	}
	m.macro("SH", "SEE ALSO")
	m.text("redis-server(1), systemctl(1)")
	return m.String()
}

// A page is a manual page that grows.
type page struct {
	strings.Builder
	headed bool // nothing stands under the heading yet
}

// macro writes a request and its arguments.
func (m *page) macro(name string, args ...string) {
	m.WriteString("." + name)
	for _, arg := range args {
		m.WriteString(` "` + roff(arg) + `"`)
	}
	m.WriteString("\n")
	m.headed = name == "SH" || name == "SS"
}

// text writes what troff fills into lines.
func (m *page) text(text string) {
	m.WriteString(roff(strings.Join(strings.Fields(text), " ")) + "\n")
	m.headed = false
}

func (m *page) paragraph(text string) {
	if !m.headed {
		m.macro("PP")
	}
	m.text(text)
}

// lines writes what stays as it is.
func (m *page) lines(text string) {
	m.macro("nf")
	for line := range strings.Lines(text) {
		m.WriteString(roff(strings.TrimSpace(line)) + "\n")
	}
	m.macro("fi")
}

// item begins an entry of a list.
func (m *page) item(name, value string) {
	m.macro("TP")
	m.WriteString(`\fB` + roff(name) + `\fR`)
	if value != "" {
		m.WriteString(` \fI` + roff(value) + `\fR`)
	}
	m.WriteString("\n")
}

func (m *page) options(options []option) {
	for _, o := range options {
		m.item("--"+o.Name, o.Value)
		m.text(o.full())
	}
}

// command writes a command and those below it.
func (m *page) command(c *cli.Command, parent string) {
	if c.Hidden || c.Name == "help" {
		return
	}
	m.macro("SS", parent+" "+c.Name)
	m.text(strings.ToUpper(c.Usage[:1]) + c.Usage[1:] + ".")
	if len(c.Subcommands) == 0 {
		m.macro("PP")
		m.lines(usageOf(c, parent))
		for paragraph := range strings.SplitSeq(c.Description, "\n\n") {
			if paragraph != "" {
				m.paragraph(paragraph)
			}
		}
		m.options(optionsOf(c.Flags))
	}
	for _, sub := range c.Subcommands {
		m.command(sub, parent+" "+c.Name)
	}
}

// roff writes text so that troff prints just that, and what somebody copies from
// the terminal is what the shell understands.
func roff(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '.' && i == 0: // would begin a request
			b.WriteString(`\&.`)
		case r > unicode.MaxASCII:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
