package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

var update = flag.Bool("update", false, "write docs/settings.md anew")

// Somebody who reads of a setting that is gone, or of a default that was another,
// configures a relay that is not there. make docs writes the page anew.
func TestSettingsPageIsThatOfTheOptions(t *testing.T) {
	const page = "../../docs/settings.md"
	want := settingsPage()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/settings.md is out of date: make docs")
	}
}

func settingsPage() string {
	var b strings.Builder
	b.WriteString(`# Settings of the relay

<!-- Written by make docs, from cmd/msgbusd/flags.go. -->

Each is an option, a variable, or a line of the YAML file that ` + "`--config`" + ` names, in that order of falling strength.
The line has the name of the option without its dashes (` + "`max-queue: 5000`" + `); where an option is repeatable, the file
takes a list and the variable one with commas. [msgbusd.yaml.example](../systemd/msgbusd.yaml.example) has all of them.

` + "`msgbusd config`" + ` prints which value is in force, and where it is from. Those marked with ↻ change while the relay runs:
` + "`systemctl reload msgbusd`" + `, or SIGHUP, has it read the file again. The others need a restart.
`)
	for group, members := range byGroup(daemonFlags()) {
		fmt.Fprintf(&b, "\n## %s\n\n| option | variable | default | meaning |\n| --- | --- | --- | --- |\n", group)
		for _, f := range members {
			if isVisible(f) {
				writeSettingsRow(&b, f)
			}
		}
	}
	return b.String()
}

func writeSettingsRow(b *strings.Builder, f cli.Flag) {
	doc := f.(cli.DocGenerationFlag)
	name := f.Names()[0]
	placeholder, meaning := splitUsage(doc.GetUsage())
	def := strings.ReplaceAll(doc.GetDefaultText(), `"`, "`")
	if words := defaultWords.FindStringSubmatch(meaning); words != nil {
		meaning = strings.TrimSpace(strings.TrimSuffix(meaning, words[0]))
		def = words[1]
	} else if _, isText := f.(*cli.StringFlag); isText && def != "" {
		def = strings.Trim(def, "`")
		def = "`" + def + "`"
	}
	switch f.(type) {
	case *cli.BoolFlag:
		def = "off"
	case *cli.UintFlag:
		if def == "0" {
			def = ""
		}
	}
	option := "--" + name
	if doc.TakesValue() {
		option += " " + placeholder
	}
	mark := ""
	if slices.Contains(reloadable[:], name) {
		mark = " ↻"
	}
	row := fmt.Sprintf("| `%s`%s | `%s` | %s | %s |", option, mark, doc.GetEnvVars()[0], def, meaning)
	b.WriteString(strings.ReplaceAll(row, "|  |", "| |") + "\n")
}
