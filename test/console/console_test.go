// Package console_test looks at the console of a real relay in trouble with a real
// browser: what people see, press and are told.
package console_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

func TestMain(m *testing.M) { fleettest.Main(m, "2") }

const token = "a token that nobody guesses"

const (
	self = 1001
	gone = 1002 // nobody answers at its address
)

// A relay is one in trouble.
type relay struct {
	*fleettest.Site
	uid  string // of a request to the twin that is gone
	dead string // id of a dead letter
}

func (r *relay) console() string { return "http://" + r.Admin + "/console" }

// inTrouble starts a relay with a peer that is gone, a message that nobody can read and a
// queue that nobody serves.
func inTrouble(t *testing.T) *relay {
	t.Helper()
	f := fleettest.New(t)
	r := &relay{Site: f.Site(self)}
	f.Stranger(gone, fleettest.FreeAddress(t))
	r.Start("--admin-token-file", fleettest.SecretFile(t, token))
	for n := range 3 {
		r.Push(lasting(fleettest.Request("weather.now", fmt.Sprint("what is the weather in ", n), gone)))
	}
	other := f.Stranger(1009, fleettest.FreeAddress(t))
	request := other.Sign(other.Wire("nobody.serves", "<script>alert(1)</script>", self, 1))
	if status, answer := fleettest.PostText(t, r.URL("/zbus-remote"), request.String()); status != 200 && status != 202 {
		t.Fatalf("a request of another twin: status %d, %s", status, answer)
	}
	r.bury()
	r.await(`"failing":1`, `"unserved":1`, `"dead_letters":1`, `"waiting":3`)
	lane, err := r.RDB.ZRange(t.Context(), "msgbus.system.lane."+fmt.Sprint(gone)+".requests", 0, 0).Result()
	if err != nil || len(lane) == 0 {
		t.Fatalf("no request waits for the twin that is gone: %v", err)
	}
	r.uid = lane[0]
	return r
}

// lasting is a request that does not end while a test looks.
func lasting(m fleettest.Message) fleettest.Message { return m.With("exp", 3600).With("try", 1000) }

// bury makes a dead letter.
func (r *relay) bury() {
	r.T.Helper()
	r.PushRaw("local", `<script>alert("I am no message")</script>`)
	r.NextDead()
	letters, err := r.RDB.XRevRangeN(r.T.Context(), "msgbus.system.dead", "+", "-", 1).Result()
	if err != nil {
		r.T.Fatal(err)
	}
	r.dead = letters[0].ID
}

// await waits until the overview says all of this in JSON.
func (r *relay) await(texts ...string) {
	r.T.Helper()
	fleettest.Eventually(r.T, "the overview", func() error {
		_, body, err := r.Daemon.Look("/console/?format=json")
		for _, text := range texts {
			if err == nil && !strings.Contains(body, text) {
				err = fmt.Errorf("there is no %s in %s", text, body)
			}
		}
		return err
	})
}

// An operator cannot read a page on his phone at night, or not at all, since he uses a
// screen reader; or the browser forbids what a page wants to do.
func TestPagesCanBeSeenByEverybody(t *testing.T) {
	t.Parallel()
	r := inTrouble(t)
	b := launch(t, r.console())
	source := axe(t)
	dir, err := filepath.Abs("screenshots")
	if err != nil {
		t.Fatal(err)
	}
	_ = os.RemoveAll(dir)
	t.Logf("what it looks like is in %s", dir)
	b.open("/")
	b.wantAccessible(source, "overview without the token")
	b.signIn()
	for name, path := range map[string]string{
		"overview": "/", "lanes": "/lanes", "lane": "/lanes/1002", "queues": "/queues", "queue": "/queues/nobody.serves?of=service",
		"backlog": "/backlog", "request": "/backlog/" + r.uid, "dead": "/dead", "letter": "/dead/" + r.dead, "trace": "/trace?uid=" + r.uid,
		"twins": "/twins", "settings": "/settings", "login": "/login",
	} {
		b.open(path)
		for _, s := range []screen{
			{"desktop-light", 1280, 800, "light"}, {"desktop-dark", 1280, 800, "dark"},
			{"phone-light", 360, 740, "light"}, {"phone-dark", 360, 740, "dark"},
		} {
			b.put(s)
			page := name + " on " + s.name
			b.wantNarrow(page)
			b.photograph(filepath.Join(dir, s.name, name+".png"))
			if s.name == "desktop-light" || s.name == "phone-dark" { // both of each, and half of the time
				b.wantAccessible(source, page)
			}
		}
	}
	b.wantNoProblems()
}

