package console_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/console"
)

// Somebody without the token, on a machine that he shares, drops the messages of others
// or reads them.
func TestWithoutATokenNothingIsChangedAndNoPayloadShown(t *testing.T) {
	for name, settings := range map[string][]func(*console.Options){"none was set": {without}, "he has none": nil} {
		t.Run(name, func(t *testing.T) {
			r := start(t, settings...)
			w := r.inTrouble()
			v := r.visit()
			before := r.dump()
			for _, path := range []string{"/lanes/1002/pause", "/lanes/1002/resume", "/lanes/1002/retry", "/backlog/" + w.failing + "/drop", "/backlog/" + w.failing + "/retry", "/dead/drop", "/dead/retry", "/logout"} {
				if a := v.post(path, "id", w.malformed, "csrf", "", "which", "all"); a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusForbidden {
					t.Errorf("%s: status %d", path, a.StatusCode)
				}
			}
			wantEqual(t, "what Redis holds", r.dump(), before)
			for _, path := range []string{"/", "/lanes", "/lanes/1002", "/lanes/1003", "/queues", "/backlog", "/backlog/" + w.failing, "/dead", "/trace?uid=" + w.failing, "/twins", "/settings"} {
				a := v.get(path)
				v.want(a, http.StatusOK)
				v.wantNone(a, "Pause", "Resume", "Retry now", "Retry", "Drop", `method="post"`, "for the dead twin", "this is no message")
				v.wantNone(v.get(strings.Replace(path+"?format=json", w.failing+"?", w.failing+"&", 1)), "for the dead twin", "this is no message")
			}
			for _, path := range []string{"/queues/nobody.serves?of=service", "/dead/" + w.malformed} {
				if a := v.get(path); a.StatusCode != http.StatusForbidden && a.Header.Get("Location") != "/console/login" {
					t.Errorf("%s: status %d, %s", path, a.StatusCode, a.body)
				}
			}
		})
	}
}

// The cookie can be read by a script or is sent along with another site's form: whoever
// gets hold of it changes everything.
func TestSigningInGivesACookieForThisConsoleAlone(t *testing.T) {
	r := start(t)
	v := r.visit()
	v.want(v.get("/"), http.StatusOK, `href="/console/login"`)
	v.want(v.get("/login"), http.StatusOK, `type="password"`)
	a := v.post("/login", "token", token)
	v.want(a, http.StatusSeeOther)
	wantEqual(t, "where it leads to", a.Header.Get("Location"), "/console/")
	cookie := a.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/console" || cookie.Domain != "" || cookie.MaxAge != 12*60*60 || cookie.Secure {
		t.Errorf("the cookie is %v", cookie)
	}
	if len(cookie.Value) < 26 || strings.Contains(a.Header.Get("Set-Cookie"), token) {
		t.Errorf("the cookie can be guessed: %v", cookie)
	}
	page := v.get("/")
	v.want(page, http.StatusOK, "Sign out")
	v.wantNone(page, token, cookie.Value)
	other := r.visit()
	other.header.Set("Cookie", cookie.Name+"="+cookie.Value+"x")
	other.wantNone(other.get("/"), "Sign out")
}

// The address of a page with the token in it would stand in logs and histories.
func TestTokenInAnAddressIsNotTaken(t *testing.T) {
	r := start(t)
	v := r.visit()
	v.want(v.post("/login?token="+strings.ReplaceAll(token, " ", "+")), http.StatusUnauthorized, "That is not the token.")
}

// A page of another site has the browser of an operator who has signed in send a form,
// and his messages are gone.
func TestFormThatIsNotOursIsRefused(t *testing.T) {
	r := start(t)
	w := r.inTrouble()
	v, other := r.signIn(), r.signIn()
	before := r.dump()
	for what, csrf := range map[string]string{"no token": "", "a wrong one": strings.Repeat("0", 64), "one of another session": other.csrf} {
		for _, path := range []string{"/lanes/1002/pause", "/backlog/" + w.failing + "/drop", "/dead/drop", "/logout"} {
			a := v.post(path, "id", w.malformed, "csrf", csrf)
			if a.StatusCode != http.StatusForbidden {
				t.Errorf("%s with %s: status %d", path, what, a.StatusCode)
			}
		}
	}
	v.want(v.post("/lanes/1002/pause?csrf="+v.csrf), http.StatusForbidden)
	for header, values := range map[string][]string{
		"Origin":         {"http://evil.example", "null", "http://127.0.0.1:1", "http://" + strings.TrimPrefix(r.url, "http://") + ".evil.example", "%"},
		"Sec-Fetch-Site": {"cross-site", "same-site"},
	} {
		for _, value := range values {
			for _, path := range []string{"/lanes/1002/pause", "/login"} {
				req := v.form(path, "csrf", v.csrf, "token", token)
				req.Header.Set(header, value)
				v.want(v.do(req), http.StatusForbidden)
			}
		}
	}
	wantEqual(t, "what Redis holds", r.dump(), before)
	v.want(v.get("/"), http.StatusOK, "Sign out") // no form has signed him out

	req := v.form("/lanes/1002/pause", "csrf", v.csrf)
	req.Header.Set("Origin", r.url)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	v.want(v.do(req), http.StatusSeeOther)
}

