package docs_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/freeport"
)

// How pages say what is to be run is told in README.md, under "For those who change
// these pages".

// pageTime is how long a page may take.
const pageTime = 90 * time.Second

// port matches the ports of the pages. Each is another, free one when they run.
var port = regexp.MustCompile(`\b7[012]0[0-9]\b`)

// A reader who copies the blocks of a page, one after the other, sees what it promises.
func TestThePagesDoWhatTheySay(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("pages: %q, %v", pages, err)
	}
	for _, name := range pages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			p := parse(string(text))
			if len(p.blocks) == 0 {
				t.Skip("nothing here is to be run")
			}
			for _, complaint := range p.run(t) {
				t.Errorf("%s:%s", name, complaint)
			}
		})
	}
}

// The check above is worth something only if it sees what is wrong.
func TestAPageThatIsWrongIsSeen(t *testing.T) {
	for name, tc := range map[string]struct{ page, want string }{
		"right":           {"```sh run\necho a 7001 b\n```\n\n```text\na … b\n```", ""},
		"a command fails": {"x\n```sh run\ntrue\nfalse\ntrue\n```", "4: a command fails"},
		"other output":    {"```sh run\necho b\n```\n```text\na\n```", `5: the output has no line "a"`},
		"it should fail":  {"```sh run fails\ntrue\n```", "1: the last command does not fail"},
		"it does fail":    {"```sh run fails\nfalse\n```", ""},
		"a file":          {"```json file=a.json\n[7001]\n```\n```sh run\ncat a.json\n```\n```text\n[7001]\n```", ""},
		"what it starts":  {"```sh run\nsleep 1000 &\n```\n<!--\n```sh run\nkill -0 $!\n```\n-->", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(tc.page)
			got := strings.Join(p.run(t), "\n")
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("complaints are %q, want %q", got, tc.want)
			}
		})
	}
}

// A page is what is to be run of it.
type page struct {
	lines  []string // of the shell script: as many as the page has
	blocks []block
	files  map[string]string
}

// A block is run, and its output must have these lines, in this order.
type block struct {
	line  int
	want  []string
	first int // line of want[0]
}

func parse(text string) *page {
	p := &page{files: map[string]string{}}
	lines := strings.Split(text, "\n")
	p.lines = make([]string, len(lines))
	last := ""
	for i := 0; i < len(lines); i++ {
		mark := fenceOf(lines[i])
		if mark == "" {
			continue
		}
		info := strings.TrimPrefix(strings.TrimSpace(lines[i]), mark)
		end := i + 1
		for end < len(lines) && strings.TrimSpace(lines[end]) != mark {
			end++
		}
		body := lines[i+1 : min(end, len(lines))]
		switch kind, file, _ := strings.Cut(info, " file="); {
		case info == "sh run", info == "sh run fails":
			p.blocks = append(p.blocks, block{line: i + 1})
			p.script(i, end, body, info == "sh run fails")
		case info == "text" && strings.HasPrefix(last, "sh run"):
			b := &p.blocks[len(p.blocks)-1]
			b.want, b.first = body, i+2
		case kind != info:
			p.files[file] = strings.Join(body, "\n") + "\n"
		}
		last, i = info, end
	}
	return p
}

// script puts a block where it stands on the page, so that bash numbers its lines as
// the page does.
func (p *page) script(begin, end int, body []string, fails bool) {
	copy(p.lines[begin+1:], body)
	start := fmt.Sprintf(`exec >"$OUTPUT/%d" 2>&1;`, begin+1)
	if !fails {
		p.lines[begin] = start + ` set -eE; trap 'echo "$LINENO" >"$OUTPUT/failed"' ERR`
		return
	}
	p.lines[begin] = start + " set +eE; trap - ERR"
	p.lines[end] = fmt.Sprintf(`[ $? -ne 0 ] || { echo %d >"$OUTPUT/not-failed"; exit 1; }`, begin+1)
}