// An operator presses a button and nothing happens, or something else; and where
// JavaScript is forbidden, nothing works at all.
func TestButtonsDoWhatStandsOnThem(t *testing.T) {
	for name, scripts := range map[string]bool{"with JavaScript": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := inTrouble(t)
			b := launch(t, r.console())
			if !scripts {
				b.withoutScripts()
			}
			b.open("/")
			b.want("main", "requests have not ended")
			b.want(".who", "Sign in")
			b.signIn()
			pressLane(b)
			pressRequest(b, r)
			pressDead(b, r)
			b.open("/")
			b.press("Sign out")
			b.want(".who", "Sign in")
			b.wantNoProblems()
		})
	}
}

func pressLane(b *browser) {
	b.Helper()
	b.open("/lanes/1002")
	b.press("Pause")
	b.want(".done", "The lane to twin 1002 is paused.")
	b.want("dl", "paused")
	b.press("Resume")
	b.want(".done", "it is not paused any more")
	b.press("Retry now")
	b.want(".done", "is due now")
}

func pressRequest(b *browser, r *relay) {
	b.Helper()
	b.open("/")
	b.do(chromedp.SendKeys(chromedp.CSS("input[name=uid]"), r.uid))
	b.press("Trace")
	b.want(".way", "weather.now to twin 1002")
	b.open("/backlog/" + r.uid)
	b.want("pre", "what is the weather")
	b.press("Retry its lane now")
	b.want(".done", "is due now")
	b.unfold("Drop it")
	b.press("Drop this request")
	b.want(".done", "Request "+r.uid+" has ended")
	b.want("main", "2 requests")
}

func pressDead(b *browser, r *relay) {
	b.Helper()
	b.open("/dead/" + r.dead)
	b.want("pre", `<script>alert("I am no message")</script>`)
	b.press("Retry")
	b.want(".done", "1 of 1 dead letters were put back.")
	r.NextDead() // it is no better
	b.open("/dead")
	b.do(chromedp.Click(chromedp.CSS("input[name=id]")))
	b.press("Retry")
	b.want(".done", "1 of 1")
	r.NextDead()
	r.bury()
	b.open("/dead/" + r.dead)
	b.unfold("Drop")
	b.press("Drop this dead letter")
	b.want(".done", "1 of 1 dead letters were dropped.")
	b.do(chromedp.Click(chromedp.CSS("input[value=all]")))
	b.unfold("Drop")
	b.press("Drop for good")
	b.want(".done", "1 of 1 dead letters were dropped.")
	b.want("main", "There are none")
}

// The numbers of the overview stand still while the operator waits for them to move; and
// when the relay is gone they look as if all was well.
func TestNumbersOfAnOpenPageMove(t *testing.T) {
	t.Parallel()
	r := inTrouble(t)
	b := launch(t, r.console())
	b.open("/")
	waiting := func(want string) {
		t.Helper()
		fleettest.Eventually(t, "the number of those that wait", func() error {
			if got := b.text(`[data-live="stats.waiting"]`); got != want {
				return fmt.Errorf("it is %q", got)
			}
			return nil
		})
	}
	waiting("3")
	r.Push(lasting(fleettest.Request("weather.now", "and tomorrow?", gone)))
	waiting("4")
	b.wantNoProblems()
	if says := b.text("#away"); says != "" {
		t.Errorf("while all is well the page says %q", says)
	}
	r.Daemon.Stop()
	fleettest.Eventually(t, "the page", func() error {
		if got := b.text("#away"); !strings.Contains(got, "These numbers are old") {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
}
