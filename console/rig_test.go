package console_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/console"
	"github.com/msgbusd/msgbusd/inspect"
	"github.com/msgbusd/msgbusd/internal/redistest"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

func TestMain(m *testing.M) {
	// go-redis looks for a Redis that is away once a second, and sees only then that
	// its client was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const token = "a token that nobody guesses"

// A rig is a console over a Redis with messages in it.
type rig struct {
	*testing.T
	redis   *redistest.Server
	rdb     *redis.Client
	store   *backlog.Store
	console *console.Console
	url     string // of the machine, without a path
}

// start starts a console with a token, unless the settings say otherwise.
func start(t *testing.T, settings ...func(*console.Options)) *rig {
	t.Helper()
	r := &rig{T: t, redis: redistest.Start(t)}
	r.rdb = r.redis.Client()
	addr, err := backlog.ParseURL(r.redis.URL())
	r.must(err)
	r.store, err = backlog.Open(backlog.Options{Redis: addr, Twin: 1001, Instance: "a"})
	r.must(err)
	t.Cleanup(func() { _ = r.store.Close() })
	r.must(r.store.Join(t.Context()))
	opts := console.Options{
		Version: "v1.2.3", Twin: 1001, Instance: "a", Token: token, Log: zerolog.Nop(),
		Settings: func() []console.Setting {
			return []console.Setting{{Group: "relay", Name: "--workers", Value: "64", Source: "default"}}
		},
		Twins: func() []console.TwinView {
			return []console.TwinView{{ID: 1002, Account: "5FHneW46", Address: "192.0.2.7:8051", Asked: time.Now(), Problem: "the resolver is away"}}
		},
		Drop: func(ctx context.Context, uid string) error {
			return relay.New(relay.Options{Twin: 1001, Log: zerolog.Nop()}, r.store, nil).DropRequest(ctx, uid)
		},
	}
	for _, set := range settings {
		set(&opts)
	}
	r.console = console.New(opts, r.store, inspect.Watch(r.store))
	server := httptest.NewServer(r.console.Handler())
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func without(o *console.Options) { o.Token = "" }
func guarded(o *console.Options) { o.Guarded = true }

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// admit puts a request of an app into the backlog.
func (r *rig) admit(twin uint32, data string, settings ...func(*msgbus.Message)) (uid string) {
	r.Helper()
	m := &msgbus.Message{
		Version: 1, Command: "calc.add", Expiration: 60, Retry: 3, Data: base64.StdEncoding.EncodeToString([]byte(data)),
		Destinations: []uint32{twin}, ReturnQueue: "app.ret",
	}
	for _, set := range settings {
		set(m)
	}
	uids, _, err := r.store.AdmitAndFetch(r.Context(), r.take("{}"), []msgbus.Admission{{Message: m}}, 0)
	r.must(err)
	return uids[0]
}

// take pushes a message as an app does, and takes it.
func (r *rig) take(message string) *msgbus.Claim {
	r.Helper()
	r.must(r.rdb.RPush(r.Context(), "msgbus.system.local", message).Err())
	c, err := r.store.Take(r.Context(), msgbus.LocalQueue)
	r.must(err)
	return c
}

func (r *rig) fetch(twin uint32) *msgbus.Batch {
	r.Helper()
	b, err := r.store.Fetch(r.Context(), twin)
	r.must(err)
	return b
}

// bury makes a dead letter of a message, and returns its id.
func (r *rig) bury(message string, reason msgbus.Reason, detail string) (id string) {
	r.Helper()
	c := r.take(message)
	_, err := r.store.Bury(r.Context(), c, 0, msgbus.Refuse(reason, "%s", detail))
	r.must(err)
	r.must(r.store.Drop(r.Context(), c))
	letters, _, err := r.store.DeadLetters(r.Context(), "", "", 1, 0)
	r.must(err)
	return letters[0].ID
}

// A trouble is what the Redis of a relay in trouble holds.
type trouble struct {
	failing, paused, putOff, sent string // uids, to twins 1002 to 1005
	malformed, ofLane             string // dead letters
}

func (r *rig) inTrouble() (w trouble) {
	r.Helper()
	w.failing = r.admit(1002, "for the dead twin")
	r.fetch(1002)
	_, err := r.store.Fail(r.Context(), 1002, msgbus.Failure{Reason: msgbus.Unreachable, Detail: "no route to host"})
	r.must(err)
	w.paused = r.admit(1003, "for the twin that rests")
	_, err = r.store.PauseLane(r.Context(), 1003)
	r.must(err)
	w.putOff = r.admit(1004, "for the busy twin")
	r.must(r.store.Settle(r.Context(), 1004, msgbus.Settlement{
		Answered: true, PutOff: r.fetch(1004).Parcels, Why: msgbus.Deferral{Reason: msgbus.QueueFull, Detail: "its queue is full", After: time.Minute},
	}))
	w.sent = r.admit(1005, "for the slow twin")
	r.must(r.store.Settle(r.Context(), 1005, msgbus.Settlement{Answered: true, Settled: r.fetch(1005).Parcels}))
	w.malformed = r.bury("this is no message", msgbus.Malformed, "not JSON")
	r.admit(1006, "what the relay cannot bear")
	r.must(r.store.BuryParcel(r.Context(), r.fetch(1006).Parcels[0], msgbus.Refuse(msgbus.Poison, "it makes the relay panic")))
	letters, _, err := r.store.DeadLetters(r.Context(), "", "", 1, 0)
	r.must(err)
	w.ofLane = letters[0].ID
	_, err = r.store.Accept(r.Context(), nil, 1009, "00112233445566778899aabbccddeeff", []msgbus.Acceptance{{
		UID: msgbus.FormatUID(1001, 1), Number: 1, Command: "nobody.serves", Life: time.Minute, Body: []byte(`{"cmd":"nobody.serves"}`),
	}})
	r.must(err)
	return w
}

// A visitor is a browser, or a program with the token.
type visitor struct {
	*rig
	client *http.Client
	header http.Header // of every request
	csrf   string      // that the forms of its pages hold
}

// visit is by somebody who has not signed in. Redirects are not followed.
func (r *rig) visit() *visitor {
	jar, err := cookiejar.New(nil)
	r.must(err)
	v := &visitor{rig: r, header: http.Header{}, client: &http.Client{
		Jar: jar, Transport: &http.Transport{}, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	r.Cleanup(v.client.CloseIdleConnections)
	return v
}

// signIn is by somebody who has.
func (r *rig) signIn() *visitor {
	r.Helper()
	v := r.visit()
	v.want(v.post("/login", "token", token), http.StatusSeeOther)
	v.csrf = csrfIn(v.get("/").body)
	if v.csrf == "" {
		r.Fatal("the page of one who has signed in holds no form")
	}
	return v
}

// program is by one with the token.
func (r *rig) program(token string) *visitor {
	v := r.visit()
	v.header.Set("Authorization", "Bearer "+token)
	return v
}

func csrfIn(page string) string {
	if m := regexp.MustCompile(`name="csrf" value="([0-9a-f]+)"`).FindStringSubmatch(page); m != nil {
		return m[1]
	}
	return ""
}

// An answer is what came back.
type answer struct {
	*http.Response
	what, body string
}

func (v *visitor) get(path string) answer {
	v.Helper()
	req, err := http.NewRequestWithContext(v.Context(), http.MethodGet, v.url+console.Path+path, nil)
	v.must(err)
	return v.do(req)
}

// post sends a form of pairs of a name and a value.
func (v *visitor) post(path string, pairs ...string) answer {
	v.Helper()
	return v.do(v.form(path, pairs...))
}

func (v *visitor) form(path string, pairs ...string) *http.Request {
	v.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequestWithContext(v.Context(), http.MethodPost, v.url+console.Path+path, strings.NewReader(form.Encode()))
	v.must(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req
}

// press sends a form as a page of this visitor would.
func (v *visitor) press(path string, pairs ...string) answer {
	v.Helper()
	return v.post(path, append(pairs, "csrf", v.csrf)...)
}

func (v *visitor) do(req *http.Request) answer {
	v.Helper()
	for name, values := range v.header {
		req.Header[name] = values
	}
	resp, err := v.client.Do(req)
	v.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	v.must(err)
	return answer{resp, req.Method + " " + req.URL.RequestURI(), string(body)}
}

// want wants a status, and texts on the page.
func (v *visitor) want(a answer, status int, texts ...string) {
	v.Helper()
	if a.StatusCode != status {
		v.Errorf("%s: status %d, want %d: %.600s", a.what, a.StatusCode, status, a.body)
		return
	}
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			v.Errorf("%s does not show %q but\n%.4000s", a.what, text, a.body)
		}
	}
}

// wantNone wants texts not to be on the page.
func (v *visitor) wantNone(a answer, texts ...string) {
	v.Helper()
	for _, text := range texts {
		if strings.Contains(a.body, text) {
			v.Errorf("%s shows %q", a.what, text)
		}
	}
}

// wantDone follows the way back from a form and wants the page to say what was done.
func (v *visitor) wantDone(a answer, text string) {
	v.Helper()
	v.want(a, http.StatusSeeOther)
	to := strings.TrimPrefix(a.Header.Get("Location"), console.Path)
	v.want(v.get(to), http.StatusOK, `role="status">`+text+"</p>")
	v.wantNone(v.get(to), text) // it is said once
}

func (v *visitor) json(path string, into any) {
	v.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	a := v.get(path + separator + "format=json")
	v.want(a, http.StatusOK)
	if kind := a.Header.Get("Content-Type"); kind != "application/json" {
		v.Errorf("%s is %s", a.what, kind)
	}
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		v.Errorf("%s: %v in %.500s", a.what, err, a.body)
	}
}

func (r *rig) list(key string) string {
	r.Helper()
	l, err := r.rdb.LRange(r.Context(), key, 0, -1).Result()
	r.must(err)
	return fmt.Sprint(l)
}

func (r *rig) lane(twin uint32) backlog.LaneView {
	r.Helper()
	l, err := r.store.ViewLane(r.Context(), twin)
	r.must(err)
	return l
}

// dump is all that Redis holds but for its clock and sessions, to show that nothing was
// changed.
func (r *rig) dump() string {
	r.Helper()
	keys, err := r.rdb.Keys(r.Context(), "*").Result()
	r.must(err)
	all := map[string]string{}
	for _, k := range keys {
		text, err := r.rdb.Dump(r.Context(), k).Result()
		r.must(err)
		all[k] = text
	}
	return fmt.Sprintf("%q", all)
}

func wantEqual[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}
