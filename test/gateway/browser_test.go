package gateway_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A tab is one in which a page is open.
type tab struct {
	*testing.T
	ctx context.Context
}

// launch starts Chromium, with one tab. Without it a test is skipped.
func launch(t *testing.T) *tab {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("there is no Chromium here, so nobody sees whether browsers understand the gateway; scripts/test-deps installs it on Debian (apt-get install chromium)")
	}
	allocator, free := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program))...)
	ctx, closeTab := chromedp.NewContext(allocator, chromedp.WithErrorf(t.Logf))
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil { // which waits for its end
			t.Logf("Chromium does not end well: %v", err)
		}
		closeTab()
		free()
	})
	limited, end := context.WithTimeout(ctx, 2*fleettest.Patience)
	t.Cleanup(end)
	return &tab{t, limited}
}

// another opens one more tab of the same browser.
func (b *tab) another() *tab {
	b.Helper()
	ctx, closeTab := chromedp.NewContext(b.ctx)
	b.Cleanup(closeTab)
	return &tab{b.T, ctx}
}

// open goes to a page.
func (b *tab) open(url string) {
	b.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(url)); err != nil {
		b.Fatal(err)
	}
}

// wants waits until an element of the page says this.
func (b *tab) wants(id, text string) {
	b.Helper()
	fleettest.Eventually(b, "the page's "+id, func() error {
		got, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](fmt.Sprintf(`document.getElementById(%q).innerText`, id)))
		if err == nil && !strings.Contains(got, text) {
			err = fmt.Errorf("it says %q, and not %q", got, text)
		}
		return err
	})
}
