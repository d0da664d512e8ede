package console_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/console"
	"github.com/msgbusd/msgbusd/msgbus"
)

// An operator opens a page in the middle of an outage and finds an error, or not what he
// came for; or his script finds no JSON behind the same address.
func TestEachPageShowsWhatThereIs(t *testing.T) {
	r := start(t)
	w := r.inTrouble()
	v := r.signIn()
	for path, texts := range map[string][]string{
		"/":                                {"twin 1001", "v1.2.3, relay a", `data-live="stats.waiting">4<`, `data-live="census.dead_letters">2<`, `data-live="queues.unserved">1<`, "a crash of Redis loses everything", "oldest request that does not go on", "unreachable: no route to host", `href="/console/lanes/1003"`, "queue_full: its queue is full", "<svg"},
		"/lanes":                           {`/console/lanes/1002">1002`, "failing", "paused", "put off", "unreachable: no route to host"},
		"/lanes/1002":                      {"failing", "no route to host", w.failing, "Retry now", "Pause"},
		"/lanes/1003":                      {"paused", w.paused, "Resume"},
		"/lanes/1099":                      {"waiting", "There are none."},
		"/queues":                          {">local<", ">remote<", ">reply<", ">nobody.serves<", "never: nobody serves it"},
		"/queues/nobody.serves?of=service": {`{&#34;cmd&#34;:&#34;nobody.serves&#34;}`},
		"/queues/local":                    {"It is empty."},
		"/backlog":                         {"4 requests", w.failing, w.paused, w.putOff, w.sent, "calc.add", "unreachable: no route to host"},
		"/backlog?twin=1002":               {w.failing},
		"/backlog/" + w.failing:            {"calc.add", "app.ret", "waiting", "no route to host", "for the dead twin", "Retry its lane now", "Drop this request"},
		"/backlog/" + w.paused:             {"Resume its lane"},
		"/backlog/" + w.sent:               {"sent", "for the slow twin"},
		"/dead":                            {w.malformed, w.ofLane, "malformed", "not JSON", "poison", "this is no message", "Retry", "Drop for good"},
		"/dead?reason=poison":              {w.ofLane, "of reason poison"},
		"/dead/" + w.malformed:             {"this is no message", "not JSON", "local", "Retry"},
		"/trace":                           {"The uid is the id that the relay gave"},
		"/trace?uid=" + w.failing:          {"calc.add to twin 1002", "no route to host", "deadline"},
		"/twins":                           {"1002", "192.0.2.7:8051", "the resolver is away"},
		"/settings":                        {"--workers", "64", "default"},
	} {
		a := v.get(path)
		v.want(a, http.StatusOK, append(texts, "<!doctype html>", "Sign out")...)
		if kind := a.Header.Get("Content-Type"); kind != "text/html; charset=utf-8" {
			t.Errorf("%s is %s", path, kind)
		}
		var any any
		v.json(path, &any)
		if any == nil {
			t.Errorf("%s as JSON is null, which no program can go through", path)
		}
	}
	v.wantNone(v.get("/backlog?twin=1002"), w.paused, w.sent)
	v.wantNone(v.get("/dead?reason=poison"), w.malformed)
	v.wantNone(v.get("/backlog/"+w.sent), "Retry its lane now")

	var o struct {
		Stats    struct{ Waiting int }
		Troubled []struct{ Twin int }
	}
	v.json("/", &o)
	if o.Stats.Waiting != 4 || len(o.Troubled) != 3 {
		t.Errorf("the overview as JSON: %+v", o)
	}
	var request struct{ UID, State, Data string }
	v.json("/backlog/"+w.failing, &request)
	wantEqual(t, "a request as JSON", request.UID+" "+request.State+" "+request.Data, w.failing+" waiting for the dead twin")
}

