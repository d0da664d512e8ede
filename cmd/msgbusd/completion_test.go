package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What an operator types before Tab, and what must come. A file's name is offered
// by the shell itself, where the list says so.
var completionCases = []struct {
	typed string
	wants []string
	files bool
}{
	{typed: "msgbusd d", wants: []string{"dead", "demo", "doctor"}},
	{typed: "msgbusd key ", wants: []string{"new", "show"}},
	{typed: "msgbusd completion ", wants: []string{"bash", "fish", "zsh"}},
	{typed: "msgbusd --allow-t", wants: []string{"--allow-twin"}},
	{typed: "msgbusd key new --", wants: []string{"--help", "--json", "--key-type", "--phrase-only"}},
	{typed: "msgbusd call --dst 1002 --t", wants: []string{"--try"}},
	{typed: "msgbusd call --json --t", wants: []string{"--try"}},
	// Values that are fixed.
	{typed: "msgbusd --key-type ", wants: []string{"ed25519", "sr25519"}},
	{typed: "msgbusd key new --key-type e", wants: []string{"ed25519"}},
	{typed: "msgbusd bench --apps b", wants: []string{"batching"}},
	{typed: "msgbusd --twin 1001 --log-level=w", wants: []string{"warn"}},
	{typed: "msgbusd serve --log-format ", wants: []string{"console", "json"}},
	// Values that are not.
	{typed: "msgbusd --twin "},
	{typed: "msgbusd --config ", files: true},
	{typed: "msgbusd registry --file ", files: true},
	// The options of the relay are not those of a command that stands behind them.
	{typed: "msgbusd --twin 1001 se"},
	{typed: "msgbusd --twin=1001 --tls-c", wants: []string{"--tls-cert", "--tls-client-ca"}},
	// Arguments: the program that serves may be a file, and its options are its own.
	{typed: "msgbusd serve echo -- ", files: true},
	{typed: "msgbusd call --dst 1002 key ", files: true},
	// What nobody should find.
	{typed: "msgbusd man"},
	{typed: "msgbusd --men"},
}

// A completion that offers what the program refuses, or hides what it takes, is
// worse than none.
func TestCompletion(t *testing.T) {
	for name, complete := range map[string]func(t *testing.T, script, typed string) (offered []string, files bool){
		"bash": completeInBash, "fish": completeInFish, "zsh": completeInZsh,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(name); err != nil {
				t.Skipf("%s is not installed: its completion is NOT tested", name)
			}
			var text bytes.Buffer
			if err := writeCompletion(&text, name, newApp(streams{})); err != nil {
				t.Fatal(err)
			}
			script := filepath.Join(t.TempDir(), "_msgbusd")
			if err := os.WriteFile(script, text.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, c := range completionCases {
				offered, files := complete(t, script, c.typed)
				slices.Sort(offered)
				if !slices.Equal(offered, c.wants) || files != c.files {
					t.Errorf("%q: %q, files %t; want %q, files %t", c.typed, offered, files, c.wants, c.files)
				}
			}
			// And every command and option that there is.
			app := newApp(streams{})
			for _, c := range completableOf(app.Name, app.Usage, app.Flags, app.Commands).all() {
				offered, _ := complete(t, script, c.Path+" --")
				wants := strings.Fields(c.OptionNames())
				slices.Sort(offered)
				slices.Sort(wants)
				if !slices.Equal(offered, wants) {
					t.Errorf("%s: the options are %q, want %q", c.Path, offered, wants)
				}
			}
		})
	}
}

// One name that takes a value here and none there would have the scripts, which
// do not look at the command for that, misread what follows it.
func TestOptionsTakeAValueEverywhereOrNowhere(t *testing.T) {
	app := newApp(streams{})
	takes := map[string]bool{}
	for _, c := range completableOf(app.Name, app.Usage, app.Flags, app.Commands).all() {
		for _, o := range c.Options {
			if before, known := takes[o.Name]; known && before != (o.Value != "") {
				t.Errorf("%s --%s: takes a value elsewhere: %t", c.Path, o.Name, before)
			}
			takes[o.Name] = o.Value != ""
		}
	}
}

// completeInBash asks the function as readline does, which takes words apart at
// the equals sign.
func completeInBash(t *testing.T, script, typed string) (offered []string, files bool) {
	t.Helper()
	words := strings.Split(strings.ReplaceAll(typed, "=", " = "), " ")
	const ask = `
files=yes
compopt() { [[ $* != "+o default" ]] || files=no; }
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_msgbusd
echo "$files"
printf '%s\n' "${COMPREPLY[@]}"`
	out := output(t, exec.Command("bash", append([]string{"--norc", "-c", ask, "bash", script}, words...)...))
	return strings.Fields(strings.Join(out[1:], " ")), out[0] == "yes"
}

// fish tells what it would offer.
func completeInFish(t *testing.T, script, typed string) (offered []string, files bool) {
	t.Helper()
	cmd := exec.Command("fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", script, typed)
	cmd.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(cmd.Dir, "some-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	for _, line := range output(t, cmd) {
		word, _, _ := strings.Cut(line, "\t")
		if _, value, ok := strings.Cut(word, "="); ok { // the whole word is offered
			word = value
		}
		switch word {
		case "some-file":
			files = true
		case "", "-h":
		default:
			offered = append(offered, word)
		}
	}
	return offered, files
}

// zsh completes on a terminal only, so it gets one. The function that takes what is
// offered is replaced by one that writes it down, and two keys are typed: Tab, and
// one that says that Tab is done.
func completeInZsh(t *testing.T, script, typed string) (offered []string, files bool) {
	t.Helper()
	const ask = `
zmodload zsh/zpty
zpty -b shell env TERM=dumb zsh -f -i
zpty -w shell "cd $PWD; autoload -Uz compinit; compinit -D -u; source $1"
zpty -w shell 'compadd() { local -a hits; builtin compadd -O hits "$@" 2>/dev/null; print -rl -- $hits >>offers; builtin compadd "$@" }'
zpty -w shell 'tab-done() { : >done }; zle -N tab-done; bindkey "^G" tab-done; bindkey "^I" complete-word; : >ready'
# await FILE: reads meanwhile what the terminal shows, or the shell in it would stop.
await() {
	local i line
	for ((i = 0; i < 1000; i++)); do
		[[ ! -e $1 ]] || return 0
		zpty -r -t shell line || sleep 0.01
	done
	print -u2 "there is no $1"
}
await ready
zpty -w -n shell "$2"$'\t\a'
await done
zpty -d shell
[[ ! -e offers ]] || cat offers`
	cmd := exec.Command("zsh", "-f", "-c", ask, "zsh", script, typed)
	cmd.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(cmd.Dir, "some-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, word := range output(t, cmd) {
		switch word {
		case "some-file":
			files = true
		case "", "ready": // the latter is the test's own
		default:
			offered = append(offered, word)
		}
	}
	slices.Sort(offered)
	return slices.Compact(offered), files
}

// output returns the lines that a command writes.
func output(t *testing.T, cmd *exec.Cmd) []string {
	t.Helper()
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || said.Len() > 0 {
		t.Fatalf("%s: %v\n%s", cmd, err, &said)
	}
	return strings.Split(strings.TrimRight(string(out), "\n"), "\n")
}
