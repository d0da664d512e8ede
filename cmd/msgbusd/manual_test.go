package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Who works where there is no network reads the manual: it must have all that
// --help has, and print without complaint.
func TestManualHasEverythingAndIsWellFormed(t *testing.T) {
	app := newApp(streams{})
	text := manual(app, time.Unix(1_700_000_000, 0))
	for _, c := range completableOf(app.Name, app.Usage, app.Flags, app.Commands).all() {
		if c.Path != "msgbusd" && !strings.Contains(text, ".SS \""+roff(c.Path)+"\"\n") {
			t.Errorf("the manual does not have %s", c.Path)
		}
		for _, o := range c.Options {
			if o.Name != "help" && !strings.Contains(text, roff("--"+o.Name)+`\fR`) {
				t.Errorf("the manual does not have --%s of %s", o.Name, c.Path)
			}
		}
	}
	for title := range byGroup(app.Flags) {
		if !strings.Contains(text, ".SS \""+roff(title)+"\"\n") {
			t.Errorf("the manual does not have the group %q", title)
		}
	}

	file := filepath.Join(t.TempDir(), "msgbusd.1")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, check := range [][]string{
		{"man", "--warnings=w", "-E", "UTF-8", "-l", file},
		{"mandoc", "-T", "lint", "-W", "warning", file},
	} {
		t.Run(check[0], func(t *testing.T) {
			if _, err := exec.LookPath(check[0]); err != nil {
				t.Skipf("%s is not installed: the manual is NOT checked by it", check[0])
			}
			cmd := exec.Command(check[0], check[1:]...)
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80", "MANROFFOPT=", "PAGER=cat", "MANPAGER=cat")
			var out, said strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &said
			if err := cmd.Run(); err != nil || said.Len() > 0 {
				t.Errorf("%s: %v\n%s%s", check[0], err, &said, out.String())
			}
			if check[0] == "man" && !strings.Contains(out.String(), "--mnemonics-file FILE") {
				t.Errorf("man prints\n%s", out.String())
			}
		})
	}
}
