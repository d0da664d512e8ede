package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exampleLine is a setting of the example, whether or not it is in force.
var exampleLine = regexp.MustCompile(`(?m)^#?([a-z0-9-]+): .*$`)

func readExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../systemd/msgbusd.yaml.example")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// An operator looks into the example for what there is to set. What is not in it
// is never set, and what stands elsewhere than in the help is not found.
func TestExampleFileHasEverySettingInTheOrderOfTheHelp(t *testing.T) {
	var names, want []string
	for _, line := range exampleLine.FindAllStringSubmatch(readExample(t), -1) {
		names = append(names, line[1])
	}
	text := readExample(t)
	for group, members := range byGroup(daemonFlags()) {
		if !strings.Contains(text, "\n# ---- "+group+"\n") {
			t.Errorf("the example has no group %q", group)
		}
		for _, f := range members {
			if name := f.Names()[0]; isVisible(f) && name != "config" {
				want = append(want, name)
			}
		}
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the example has\n%q, the options are\n%q", names, want)
	}
}

// An operator takes the # from a line and restarts the relay, which must not
// refuse the file then, nor run by anything else than what the line says.
func TestEveryLineOfTheExampleFileIsTaken(t *testing.T) {
	text := readExample(t)
	if _, err := settingsOf(t, text); err != nil {
		t.Errorf("the example as it is: %v", err)
	}
	var all []string
	for _, line := range exampleLine.FindAllStringSubmatch(text, -1) {
		setting, name := strings.TrimPrefix(line[0], "#"), line[1]
		file := filepath.Join(t.TempDir(), "msgbusd.yaml")
		if err := os.WriteFile(file, []byte(setting), 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := optionsFor(t, "--config", file)
		if err != nil {
			t.Errorf("%s: %v", setting, err)
			continue
		}
		checkExampleValue(t, o, setting, name, text)
		if !slices.Contains([]string{"mnemonics", "mnemonics-file", "admin-token-file", "gateway-secret-file", "gateway-listen"}, name) { // the test does not have the files
			all = append(all, setting)
		}
	}
	if _, err := settingsOf(t, strings.Join(all, "\n")); err != nil {
		t.Errorf("all settings of the example at once: %v", err)
	}
}

// checkExampleValue wants the default, unless the comment before says otherwise.
func checkExampleValue(t *testing.T, o *options, setting, name, text string) {
	t.Helper()
	defaults, err := optionsFor(t)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(text, "#"+setting)
	comment := before[strings.LastIndex(before, "\n# ")+1:]
	if isExample := strings.Contains(strings.SplitN(comment, "\n", 2)[0], "or example:"); isExample {
		if o.exact(name) == defaults.exact(name) {
			t.Errorf("%s is called an example, and is the default", setting)
		}
		return
	}
	if o.exact(name) != defaults.exact(name) {
		t.Errorf("%s is not the default, which is %s", setting, defaults.exact(name))
	}
}