// run returns what is wrong, each with its line.
func (p *page) run(t *testing.T) []string {
	t.Helper()
	home, output := t.TempDir(), t.TempDir()
	if script := "two-twins.sh"; slices.ContainsFunc(p.lines, func(l string) bool { return strings.Contains(l, script) }) {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		p.files[script] = string(text)
	}
	there, back := ports(t, strings.Join(p.lines, "\n")+fmt.Sprint(p.files))
	for name, text := range p.files {
		if err := os.WriteFile(filepath.Join(home, name), []byte(there(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ended := p.bash(t, home, output, there(strings.Join(p.lines, "\n")))
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(output, name))
		return back(string(text))
	}
	var complaints []string
	for _, b := range p.blocks {
		n := strconv.Itoa(b.line)
		if _, err := os.Stat(filepath.Join(output, n)); err != nil {
			break // it was not reached
		}
		if line, missing := b.missing(read(n)); missing != "" {
			complaints = append(complaints, fmt.Sprintf("%d: the output has no line %q:\n%s", line, missing, read(n)))
		}
	}
	switch failed, not := strings.TrimSpace(read("failed")), strings.TrimSpace(read("not-failed")); {
	case ended == nil:
	case failed != "":
		complaints = append(complaints, failed+": a command fails:\n"+back(lastOutput(p, read)))
	case not != "":
		complaints = append(complaints, not+": the last command does not fail:\n"+read(not))
	default:
		complaints = append(complaints, fmt.Sprintf("0: %v:\n%s", ended, lastOutput(p, read)))
	}
	return complaints
}

func lastOutput(p *page, read func(string) string) (last string) {
	for _, b := range p.blocks {
		if text := read(strconv.Itoa(b.line)); text != "" {
			last = text
		}
	}
	return last
}

// bash runs a script and ends all that it has started.
func (p *page) bash(t *testing.T, home, output, script string) error {
	t.Helper()
	docs, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), pageTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = home
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MSGBUSD_") }),
		"PATH="+bin+":"+os.Getenv("PATH"), "HOME="+home, "OUTPUT="+output, "DOCS="+docs)
	// A group of its own: what a page starts and does not end is ended with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var errs bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &errs, time.Second
	err = cmd.Run()
	if cmd.Process != nil {
		endGroup(cmd.Process.Pid)
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("not finished within %s", pageTime)
	case err != nil:
		return fmt.Errorf("%w: %s", err, errs.Bytes())
	}
	return nil
}

// endGroup ends a group of processes, and waits until they write no more into folders
// that are about to be removed.
func endGroup(id int) {
	_ = syscall.Kill(-id, syscall.SIGKILL)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for range 500 {
		if syscall.Kill(-id, 0) != nil {
			return
		}
		<-ticker.C
	}
}

// ports returns functions that put free ports in the place of those of a page, and back.
func ports(t *testing.T, text string) (there, back func(string) string) {
	t.Helper()
	var to, fro []string
	for _, p := range port.FindAllString(text, -1) {
		if !slices.Contains(to, p) {
			free := strconv.Itoa(freeport.Draw(t))
			to, fro = append(to, p, free), append(fro, free, p)
		}
	}
	replace := func(pairs []string) func(string) string {
		return func(s string) string {
			return regexp.MustCompile(`\b[0-9]{4,5}\b`).ReplaceAllStringFunc(s, func(n string) string {
				for i := 0; i < len(pairs); i += 2 {
					if pairs[i] == n {
						return pairs[i+1]
					}
				}
				return n
			})
		}
	}
	return replace(to), replace(fro)
}

// missing returns the first line that the output has not, after those before it.
func (b *block) missing(output string) (line int, text string) {
	lines := strings.Split(output, "\n")
	for i, want := range b.want {
		want = strings.TrimSpace(want)
		if want == "" || want == "…" {
			continue
		}
		parts := strings.Split(want, "…")
		for j := range parts {
			parts[j] = regexp.QuoteMeta(strings.Join(strings.Fields(parts[j]), " "))
		}
		// Columns are as wide as what stands in them.
		pattern := regexp.MustCompile(`^` + strings.ReplaceAll(strings.Join(parts, ".*"), " ", `\s+`) + `$`)
		at := slices.IndexFunc(lines, func(l string) bool {
			return pattern.MatchString(strings.Join(strings.Fields(l), " "))
		})
		if at < 0 {
			return b.first + i, want
		}
		lines = lines[at+1:]
	}
	return 0, ""
}