// A script that has the token has no form to take another one from.
func TestProgramNeedsTheTokenAlone(t *testing.T) {
	r := start(t)
	w := r.inTrouble()
	p := r.program(token)
	p.want(p.get("/dead/"+w.malformed+"?format=json"), http.StatusOK, "this is no message")
	p.want(p.post("/lanes/1002/pause?format=json"), http.StatusOK, `"done":"The lane to twin 1002 is paused."`)
	wantEqual(t, "the lane", string(r.lane(1002).State), "paused")
	p.want(p.post("/lanes/1002/resume"), http.StatusSeeOther)

	p = r.program(token + "x")
	p.want(p.get("/dead/"+w.malformed+"?format=json"), http.StatusUnauthorized, "Authorization: Bearer")
	a := p.post("/lanes/1002/pause")
	p.want(a, http.StatusUnauthorized)
	wantEqual(t, "what it is asked for", a.Header.Get("WWW-Authenticate"), "Bearer")
	if r.lane(1002).State == "paused" {
		t.Error("a wrong token has paused a lane")
	}
}

// clock is one that stands until it is moved.
func (r *rig) clock() (move func(time.Duration)) {
	var passed atomic.Int64
	begin := time.Now()
	r.console.FakeClock(func() time.Time { return begin.Add(time.Duration(passed.Load())) })
	return func(d time.Duration) { passed.Add(int64(d)) }
}

// A script with an old token, or somebody who guesses, brings one wrong token after
// another: that must not keep the operator out in the middle of an outage, nor fill the
// log.
func TestWrongTokensLockNobodyOut(t *testing.T) {
	var log bytes.Buffer
	r := start(t, func(o *console.Options) { o.Log = zerolog.New(&log) })
	move := r.clock()
	v, wrong, right := r.visit(), r.program("wrong"), r.program(token)
	for n := range console.MostGuesses {
		if n%2 == 0 {
			v.want(v.post("/login", "token", "wrong"), http.StatusUnauthorized, "That is not the token.")
		} else {
			wrong.want(wrong.get("/queues/local?format=json"), http.StatusUnauthorized)
		}
	}
	for range 5 {
		a := wrong.get("/queues/local")
		wrong.want(a, http.StatusTooManyRequests, "That is not the token, as many before it.")
		wantEqual(t, "when to come again", a.Header.Get("Retry-After"), "60")
		v.want(v.post("/login", "token", "wrong"), http.StatusTooManyRequests)
	}
	right.want(right.get("/queues/local"), http.StatusOK)
	r.signIn()
	wantEqual(t, "wrong tokens in the log", strings.Count(log.String(), "wrong token"), console.MostGuesses)
	move(time.Minute)
	v.want(v.post("/login", "token", "wrong"), http.StatusUnauthorized)
}

// A browser that was left open gives its next user the right to change everything, for
// ever; and sessions that nobody ends fill the memory.
func TestSessionsEndAndAreBounded(t *testing.T) {
	r := start(t)
	move := r.clock()
	v := r.signIn()
	move(console.SessionLife - time.Second)
	v.want(v.get("/"), http.StatusOK, "Sign out")
	move(time.Second)
	v.wantNone(v.get("/"), "Sign out")
	v.want(v.press("/lanes/1002/pause"), http.StatusUnauthorized)

	first := r.signIn()
	move(time.Second)
	second := r.signIn()
	for range console.MostSessions - 1 {
		move(time.Second)
		v := r.visit()
		v.want(v.post("/login", "token", token), http.StatusSeeOther)
	}
	first.wantNone(first.get("/"), "Sign out")
	second.want(second.get("/"), http.StatusOK, "Sign out")
}

// Signing out leaves the session, and whoever has the cookie goes on with it.
func TestSigningOutEndsTheSession(t *testing.T) {
	r := start(t)
	v := r.signIn()
	cookie := v.client.Jar.Cookies(v.form("/").URL)[0]
	v.want(v.press("/logout"), http.StatusSeeOther)
	wantEqual(t, "cookies that are left", len(v.client.Jar.Cookies(v.form("/").URL)), 0)
	v.header.Set("Cookie", cookie.Name+"="+cookie.Value)
	v.wantNone(v.get("/"), "Sign out")
	v.want(v.press("/lanes/1002/pause"), http.StatusUnauthorized)
}

