package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/msgbusd/msgbusd/gateway"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

const gatewaySecret = "a secret of more than 32 characters"

// A stage is the game's two machines, of which the first has a gateway, and a site that the
// page is from.
type stage struct {
	*testing.T
	a, b    *site
	gateway string // its URL
	pages   string // URL of the page's site
}

func newStage(t *testing.T) *stage {
	t.Helper()
	pages := httptest.NewServer(http.FileServer(http.Dir(".")))
	t.Cleanup(pages.Close)
	f := fleettest.New(t)
	a, b := f.Site(twinA), f.Site(twinB)
	listen := fleettest.FreeAddress(t)
	b.Start()
	a.Start("--gateway-listen", listen, "--gateway-secret-file", fleettest.SecretFile(t, gatewaySecret),
		"--gateway-from", fmt.Sprint(twinB), "--gateway-origin", pages.URL)
	tokens := &Tokens{}
	for _, token := range []string{"666.1", "666.2", "666.3"} {
		tokens.Grant(token, "666")
	}
	return &stage{T: t, a: newSite(t, a, twinB, tokens), b: newSite(t, b, twinA, tokens), gateway: "http://" + listen, pages: pages.URL}
}

// address is that of the page for user 666, whose game's session has a token of its own.
func (s *stage) address(auth string) string {
	s.Helper()
	token, err := gateway.Mint([]byte(gatewaySecret), gateway.Claims{
		User: "666", Topics: []string{Broadcast, UserChannel("666")}, Single: true, Expires: time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		s.Fatal(err)
	}
	settings := url.Values{"gateway": {s.gateway}, "user": {"666"}, "token": {token}, "auth": {auth}}
	return s.pages + "/page.html#" + settings.Encode()
}

// tell publishes from the machine that has no gateway.
func (s *stage) tell(channel, action string, data any, token string) {
	s.Helper()
	m := message(s.T, action, data)
	m.Token = token
	if err := s.b.Publish(patient(s.T), channel, m); err != nil {
		s.Fatal(err)
	}
}

// Users see nothing of what happens in their game, or see it twice, or go on to play when
// they have been sent away: whatever the tests of the messages say, no browser has shown it.
func TestThePageShowsItsUserWhatHappens(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	page := launch(t)
	page.open(s.address("666.1"))
	page.wants("state", "is connected")
	page.wants("user", "666")
	s.tell(Broadcast, ActionDebug, Debug{Message: "to <b>all</b>"}, "")
	page.wants("console", "to <b>all</b>")
	s.tell(UserChannel("667"), ActionDebug, Debug{Message: "for another"}, "")
	for range 2 { // a worker that crashed tells again
		s.tell(UserChannel("666"), ActionNodeReady, NodeReady{ID: "node-1", Type: "ContactPerp", Path: "some.full.path", Result: json.RawMessage(`{}`)}, "")
		s.tell(UserChannel("666"), ActionNewItems, NewItems{Items: []Item{{ID: "i1", Name: "coins", Count: 5}, {ID: "i2", Name: "keys", Count: 1}}}, "")
	}
	s.tell(UserChannel("666"), ActionKick, nil, "666.1") // for the others
	s.tell(UserChannel("666"), ActionDebug, Debug{Message: "the last"}, "")
	page.wants("console", "the last")
	page.wantsLines("console", "to <b>all</b>", "the last")
	page.wantsLines("ready", "ContactPerp some.full.path")
	page.wantsLines("items", "5 coins", "1 keys")
	page.wantsClosed(false)

	s.tell(UserChannel("666"), ActionKick, nil, "another")
	page.wants("state", "is sent away")
	page.wantsClosed(true)
}

// A user plays in a browser and in another client at once, and each game overwrites what the
// other has saved.
func TestAPageAndASessionEndEachOther(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	page := launch(t)
	for _, where := range []*site{s.a, s.b} {
		older := where.open("666.1")
		page.open(s.address("666.2"))
		page.wants("state", "is connected")
		older.wantKicked(t)
		page.wantsClosed(false)

		newer := where.open("666.3")
		page.wants("state", "is sent away")
		page.wantsClosed(true)
		newer.wantOpen(t, s.b)
		page.open("about:blank") // so that the next one is loaded, and not only its #
	}

	page.open(s.address("666.1"))
	page.wants("state", "is connected")
	newer := page.another()
	newer.open(s.address("666.2"))
	newer.wants("state", "is connected")
	page.wants("state", "is sent away")
	page.wantsClosed(true)
	newer.wantsClosed(false)
}

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
		t.Skip("there is no Chromium here, so nobody sees whether the page works; scripts/test-deps installs it on Debian (apt-get install chromium)")
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

func (b *tab) open(url string) {
	b.Helper()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(url)); err != nil {
		b.Fatal(err)
	}
}

func (b *tab) evaluate(js string) (string, error) {
	return chromedp.Run(b.ctx, chromedp.Evaluate[string](js))
}

// wants waits until an element of the page says this.
func (b *tab) wants(id, text string) {
	b.Helper()
	fleettest.Eventually(b, "the page's "+id, func() error {
		got, err := b.evaluate(fmt.Sprintf(`document.getElementById(%q).innerText`, id))
		if err == nil && !strings.Contains(got, text) {
			err = fmt.Errorf("it says %q, and not %q", got, text)
		}
		return err
	})
}

// wantsLines wants a list of the page to have these lines and no others.
func (b *tab) wantsLines(id string, lines ...string) {
	b.Helper()
	got, err := b.evaluate(fmt.Sprintf(`[...document.getElementById(%q).children].map((l) => l.textContent).join("\n")`, id))
	if want := strings.Join(lines, "\n"); err != nil || got != want {
		b.Errorf("%s shows %q (%v), want %q", id, got, err, want)
	}
}

// wantsClosed wants the page to know whether its session has ended.
func (b *tab) wantsClosed(closed bool) {
	b.Helper()
	got, err := b.evaluate(`document.body.dataset.closed ?? "false"`)
	if err != nil || got != fmt.Sprint(closed) {
		b.Errorf("the page is closed: %s (%v), want %v", got, err, closed)
	}
}
