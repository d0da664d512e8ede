package main

import (
	"encoding/base64"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// needTool fails rather than skips: a suite that skips here would be green and
// say nothing.
func needTool(t *testing.T, name, debianPackage string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is not installed; run: apt-get install %s", name, debianPackage)
	}
}

// `make demo ARGS=--once` must end by itself and show all that it promises.
func TestDemoOnceShowsFiveStationsAndEnds(t *testing.T) {
	p := startProgram(t, t.TempDir(), nil, "msgbusd", "demo", "--once")
	if code := p.wait(t); code != exitOK {
		t.Fatalf("exit status %d; it said: %s", code, p.err)
	}
	out := p.out.String()
	if got := len(regexp.MustCompile(`(?m)^[1-5]\. .*\n   \{.*\}$`).FindAllString(out, -1)); got != 5 {
		t.Errorf("%d stations, want 5:\n%s", got, out)
	}
	if !strings.Contains(out, `The reply says "hello from 1001"`) {
		t.Errorf("no reply in:\n%s", out)
	}
	if text := p.err.String(); text != "" {
		t.Errorf("it complained: %s", text)
	}
}

// What the demo tells to try must work as printed, from any folder.
func TestDemoLinesWorkAsPrinted(t *testing.T) {
	needTool(t, "redis-cli", "redis-tools")
	needTool(t, "curl", "curl")
	needTool(t, "bash", "bash")
	p := startProgram(t, t.TempDir(), nil, "msgbusd", "demo")
	printed := p.out.await(t, `(?s)Three things to try from another shell:\n(.*)\nCtrl-C ends the demo`)[1]
	lines := regexp.MustCompile(`(?m)^  ([^# ].*)$`).FindAllStringSubmatch(printed, -1)
	if len(lines) != 3 {
		t.Fatalf("%d lines to try, want 3:\n%s", len(lines), printed)
	}
	if !strings.HasPrefix(lines[2][1], "msgbusd call ") {
		t.Errorf("it is in PATH and needs no folder: %s", lines[2][1])
	}
	echoes := []string{base64.StdEncoding.EncodeToString([]byte("hello")), `"dat":"hello"`, "hello\n"}
	for i, line := range lines {
		cmd := exec.Command("bash", "-c", line[1])
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), echoes[i]) {
			t.Errorf("%s\nprinted: %s\nwant: %s (%v)", line[1], out, echoes[i], err)
		}
	}
	if code := p.stop(t, syscall.SIGINT); code != exitOK {
		t.Errorf("exit status %d after Ctrl-C; it said: %s", code, p.err)
	}
	if text := p.err.String(); text != "" {
		t.Errorf("it complained: %s", text)
	}
}

// `make demo` runs bin/msgbusd, which another shell in another folder would
// not find by that name; the folder's own name may need quotes.
func TestDemoNamesItselfByWholePathOutsidePATH(t *testing.T) {
	dir := t.TempDir() + "/it's here"
	self, err := exec.LookPath("msgbusd")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "-c", `mkdir -p "$2/bin" && cp "$1" "$2/bin/msgbusd"`, "sh", self, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// As make starts it: by a path that is good in its own folder only.
	p := startProgram(t, dir, nil, "sh", "-c", "exec bin/msgbusd demo")
	line := p.out.await(t, `(?m)^  (.* call .*)$`)[1]
	if !strings.Contains(line, "/bin/msgbusd") {
		t.Errorf("another shell would not find it: %s", line)
	}
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "hello\n" {
		t.Errorf("%s\nprinted: %s (%v)", line, out, err)
	}
	if code := p.stop(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit status %d; it said: %s", code, p.err)
	}
}

// In this process the leak check of TestMain sees what the demo leaves behind.
func TestDemoLeavesNothingBehind(t *testing.T) {
	out := newWatched()
	code := run(t.Context(), []string{"msgbusd", "demo", "--once"}, streams{in: strings.NewReader(""), out: out, err: t.Output()})
	if code != exitOK {
		t.Errorf("exit status %d", code)
	}
	out.await(t, "The reply says")
}