// A script reads an empty list as null and ends with an error on the very day on which
// all is well.
func TestEmptyListIsAListInJSON(t *testing.T) {
	r := start(t, func(o *console.Options) { o.Twins, o.Settings = nil, nil })
	v := r.visit()
	for _, path := range []string{"/lanes", "/twins", "/settings"} {
		wantEqual(t, path, strings.TrimSpace(v.get(path+"?format=json").body), "[]")
	}
	v.want(v.get("/dead?format=json"), http.StatusOK, `"letters":[]`)
	v.want(v.get("/backlog?format=json"), http.StatusOK, `"requests":[]`)
	v.want(v.get("/lanes/5?format=json"), http.StatusOK, `"first":[]`)
	for _, path := range []string{"/", "/lanes", "/queues", "/backlog", "/dead", "/trace", "/twins", "/settings"} {
		v.want(v.get(path), http.StatusOK)
	}
}

// Of a long list an operator must reach the end, and not the same page again.
func TestLongListsArePaged(t *testing.T) {
	r := start(t)
	for range 51 {
		r.admit(1002, "x")
		r.bury("bad", msgbus.Malformed, "no JSON")
	}
	rare := r.bury("worse", msgbus.BadVersion, "ver is 9")
	v := r.visit()
	v.want(v.get("/backlog?twin=1002"), http.StatusOK, `href="/console/backlog?twin=1002&amp;skip=50"`)
	a := v.get("/backlog?twin=1002&skip=50")
	v.want(a, http.StatusOK, `href="/console/backlog?twin=1002&amp;skip=0"`)
	wantEqual(t, "rows of the last page", strings.Count(a.body, "<tr><th"), 2)

	var page struct {
		Letters []struct{ ID string }
		Next    string
	}
	v.json("/dead", &page)
	wantEqual(t, "dead letters of the first page", len(page.Letters), 50)
	next := page.Next
	v.want(v.get("/dead"), http.StatusOK, `before=`+next)
	page.Next = ""
	v.json("/dead?before="+next, &page)
	wantEqual(t, "dead letters of the second", len(page.Letters), 2)
	wantEqual(t, "what follows it", page.Next, "")
	v.json("/dead?reason=bad_version", &page)
	if len(page.Letters) != 1 || page.Letters[0].ID != rare {
		t.Errorf("of the rare reason there are %v", page.Letters)
	}
}

// An operator follows an old link and sees a page about a message that is not there, or
// is told that Redis is broken.
func TestWhatIsNotThereIsNotFound(t *testing.T) {
	r := start(t)
	v := r.signIn()
	r.must(r.rdb.Set(t.Context(), "msgbus.system.secret", "no queue", 0).Err())
	r.must(r.rdb.RPush(t.Context(), "msgbus.private", "no queue either").Err())
	for _, path := range []string{
		"/trace?uid=1002.99", "/trace?uid=%00%0a", "/dead/1-1", "/dead/nonsense", "/dead/+", "/dead/-", "/dead?before=nonsense",
		"/queues/secret", "/queues/private?of=service", "/queues/local?of=service", "/lanes/0", "/lanes/abc", "/lanes/99999999999", "/nowhere", "/static/../console.go", "/static/console.go", "/lanes/1/pause",
	} {
		v.want(v.get(path), http.StatusNotFound)
	}
	for _, path := range []string{"/backlog/1002.99", "/dead/1-1", "/lanes/0", "/nowhere"} {
		a := v.get(path + "?format=json")
		v.want(a, http.StatusNotFound)
		var problem struct{ Error string }
		if err := json.Unmarshal([]byte(a.body), &problem); err != nil || problem.Error == "" {
			t.Errorf("%s answers %q: %v", path, a.body, err)
		}
	}
	a := v.get("/backlog/" + url.PathEscape("1002.99&uid=5"))
	v.want(a, http.StatusSeeOther)
	wantEqual(t, "where one that has ended leads to", a.Header.Get("Location"), "/console/trace?uid=1002.99%26uid%3D5")

	for _, path := range []string{"/lanes/0/pause", "/lanes/abc/pause", "/lanes/1002/explode", "/backlog/1002.99/retry", "/backlog/1002.99/drop", "/backlog/1002.99/explode", "/dead/explode"} {
		v.want(v.press(path), http.StatusNotFound)
	}
	for _, action := range []string{"retry", "drop"} {
		v.want(v.press("/dead/"+action, "id", "1-1"), http.StatusNotFound)
		v.want(v.press("/dead/"+action), http.StatusBadRequest, "No dead letter is ticked.")
		v.want(v.press("/dead/"+action, "id", "-", "id", "+"), http.StatusBadRequest)
	}
	wantEqual(t, "lanes that are paused", r.rdb.ZCard(t.Context(), "msgbus.system.lanes.paused").Val(), 0)
}

