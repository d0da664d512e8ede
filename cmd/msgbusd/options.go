package main

import (
	"flag"
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

// options are what the command line, the environment and the configuration file
// say of the relay. They are read by the names of the flags, of which each has
// the value of the strongest of the three.
type options struct {
	*cli.Context
	flags []cli.Flag
	line  []string // names of those that the command line gives
}

// readOptions reads the options of a command that has daemonFlags. It leaves c
// as it is, so that it can be asked again when the configuration file is another.
func readOptions(c *cli.Context) (*options, error) {
	o := &options{flags: daemonFlags(), line: onCommandLine(c)}
	set := flag.NewFlagSet("msgbusd", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, f := range o.flags {
		if err := f.Apply(set); err != nil { // its variable cannot be read
			return nil, configError("%w", err)
		}
	}
	o.Context = cli.NewContext(c.App, set, nil)
	o.Context.Context, o.Command = c.Context, &cli.Command{Flags: o.flags}
	for _, f := range o.flags {
		name := f.Names()[0]
		if !slices.Contains(o.line, name) {
			continue
		}
		value := fmt.Sprint(c.Value(name))
		if list, isList := c.Value(name).(cli.StringSlice); isList {
			value = list.Serialize()
		}
		if err := o.Set(name, value); err != nil {
			return nil, usageError("--%s: %w", name, err)
		}
	}
	return o, readConfigFile(o.Context)
}

// check returns the settings, or what a relay that starts with them would say,
// as far as that can be told without Redis and without listening.
func (o *options) check() (*settings, error) {
	s, err := o.settings()
	if err != nil {
		return nil, err
	}
	if _, _, err := newLogThrough(o.Context, io.Discard, io.Discard); err != nil {
		return nil, err
	}
	if _, err := openSources(s.substrate, zerolog.Nop()); err != nil {
		return nil, err
	}
	if _, err := openTLS(s.tls, zerolog.Nop()); err != nil {
		return nil, err
	}
	return s, nil
}

// A sourced is an option's value, as it may be shown, and where that is from.
type sourced struct {
	Name   string `json:"name"`
	Group  string `json:"group"`
	Value  any    `json:"value"`            // null: a secret, or none
	Secret bool   `json:"secret,omitempty"` // there is one, and it is not shown
	Source string `json:"source"`           // flag, environment, file or default
	From   string `json:"from,omitempty"`   // the variable's name or the file's

	text   string // the value on one line
	exact  string // to compare with, and for nobody to see
	hidden bool   // nobody has given it, nor is it in the help
}

const notShown = "set, not shown"

// list returns all options in the order of the help.
func (o *options) list() []sourced {
	var all []sourced
	for group, members := range byGroup(o.flags) {
		for _, f := range members {
			s := sourced{Name: f.Names()[0], Group: group}
			s.Source, s.From = o.source(f)
			s.exact = o.exact(s.Name)
			s.Value, s.Secret = o.shownValue(s.Name)
			s.text = shownText(f, s)
			s.hidden = !isVisible(f) && s.Source == "default"
			all = append(all, s)
		}
	}
	return all
}

func (o *options) exact(name string) string {
	if list, isList := o.Value(name).(cli.StringSlice); isList {
		return fmt.Sprintf("%q", list.Value())
	}
	return fmt.Sprint(o.Value(name))
}

func (o *options) source(f cli.Flag) (source, from string) {
	name := f.Names()[0]
	switch {
	case slices.Contains(o.line, name):
		return "flag", ""
	case f.IsSet(): // the library notes here what a variable sets, and nothing else
		return "environment", variable(name)[0]
	case o.IsSet(name):
		return "file", o.String("config")
	default:
		return "default", ""
	}
}

// shownValue returns a value without what is secret of it.
func (o *options) shownValue(name string) (value any, secret bool) {
	switch v := o.Value(name).(type) {
	case cli.StringSlice:
		list := slices.Clone(v.Value())
		if slices.Contains(addressOptions[:], name) {
			list = slices.Clone(addresses(o.Context, name))
			for i, address := range list {
				if list[i] = shownAddress(address); list[i] != address {
					secret = true
				}
				if list[i] == "" && address != "" {
					list[i] = notShown
				}
			}
		}
		return append([]string{}, list...), secret
	case string:
		switch {
		case name == "instance":
			instance, _ := readInstance(o.Context) // check tells why there is none
			return instance, false
		case v == "":
			return nil, false
		case name == "mnemonics", name == "menmonics":
			return nil, true
		case slices.Contains(addressOptions[:], name):
			shown := shownAddress(v)
			if shown == "" {
				return nil, true
			}
			return shown, shown != v
		case (name == "mnemonics-file" || name == "config") && looksSecret(v):
			return nil, true
		}
		return v, false
	case time.Duration:
		return v.String(), false
	default:
		return v, false
	}
}

// defaultWords is what the help says of an option that has no value.
var defaultWords = regexp.MustCompile(`\(default ([^()]+)\)$`)

// shownText is a value for people.
func shownText(f cli.Flag, s sourced) string {
	text := ""
	switch v := s.Value.(type) {
	case nil:
		if s.Secret {
			return notShown
		}
	case []string:
		text = strings.Join(v, ", ")
	case uint: // of those, 0 is the twin that nobody has named
		if v != 0 {
			text = fmt.Sprint(v)
		}
	default:
		text = fmt.Sprint(v)
	}
	words := defaultWords.FindStringSubmatch(f.(cli.DocGenerationFlag).GetUsage())
	switch {
	case text != "" && (text != "0" || words == nil):
		return oneLine(text)
	case words != nil:
		return words[1]
	}
	return "-"
}

// byGroup yields settings as the help shows them: a group and its members, also those
// that help hides.
func byGroup(flags []cli.Flag) iter.Seq2[string, []cli.Flag] {
	return func(yield func(string, []cli.Flag) bool) {
		for _, group := range optionGroups {
			members := slices.DeleteFunc(slices.Clone(flags), func(f cli.Flag) bool { return groupOf(f) != group })
			if len(members) > 0 && !yield(group, members) {
				return
			}
		}
	}
}

func isVisible(f cli.Flag) bool {
	v, ok := f.(cli.VisibleFlag)
	return ok && v.IsVisible()
}