// The name of another site is made to lead to this machine (DNS rebinding): then its
// pages are of the same origin as the console, and read everything.
func TestConsoleIsKnownUnderNoOtherName(t *testing.T) {
	r := start(t, func(o *console.Options) { o.Hosts = []string{"Relay.example"} })
	v := r.visit()
	for host, status := range map[string]int{
		"evil.example": http.StatusMisdirectedRequest, "evil.example:8051": http.StatusMisdirectedRequest, "127.0.0.1.evil.example": http.StatusMisdirectedRequest,
		"localhost.evil.example": http.StatusMisdirectedRequest, "relay.example.evil.example": http.StatusMisdirectedRequest,
		"127.0.0.1": http.StatusOK, "127.0.0.1:8051": http.StatusOK, "[::1]:8051": http.StatusOK, "[::1]": http.StatusOK, "192.0.2.7:1": http.StatusOK,
		"localhost": http.StatusOK, "LOCALHOST:8051": http.StatusOK, "relay.example": http.StatusOK, "RELAY.example:8051": http.StatusOK,
	} {
		for _, path := range []string{"/", "/login", "/static/console.js", "/events/nowhere"} {
			req := v.form(path)
			req.Method, req.Host = http.MethodGet, host
			a := v.do(req)
			if (a.StatusCode == http.StatusMisdirectedRequest) != (status == http.StatusMisdirectedRequest) {
				t.Errorf("%s asked for as %s: status %d", path, host, a.StatusCode)
			}
			if status == http.StatusMisdirectedRequest {
				v.wantNone(a, "twin")
			}
		}
	}
}

// A console that others can reach tells them whose relay it is and how it fares.
func TestGuardedConsoleShowsNothingWithoutTheToken(t *testing.T) {
	r := start(t, guarded)
	w := r.inTrouble()
	v := r.visit()
	for _, path := range []string{"/", "/lanes", "/lanes/1002", "/queues", "/queues/local", "/backlog", "/backlog/" + w.failing, "/dead", "/dead/" + w.malformed, "/trace", "/trace?uid=" + w.failing, "/twins", "/settings", "/events"} {
		a := v.get(path)
		v.want(a, http.StatusSeeOther)
		wantEqual(t, path+" leads to", a.Header.Get("Location"), "/console/login")
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		v.want(v.get(path+separator+"format=json"), http.StatusUnauthorized)
	}
	for _, path := range []string{"/login", "/nowhere", "/lanes/1/pause"} {
		v.wantNone(v.get(path), "1001", "v1.2.3", "relay a")
	}
	v.want(v.post("/login", "token", "wrong"), http.StatusUnauthorized)
	in := r.signIn()
	in.want(in.get("/"), http.StatusOK, "twin 1001", "v1.2.3")
	p := r.program(token)
	p.want(p.get("/?format=json"), http.StatusOK, `"waiting":4`)
}

// A page takes a script from elsewhere, or is shown within another site's page, which
// has the operator press its buttons.
func TestPagesTakeNothingFromElsewhere(t *testing.T) {
	r := start(t)
	v := r.signIn()
	for _, path := range []string{"/", "/login", "/nowhere", "/static/console.js", "/dead?format=json"} {
		a := v.get(path)
		policy := a.Header.Get("Content-Security-Policy")
		for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, rule) {
				t.Errorf("%s: the policy %q lacks %s", path, policy, rule)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: the policy is %q", path, policy)
		}
		for header, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			wantEqual(t, path+" "+header, a.Header.Get(header), want)
		}
		if !strings.HasPrefix(path, "/static/") {
			wantEqual(t, path+" Cache-Control", a.Header.Get("Cache-Control"), "no-store")
		}
		v.wantNone(a, "http://", "https://", " style=", " onclick=", "<script>", "<style")
	}
}

// A form of a gigabyte must not become a gigabyte of memory.
func TestFormsAreBounded(t *testing.T) {
	r := start(t)
	v := r.signIn()
	a := v.press("/dead/drop", "id", "1-1", "x", strings.Repeat("x", 2<<20))
	v.want(a, http.StatusForbidden)
	p := r.program(token)
	p.want(p.post("/dead/drop", "id", "1-1", "x", strings.Repeat("x", 2<<20)), http.StatusBadRequest)
}

// Two relays of one machine are on two ports, and browsers send a cookie to both.
func TestTwoConsolesOfOneMachineKeepTheirCookiesApart(t *testing.T) {
	r := start(t)
	names := map[string]bool{}
	for _, port := range []int{8051, 8052} {
		v := r.visit()
		req := v.form("/login", "token", token)
		req.Host = fmt.Sprintf("127.0.0.1:%d", port)
		names[v.do(req).Cookies()[0].Name] = true
	}
	wantEqual(t, "names of cookies", len(names), 2)
}
