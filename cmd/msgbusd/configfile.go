package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"
)

// readConfigFile sets what neither the command line nor the environment does.
func readConfigFile(c *cli.Context) error {
	name := c.String("config")
	if name == "" {
		return nil
	}
	values, err := parseConfigFile(name)
	if err != nil {
		return err
	}
	// In order, so that of several mistakes the same one is told each time.
	for _, setting := range slices.Sorted(maps.Keys(values)) {
		if err := checkSetting(name, setting); err != nil {
			return err
		}
		if c.IsSet(setting) {
			continue
		}
		if err := applySetting(c, setting, values[setting]); err != nil {
			return configError("the configuration %s: %s %w", name, setting, err)
		}
	}
	return nil
}

func parseConfigFile(name string) (map[string]any, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, withHint(configError("the configuration: %w", unnamed(err)), "--config or MSGBUSD_CONFIG names it")
	}
	defer file.Close()
	// The decoder's errors about types quote the text, which may be a secret
	// that was taken for a configuration.
	var root yaml.Node
	if err := yaml.NewDecoder(file).Decode(&root); err != nil && err.Error() != "EOF" {
		return nil, configError("the configuration %s is no YAML: %w", name, err)
	}
	var values map[string]any
	if err := root.Decode(&values); err != nil {
		return nil, withHint(configError("the configuration %s is no list of settings, each once", name), "one NAME: VALUE a line, with the names of the options")
	}
	if holdsSecret(values) {
		return values, checkPrivate(file)
	}
	return values, nil
}

// holdsSecret tells whether a configuration is one that nobody but its owner may
// read: it has the key in it, or the password of Redis, which is all messages.
func holdsSecret(values map[string]any) bool {
	if values["mnemonics"] != nil || values["menmonics"] != nil {
		return true
	}
	for _, option := range addressOptions {
		list, isList := values[option].([]any)
		if !isList {
			list = []any{values[option]}
		}
		if slices.ContainsFunc(list, func(v any) bool { return hasPassword(fmt.Sprint(v)) }) {
			return true
		}
	}
	return false
}

// settingName is how the names of options look.
var settingName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,30}$`)

func checkSetting(file, setting string) error {
	flags := daemonFlags()
	known := slices.ContainsFunc(flags, func(f cli.Flag) bool { return f.Names()[0] == setting })
	if known && setting != "config" {
		return nil
	}
	if !settingName.MatchString(setting) { // not repeated: it may be a secret that was taken for a configuration
		return withHint(configError("the configuration %s has a setting whose name is none", file), "settings have the names of the options: msgbusd --help")
	}
	err := configError("the configuration %s has the unknown setting %q", file, setting)
	if near := nearestOption(flags, setting); near != "" && near != "config" {
		return withHint(err, "did you mean %s? Settings have the names of the options: msgbusd --help", near)
	}
	return withHint(err, "settings have the names of the options: msgbusd --help")
}

// applySetting sets a value, or each of a list.
func applySetting(c *cli.Context, setting string, value any) error {
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	} else if _, takesMany := c.Value(setting).(cli.StringSlice); !takesMany {
		return fmt.Errorf("takes one value, not a list")
	}
	for _, v := range list {
		switch v.(type) {
		case nil:
			return fmt.Errorf("has no value")
		case map[string]any, []any:
			return fmt.Errorf("takes a plain value")
		}
		if err := c.Set(setting, fmt.Sprint(v)); err != nil {
			return fmt.Errorf("cannot be %q: %w", fmt.Sprint(v), err)
		}
	}
	return nil
}
