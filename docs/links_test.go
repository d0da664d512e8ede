package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// A reader who follows a link of any page lands where it says.
func TestEveryLinkLeadsSomewhere(t *testing.T) { wantNoWrongLinks(t, os.DirFS("..")) }

// On a machine without this tree an operator reads what was installed, and the page that
// he needs at night is not there.
func TestInstalledPagesAreAllAndLeadSomewhere(t *testing.T) {
	dest := t.TempDir()
	makes := func(target string) {
		t.Helper()
		cmd := exec.Command("make", "-C", "..", "--no-print-directory", "--old-file="+bin+"/msgbusd", target, "BIN="+bin+"/msgbusd", "PREFIX=/usr", "DESTDIR="+dest)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
	}
	makes("install")
	installed := filepath.Join(dest, "usr/share/doc/msgbusd")
	// For who writes programs, and has the tree:
	wantNoWrongLinks(t, os.DirFS(installed), "httpapi/transfer/testdata/README.md",
		"client", "../client", "clients/typescript", "../clients/typescript", "examples/README.md", "../examples/README.md")
	ours, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(ours, "two-twins.sh", "monitoring/README.md", "monitoring/alerts.yml", "monitoring/grafana-dashboard.json") {
		info, err := os.Stat(filepath.Join(installed, "docs", page))
		switch {
		case err != nil:
			t.Errorf("it is not installed: %v", err)
		case info.Mode().Perm() != 0o644:
			t.Errorf("%s has mode %v, want 0644", page, info.Mode().Perm())
		}
	}
	makes("uninstall")
	if _, err := os.Stat(installed); err == nil {
		t.Errorf("make uninstall leaves %s", installed)
	}
}

func wantNoWrongLinks(t *testing.T, root fs.FS, but ...string) {
	t.Helper()
	pages := 0
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"node_modules", "bin", "dist", "testdata"}, d.Name())):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		pages++
		text, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		for _, complaint := range wrongLinks(root, path, string(text)) {
			if !slices.ContainsFunc(but, func(target string) bool { return strings.Contains(complaint, ": "+target+": ") }) {
				t.Error(complaint)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages < 5 {
		t.Errorf("only %d pages were found", pages)
	}
}

// The check above is worth something only if it sees what is wrong.
func TestALinkThatLeadsNowhereIsSeen(t *testing.T) {
	root := os.DirFS("..")
	for text, want := range map[string]string{
		"a\n[x](nothing.md)":                      "README.md:2: nothing.md: no such file",
		"[x](DESIGN.md#nothing)":                  "README.md:1: DESIGN.md#nothing: no such heading",
		"# One two, `three`\n[x](#one-two)":       "README.md:2: #one-two: no such heading",
		"[x](http://example.org)":                 "README.md:1: http://example.org: not https",
		"<http://example.org>":                    "README.md:1: http://example.org: not https",
		"[x]: nothing.md":                         "README.md:1: nothing.md: no such file",
		"# One two, `three`\n[x](#one-two-three)": "",
		"```\n[x](nothing.md)\n```\n`[x](nothing.md)` [x](docs) [y](https://example.org)": "",
	} {
		if got := strings.Join(wrongLinks(root, "README.md", text), "\n"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

var (
	inline    = regexp.MustCompile(`\]\(([^()\s]+(?:\([^()\s]*\))?)[^()]*\)`)
	reference = regexp.MustCompile(`^\[[^\]]+\]:\s+(\S+)`)
	autolink  = regexp.MustCompile(`<(https?://[^>\s]+)>`)
	code      = regexp.MustCompile("`[^`]*`")
	linked    = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	scheme    = regexp.MustCompile(`^[a-z][a-z+.-]*:`)
)

// wrongLinks returns a line for each link of a page that is wrong.
func wrongLinks(root fs.FS, page, text string) (complaints []string) {
	for n, line := range prose(text) {
		line = code.ReplaceAllString(line, "")
		for _, pattern := range []*regexp.Regexp{inline, reference, autolink} {
			for _, m := range pattern.FindAllStringSubmatch(line, -1) {
				if why := wrongLink(root, page, text, m[1]); why != "" {
					complaints = append(complaints, fmt.Sprintf("%s:%d: %s: %s", page, n+1, m[1], why))
				}
			}
		}
	}
	return complaints
}

func wrongLink(root fs.FS, page, text, target string) string {
	switch {
	case strings.HasPrefix(target, "https://") || strings.HasPrefix(target, "mailto:"):
		return ""
	case scheme.MatchString(target):
		return "not https"
	}
	path, anchor, hasAnchor := strings.Cut(target, "#")
	if path != "" {
		path = filepath.ToSlash(filepath.Join(filepath.Dir(page), path))
		info, err := fs.Stat(root, path)
		switch {
		case err != nil:
			return "no such file"
		case !hasAnchor:
			return ""
		case info.IsDir() || filepath.Ext(path) != ".md":
			return "only pages have headings"
		}
		other, err := fs.ReadFile(root, path)
		if err != nil {
			return err.Error()
		}
		text = string(other)
	}
	if !slices.Contains(anchors(text), anchor) {
		return "no such heading"
	}
	return ""
}

// prose returns the lines of a page, those of fenced blocks empty.
func prose(text string) []string {
	lines := strings.Split(text, "\n")
	fence := ""
	for i, line := range lines {
		mark := fenceOf(line)
		switch {
		case fence == "" && mark != "":
			fence, lines[i] = mark, ""
		case fence != "":
			if lines[i] = ""; mark == fence && strings.TrimSpace(line) == mark {
				fence = ""
			}
		}
	}
	return lines
}

// fenceOf returns the backticks with which a fenced block begins or ends, or "".
func fenceOf(line string) string {
	line = strings.TrimLeft(line, " ")
	ticks := line[:len(line)-len(strings.TrimLeft(line, "`"))]
	if len(ticks) < 3 {
		return ""
	}
	return ticks
}

// anchors returns what GitHub makes of the headings of a page.
func anchors(text string) []string {
	seen := map[string]int{}
	var out []string
	for _, line := range prose(text) {
		level := len(line) - len(strings.TrimLeft(line, "#"))
		if level == 0 || level > 6 || !strings.HasPrefix(line[level:], " ") {
			continue
		}
		heading := linked.ReplaceAllString(strings.TrimSpace(line[level:]), "$1")
		slug := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, heading)
		if n := seen[slug]; n > 0 {
			out = append(out, fmt.Sprintf("%s-%d", slug, n))
		} else {
			out = append(out, slug)
		}
		seen[slug]++
	}
	return out
}