// An app of this machine writes a script into a message, and it runs in the browser of
// whoever looks at it, with his right to drop messages.
func TestWhatAnAppWroteIsTextAndShort(t *testing.T) {
	r := start(t)
	evil := "<script>alert(1)</script>\"'`</pre><img src=x onerror=alert(1)>\x00\x1b[31m\u202e\xff"
	uid := r.admit(1002, evil[:len(evil)-1], func(m *msgbus.Message) { m.ReturnQueue, m.Command = evil[:len(evil)-1], "<b>cmd" })
	large := r.admit(1003, strings.Repeat("é", 2<<20))
	id := r.bury(evil, msgbus.Malformed, "because of "+evil)
	largeDead := r.bury("x"+strings.Repeat("é", 2<<20), msgbus.Malformed, "large")
	r.must(r.rdb.RPush(t.Context(), "msgbus.system.remote", evil, strings.Repeat("y", 4<<20)).Err())
	v := r.signIn()
	for _, path := range []string{"/backlog", "/backlog/" + uid, "/dead", "/dead/" + id, "/trace?uid=" + uid, "/queues/remote", "/trace?uid=" + url.QueryEscape(evil), "/dead?reason=" + url.QueryEscape(evil), "/lanes/1002"} {
		a := v.get(path)
		v.wantNone(a, "<script>alert", "<img", "<b>cmd", "\x00", "\x1b", "\u202e", "\xff")
		if a.StatusCode >= http.StatusInternalServerError {
			t.Errorf("%s: status %d", path, a.StatusCode)
		}
	}
	v.want(v.get("/backlog/"+uid), http.StatusOK, `&lt;script&gt;alert(1)`, `\x00\x1b[31m\u202e`)
	v.want(v.get("/dead/"+id), http.StatusOK, `\u202e\xff`)
	for _, path := range []string{"/backlog/" + large, "/dead/" + largeDead, "/queues/remote", "/dead"} {
		a := v.get(path)
		v.want(a, http.StatusOK)
		if len(a.body) > 20<<10 {
			t.Errorf("%s is of %d bytes", path, len(a.body))
		}
		v.wantNone(a, `\xc3`, "\uFFFD") // half of a character
		if a = v.get(path + "?format=json"); len(a.body) > 20<<10 {
			t.Errorf("%s as JSON is of %d bytes", path, len(a.body))
		}
	}
}

// Redis is away, and the page that should say so is blank, or the relay has ended.
func TestRedisAwayIsSaid(t *testing.T) {
	r := start(t)
	uid := r.admit(1002, "x")
	v := r.signIn()
	r.redis.Kill()
	for _, path := range []string{"/", "/lanes", "/lanes/1002", "/queues", "/queues/local", "/backlog", "/backlog/" + uid, "/dead", "/dead/1-1", "/trace?uid=" + uid} {
		v.want(v.get(path), http.StatusServiceUnavailable, "Redis does not tell", "msgbusd doctor")
		v.want(v.get(strings.Replace(path+"?format=json", uid+"?", uid+"&", 1)), http.StatusServiceUnavailable, "Redis does not tell")
	}
	for _, path := range []string{"/lanes/1002/pause", "/backlog/" + uid + "/drop", "/backlog/" + uid + "/retry"} {
		v.want(v.press(path), http.StatusServiceUnavailable)
	}
	for _, pairs := range [][]string{{"id", "1-1"}, {"which", "all"}} {
		v.want(v.press("/dead/drop", pairs...), http.StatusServiceUnavailable)
		v.want(v.press("/dead/retry", pairs...), http.StatusServiceUnavailable)
	}
	for _, path := range []string{"/trace", "/twins", "/settings", "/login", "/static/console.css", "/static/console.js", "/static/icon.svg"} {
		v.want(v.get(path), http.StatusOK)
	}
}
