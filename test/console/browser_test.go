package console_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/msgbusd/msgbusd/internal/clienttest"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A browser is one that a person sits at, with one page open.
type browser struct {
	*testing.T
	ctx context.Context
	url string // of the console

	mu       sync.Mutex
	problems []string // what it complained of; guarded by mu
}

// launch starts Chromium. Without it a test is skipped: what it looks for is no work of
// the relay, and cannot be had on every machine.
func launch(t *testing.T, url string) *browser {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("there is no Chromium here, so nobody looks at the pages; scripts/test-deps installs it on Debian (apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program))
	allocator, free := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeTab := chromedp.NewContext(allocator, chromedp.WithErrorf(t.Logf))
	b := &browser{T: t, ctx: ctx, url: url}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // which waits for its end
			t.Logf("Chromium does not end well: %v", err)
		}
		closeTab()
		free()
	})
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	// What hangs ends the test and not the browser, which is asked for its complaints.
	limited, end := context.WithTimeout(ctx, 2*fleettest.Patience)
	t.Cleanup(end)
	b.ctx = limited
	_, err := chromedp.Call(b.ctx, log.Enable, cdp.Empty{})
	b.must(err)
	return b
}

// listen notes what a browser complains of: errors of the script, what the page's policy
// forbids, what cannot be loaded.
func (b *browser) listen(event any) {
	problem := ""
	switch e := event.(type) {
	case *log.EventEntryAdded:
		problem = fmt.Sprint(e.Entry.Source, " ", e.Entry.Level, ": ", e.Entry.Text, " ", e.Entry.URL)
	case *runtime.EventConsoleAPICalled:
		problem = fmt.Sprint("console.", e.Type)
		for _, arg := range e.Args {
			problem += " " + string(arg.Value)
		}
	case *runtime.EventExceptionThrown:
		problem = "exception: " + e.ExceptionDetails.Text
		if thrown := e.ExceptionDetails.Exception; thrown != nil {
			problem += " " + thrown.Description
		}
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, problem)
}

func (b *browser) wantNoProblems() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.Errorf("the browser complains: %s", p)
	}
}

func (b *browser) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	b.must(chromedp.Do(b.ctx, steps...))
}

// open goes to a page of the console.
func (b *browser) open(path string) {
	b.Helper()
	b.leave(chromedp.Navigate(b.url + path))
}

// leave does what leads to another page, and waits until that is there.
func (b *browser) leave(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	resp, err := chromedp.RunResponse(b.ctx, steps...)
	if err != nil {
		b.Fatalf("on the way from %s: %v", b.text("h1"), err)
	}
	if resp.Status != 200 {
		b.Fatalf("%s: status %d: %s", resp.URL, resp.Status, b.text("main"))
	}
}

// press presses a button by what stands on it, and waits for the page behind it.
func (b *browser) press(name string) {
	b.Helper()
	b.leave(chromedp.Click(chromedp.Search(fmt.Sprintf(`//button[normalize-space()=%q]`, name))))
}

// unfold opens what is folded up.
func (b *browser) unfold(name string) {
	b.Helper()
	b.do(chromedp.Click(chromedp.Search(fmt.Sprintf(`//summary[normalize-space()=%q]`, name))))
}

// text is what can be seen on the page.
func (b *browser) text(selector string) string {
	b.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](fmt.Sprintf(`(e => e?.checkVisibility() ? e.innerText : "")(document.querySelector(%q))`, selector)))
	if err != nil {
		return err.Error()
	}
	return text
}

func (b *browser) want(selector, text string) {
	b.Helper()
	if got := b.text(selector); !strings.Contains(got, text) {
		b.Errorf("%s says %q, want %q in it", selector, got, text)
	}
}

// signIn signs in by the form.
func (b *browser) signIn() {
	b.Helper()
	b.open("/login")
	b.do(chromedp.SendKeys(chromedp.CSS("input[name=token]"), token))
	b.press("Sign in")
	b.want(".who", "Sign out")
}

// A screen is what somebody looks at the pages with.
type screen struct {
	name          string
	width, height int64
	scheme        string
}

// put puts another screen before the browser.
func (b *browser) put(s screen) {
	b.Helper()
	b.do(chromedp.EmulateViewport(s.width, s.height))
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: s.scheme}},
	})
	b.must(err)
}

// withoutScripts is a browser in which JavaScript is forbidden.
func (b *browser) withoutScripts() {
	b.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.must(err)
}

// A violation is what axe finds wrong with a page.
type violation struct {
	ID     string   `json:"id"`
	Impact string   `json:"impact"`
	Help   string   `json:"help"`
	Nodes  []string `json:"nodes"`
}

// wantAccessible wants a page that also those can use who do not see it, or not well.
func (b *browser) wantAccessible(axe, page string) {
	b.Helper()
	const look = `axe.run(document, {preload: false, resultTypes: ["violations"]}).then(found => found.violations.map(v =>
		({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.slice(0, 3).map(n => n.html + " " + (n.any[0]?.message ?? ""))})))`
	known, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](`"axe" in window`))
	b.must(err)
	if !known { // it is large
		b.do(chromedp.Evaluate[chromedp.Void](axe))
	}
	violations, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]violation](look, chromedp.EvalAwaitPromise))
	b.must(err)
	for _, v := range violations {
		if v.Impact == "serious" || v.Impact == "critical" {
			b.Errorf("%s: %s: %s (%s)\n%s", page, v.Impact, v.Help, v.ID, strings.Join(v.Nodes, "\n"))
		} else {
			b.Logf("%s: %s: %s (%s)", page, v.Impact, v.Help, v.ID)
		}
	}
}

// axe is the source of axe-core.
func axe(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	clienttest.InstallNode(t, dir)
	text, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + ";0" // its value would be sent back
}

// photograph keeps what a page looks like, for people.
func (b *browser) photograph(file string) {
	b.Helper()
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	b.must(err)
	b.must(os.MkdirAll(filepath.Dir(file), 0o755))
	b.must(os.WriteFile(file, picture, 0o644))
}

// wantNarrow wants nothing to stand out of the page to the right.
func (b *browser) wantNarrow(page string) {
	b.Helper()
	over, err := chromedp.Run(b.ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - document.documentElement.clientWidth`))
	b.must(err)
	if over > 0 {
		b.Errorf("%s is %d pixels wider than the screen", page, over)
	}
}
