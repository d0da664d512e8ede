package main

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"github.com/urfave/cli/v2"
)

// The scripts are made when they are asked for and run no msgbusd: Tab answers at
// once, and on a machine whose msgbusd is another version it still does no harm.
//
//go:embed completion/*.tmpl
var completionTemplates embed.FS

func completionCommand(s streams) *cli.Command {
	shell := func(name, where string) *cli.Command {
		return &cli.Command{
			Name:        name,
			Usage:       "print the completion for " + name,
			UsageText:   "msgbusd completion " + name + " > " + where,
			Description: "Packages and make install bring it along.",
			Action: func(c *cli.Context) error {
				if c.Args().Present() {
					return usageError("completion %s takes no arguments", name)
				}
				return writeCompletion(s.out, name, c.App)
			},
		}
	}
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what completes the words of msgbusd in a shell",
		UsageText: "msgbusd completion bash|zsh|fish",
		Subcommands: []*cli.Command{
			shell("bash", "~/.local/share/bash-completion/completions/msgbusd"),
			shell("zsh", "/usr/local/share/zsh/site-functions/_msgbusd"),
			shell("fish", "~/.config/fish/completions/msgbusd.fish"),
		},
		Action: func(c *cli.Context) error {
			return withHint(usageError("completion needs to know the shell"), "%s", c.Command.UsageText)
		},
	}
}

// A completable is a command as completion sees it.
type completable struct {
	Path     string // msgbusd key new
	Name     string
	Usage    string
	Commands []completable
	Options  []option
}

// all returns the command and all below it.
func (c completable) all() []completable {
	list := []completable{c}
	for _, sub := range c.Commands {
		list = append(list, sub.all()...)
	}
	return list
}

func completableOf(path, usage string, flags []cli.Flag, commands []*cli.Command) completable {
	// The library adds these two itself, and not to all.
	options := slices.DeleteFunc(optionsOf(flags), func(o option) bool { return o.Name == "help" || o.Name == "version" })
	c := completable{
		Path: path, Name: path[strings.LastIndexByte(path, ' ')+1:], Usage: usage,
		Options: append(options, option{Name: "help", Text: "tell about it, and end"}),
	}
	for _, sub := range commands {
		if !sub.Hidden && sub.Name != "help" {
			c.Commands = append(c.Commands, completableOf(path+" "+sub.Name, sub.Usage, sub.Flags, sub.Subcommands))
		}
	}
	return c
}

// writeCompletion writes the script for a shell.
func writeCompletion(w io.Writer, shell string, app *cli.App) error {
	all := completableOf(app.Name, app.Usage, app.Flags, app.Commands).all()
	valued := map[string]bool{}
	for _, c := range all {
		for _, o := range c.Options {
			valued[o.Name] = valued[o.Name] || o.Value != ""
		}
	}
	var takeValue []string
	for name, takes := range valued {
		if takes {
			takeValue = append(takeValue, "--"+name)
		}
	}
	slices.Sort(takeValue)
	templates, err := template.New("").Funcs(template.FuncMap{
		"join": strings.Join,
		// In single quotes nothing has a meaning but the quote itself.
		"quote":    func(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" },
		"function": func(path string) string { return "_" + strings.ReplaceAll(path, " ", "_") },
	}).ParseFS(completionTemplates, "completion/*.tmpl")
	if err != nil {
		return fmt.Errorf("completion for %s: %w", shell, err)
	}
	return templates.ExecuteTemplate(w, shell+".tmpl", map[string]any{
		"Commands": all, "Below": all[1:], "TakeValue": takeValue,
	})
}

// File tells that the option takes the name of a file.
func (o option) File() bool { return o.Value == "FILE" }

// Short is the text without what follows its first clause.
func (o option) Short() string {
	text, _, _ := strings.Cut(o.Text, ";")
	return text
}

// Zsh is the option as _arguments of zsh wants it.
func (o option) Zsh() string {
	spec := "--" + o.Name
	if o.Repeatable {
		spec = "*" + spec
	}
	if o.Value != "" {
		spec += "=" // or the next word
	}
	spec += "[" + strings.NewReplacer(`[`, `\[`, `]`, `\]`, `:`, `\:`).Replace(o.Short()) + "]"
	switch {
	case o.Value == "":
		return spec
	case o.Words != nil:
		return spec + ":" + o.Value + ":(" + strings.Join(o.Words, " ") + ")"
	case o.File():
		return spec + ":" + o.Value + ":_files"
	default:
		return spec + ":" + o.Value + ": "
	}
}

// OptionNames is one list for the shell.
func (c completable) OptionNames() string {
	var names []string
	for _, o := range c.Options {
		names = append(names, "--"+o.Name)
	}
	return strings.Join(names, " ")
}

// CommandNames is one list for the shell.
func (c completable) CommandNames() string {
	var names []string
	for _, sub := range c.Commands {
		names = append(names, sub.Name)
	}
	return strings.Join(names, " ")
}
