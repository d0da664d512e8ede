package console

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	cookieName   = "msgbusd-console"
	sessionLife  = 12 * time.Hour
	mostSessions = 100
	// mostGuesses is how many wrong tokens are answered in a minute: after that even
	// the right one has to wait.
	mostGuesses = 10
)

// guard is for every request: who asks under another name has found us by a name that
// somebody else controls, and pages take nothing from elsewhere.
func (c *Console) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !c.knows(req.Host) {
			http.Error(w, "the console is not known under this name: ask for it by its address, or as localhost", http.StatusMisdirectedRequest)
			return
		}
		if req.Method == http.MethodPost {
			if !sameOrigin(req) {
				http.Error(w, "this form is of another site", http.StatusForbidden)
				return
			}
			req.Body = http.MaxBytesReader(w, req.Body, 1<<20)
		}
		next.ServeHTTP(w, req)
	})
}

// knows tells whether a Host header names this machine: an address, which no name
// server can bend, localhost, or a name that the operator gave.
func (c *Console) knows(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "localhost" || slices.Contains(c.opts.Hosts, host)
}

// sameOrigin tells whether a form comes from one of our pages, as far as the browser
// says. Programs send no such header and need the token all the same.
func sameOrigin(req *http.Request) bool {
	if site := req.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	origin := req.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == req.Host
}

// A visitor is who asks.
type visitor struct {
	mayChange bool
	bearer    bool   // by the token itself: a program, which no other site can make ask
	csrf      string // what forms must bring back
}

func (c *Console) who(req *http.Request) visitor {
	if c.opts.Token == "" {
		return visitor{}
	}
	if token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok {
		right := c.sessions.guess(token, c.opts.Token)
		return visitor{mayChange: right, bearer: right}
	}
	cookie, err := req.Cookie(cookieName)
	if err != nil || !c.sessions.has(cookie.Value) {
		return visitor{}
	}
	return visitor{mayChange: true, csrf: csrfOf(cookie.Value)}
}

// csrfOf is what the forms of a session hold. It tells nothing of the session.
func csrfOf(session string) string {
	sum := sha256.Sum256([]byte("csrf " + session))
	return hex.EncodeToString(sum[:])
}

// mayRead lets anybody read who can reach a console that only this machine can reach.
func (c *Console) mayRead(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if c.opts.Guarded && !c.who(req).mayChange {
			c.askToken(w, req)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// mayChange is for payloads and for what changes anything.
func (c *Console) mayChange(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		who := c.who(req)
		switch {
		case c.opts.Token == "":
			c.refuse(w, req, http.StatusForbidden, "This console only shows how the relay fares.", "Messages are shown, and changes made, with the token of --admin-token-file; the commands msgbusd queue, lane, backlog and dead need none.")
		case !who.mayChange:
			c.askToken(w, req)
		case req.Method == http.MethodPost && !who.bearer && subtle.ConstantTimeCompare([]byte(req.FormValue("csrf")), []byte(who.csrf)) != 1:
			c.refuse(w, req, http.StatusForbidden, "This form is too old, or not ours.", "Go back, load the page again, and try once more.")
		default:
			next.ServeHTTP(w, req)
		}
	})
}

func (c *Console) askToken(w http.ResponseWriter, req *http.Request) {
	if asksJSON(req) || req.Method != http.MethodGet {
		w.Header().Set("WWW-Authenticate", "Bearer")
		c.refuse(w, req, http.StatusUnauthorized, "This needs the token of --admin-token-file.", "Programs send it as Authorization: Bearer TOKEN.")
		return
	}
	http.Redirect(w, req, Path+"/login", http.StatusSeeOther)
}

func (c *Console) login(w http.ResponseWriter, req *http.Request) {
	if c.opts.Token == "" {
		c.refuse(w, req, http.StatusForbidden, "There is no token to sign in with.", "--admin-token-file names a file that holds one.")
		return
	}
	if !c.sessions.guess(req.FormValue("token"), c.opts.Token) {
		c.showAs(w, req, http.StatusUnauthorized, "login", "Sign in", problem{What: "That is not the token."})
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: c.sessions.begin(), Path: Path, MaxAge: int(sessionLife.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: req.TLS != nil,
	})
	c.opts.Log.Info().Str("from", req.RemoteAddr).Msg("somebody signed in to the console")
	http.Redirect(w, req, Path+"/", http.StatusSeeOther)
}

func (c *Console) logout(w http.ResponseWriter, req *http.Request) {
	if cookie, err := req.Cookie(cookieName); err == nil {
		c.sessions.end(cookie.Value)
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: Path, MaxAge: -1})
	http.Redirect(w, req, Path+"/", http.StatusSeeOther)
}

// sessions are those who have shown the token in a browser.
type sessions struct {
	now func() time.Time

	mu      sync.Mutex
	ends    map[string]time.Time // by the hash of the cookie; guarded by mu
	guesses []time.Time          // wrong ones; guarded by mu
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, ends: make(map[string]time.Time)}
}

// guess tells whether a token is the right one, and counts those that are not.
func (s *sessions) guess(token, right string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.guesses = slices.DeleteFunc(s.guesses, func(t time.Time) bool { return now.Sub(t) >= time.Minute })
	if len(s.guesses) >= mostGuesses {
		return false
	}
	a, b := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(right))
	if subtle.ConstantTimeCompare(a[:], b[:]) == 1 {
		return true
	}
	s.guesses = append(s.guesses, now)
	return false
}

func (s *sessions) begin() (cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	oldest := ""
	for id, end := range s.ends {
		if now.After(end) {
			delete(s.ends, id)
		} else if oldest == "" || end.Before(s.ends[oldest]) {
			oldest = id
		}
	}
	if len(s.ends) >= mostSessions {
		delete(s.ends, oldest)
	}
	cookie = rand.Text()
	s.ends[hashed(cookie)] = now.Add(sessionLife)
	return cookie
}

func (s *sessions) has(cookie string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	end, ok := s.ends[hashed(cookie)]
	return ok && s.now().Before(end)
}

func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ends, hashed(cookie))
}

func hashed(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return string(sum[:])
}
