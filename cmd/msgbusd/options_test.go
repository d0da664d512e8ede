package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// optionsOf reads options as the relay does, in an application of its own.
func optionsFor(t *testing.T, args ...string) (*options, error) {
	t.Helper()
	app := newApp(streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
	var o *options
	app.Action = func(c *cli.Context) (err error) {
		o, err = readOptions(c)
		return err
	}
	err := app.RunContext(context.Background(), append([]string{"msgbusd"}, args...))
	return o, err
}

// The settings are read again from the same command line: what the file said the
// first time must not be taken for an option then, which nothing can overrule.
//
// Broken by: in readOptions, readConfigFile(c) in the place of the copy.
func TestOptionsCanBeReadAgainFromAnotherFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "msgbusd.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("workers: 3\nexpose: [a]\nmax-queue: 5")
	app := newApp(streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
	app.Action = func(c *cli.Context) error {
		for _, s := range []struct{ file, workers, expose, queue string }{
			{"workers: 3\nexpose: [a]\nmax-queue: 5", "3", "a", "7"},
			{"workers: 4\nexpose: [b, c]\nmax-queue: 6", "4", "b, c", "7"},
			{"", "1000", "*", "7"},
		} {
			write(s.file)
			o, err := readOptions(c)
			if err != nil {
				return err
			}
			got := map[string]string{}
			for _, v := range o.list() {
				got[v.Name] = v.text
			}
			if got["workers"] != s.workers || got["expose"] != s.expose || got["max-queue"] != s.queue {
				t.Errorf("after %q: workers %s, expose %s, max-queue %s", s.file, got["workers"], got["expose"], got["max-queue"])
			}
		}
		return nil
	}
	if err := app.RunContext(context.Background(), []string{"msgbusd", "--config", file, "--max-queue", "7"}); err != nil {
		t.Fatal(err)
	}
}

// An option that msgbusd config leaves out looks as if it did not exist.
func TestEveryOptionIsListed(t *testing.T) {
	o, err := optionsFor(t)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range o.list() {
		names = append(names, s.Name)
	}
	for _, f := range daemonFlags() {
		if !slices.Contains(names, f.Names()[0]) {
			t.Errorf("--%s is not listed", f.Names()[0])
		}
	}
}

// Of an address nothing may be shown that could be a password, however it is
// written, and nothing may be missing that cannot.
func TestAddressesAreShownWithoutWhatMayBeSecret(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:6379":                             "127.0.0.1:6379",
		"unix:///run/redis.sock":                     "unix:///run/redis.sock",
		"https://resolver.example/path@2":            "https://resolver.example/path@2",
		"redis://user:hunter2@host:1/2":              "redis://host:1/2",
		"unix://user:hunter2@/run/redis.sock":        "unix:///run/redis.sock",
		"gridproxy+https://hunter2@resolver.example": "gridproxy+https://resolver.example",
		"https://resolver.example/?token=hunter2":    "https://resolver.example/",
		"https://resolver.example/#hunter2":          "https://resolver.example/",
		"sentinel://h:1,h:2/m?db=1":                  "sentinel://h:1,h:2/m",
		"sentinel://u:hunter2@h:1,h:2/m":             "sentinel://h:1,h:2/m",
		"sentinel://h:1/m?sentinel_password=hunter2": "sentinel://h:1/m",
		"user:hunter2@host:1":                        "",
		"hunter2@host":                               "",
		"redis://user:hunter2@ho st:1":               "",
		"http://hunter2@host:x":                      "",
	} {
		if got := shownAddress(address); got != want {
			t.Errorf("%s is shown as %q, want %q", address, got, want)
		}
	}
}
