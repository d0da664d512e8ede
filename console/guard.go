package console

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	sessionLife  = 12 * time.Hour
	mostSessions = 100
	// mostGuesses is how many wrong tokens of a minute are logged; who brings more is
	// told to come again later. The right one is taken all the same: else anybody who
	// reaches the port could lock the operator out, and who comes through a proxy or a
	// tunnel has the same address as others. What keeps guesses from fitting is the
	// length of the token: cmd/msgbusd takes none of less than 16 characters. To hold
	// the answers back would slow nobody who guesses, since he need not wait for them.
	mostGuesses = 10
)

// guard is for every request: who asks under another name has found us by a name that
// somebody else controls, and pages take nothing from elsewhere. Where a form comes
// from must be told (Referrer-Policy): for no-referrer a browser says that our own
// forms come from nowhere.
func (c *Console) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
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
		who := c.identify(req)
		if who.mustWait {
			c.tooMany(w, req)
			return
		}
		next.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), visitorKey{}, who)))
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
	return host == "localhost" || slices.ContainsFunc(c.opts.Hosts, func(name string) bool { return strings.EqualFold(name, host) })
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
	session   string // the cookie of one who has signed in
	csrf      string // what forms must bring back
	mustWait  bool   // the token is wrong, as were too many before it
}

type visitorKey struct{}

// who tells who asks. The guard has found out, once a request: a wrong token counts
// each time that it is looked at.
func (c *Console) who(req *http.Request) visitor {
	who, _ := req.Context().Value(visitorKey{}).(visitor)
	return who
}

func (c *Console) identify(req *http.Request) visitor {
	if c.opts.Token == "" {
		return visitor{}
	}
	if token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok {
		switch c.guess(req, token) {
		case rightToken:
			return visitor{mayChange: true, bearer: true}
		case wrongAgain:
			return visitor{mustWait: true}
		}
		return visitor{}
	}
	cookie, err := req.Cookie(cookieName(req))
	if err != nil || !c.sessions.has(cookie.Value) {
		return visitor{}
	}
	return visitor{mayChange: true, session: cookie.Value, csrf: csrfOf(cookie.Value)}
}

// guess is that of the sessions, and tells the log of tokens that are wrong, as many as
// it may.
func (c *Console) guess(req *http.Request, token string) verdict {
	v := c.sessions.guess(token, c.opts.Token)
	if v == wrongToken {
		c.opts.Log.Warn().Str("from", req.RemoteAddr).Msg("somebody gave the console a wrong token")
	}
	return v
}

// cookieName has the port in it: browsers send a cookie to all ports of a host, and two
// relays of one machine would sign each other's visitors out.
func cookieName(req *http.Request) string {
	_, port, _ := net.SplitHostPort(req.Host)
	return "msgbusd-console-" + strconv.Itoa(number(port))
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
		case req.Method == http.MethodPost && !who.bearer && subtle.ConstantTimeCompare([]byte(req.PostFormValue("csrf")), []byte(who.csrf)) != 1:
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

// tooMany is for whoever brings a wrong token after too many others.
func (c *Console) tooMany(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Retry-After", "60")
	c.refuse(w, req, http.StatusTooManyRequests, "That is not the token, as many before it.", "The right one is in the file of --admin-token-file. Who brings wrong ones stands in the log.")
}

func (c *Console) login(w http.ResponseWriter, req *http.Request) {
	if c.opts.Token == "" {
		c.refuse(w, req, http.StatusForbidden, "There is no token to sign in with.", "--admin-token-file names a file that holds one.")
		return
	}
	switch c.guess(req, req.PostFormValue("token")) {
	case wrongToken:
		c.showAs(w, req, http.StatusUnauthorized, "login", "Sign in", problem{What: "That is not the token."})
		return
	case wrongAgain:
		c.tooMany(w, req)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(req), Value: c.sessions.begin(), Path: Path, MaxAge: int(sessionLife.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: req.TLS != nil,
	})
	c.opts.Log.Info().Str("from", req.RemoteAddr).Msg("somebody signed in to the console")
	http.Redirect(w, req, Path+"/", http.StatusSeeOther)
}

func (c *Console) logout(w http.ResponseWriter, req *http.Request) {
	c.sessions.end(c.who(req).session)
	http.SetCookie(w, &http.Cookie{Name: cookieName(req), Path: Path, MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: req.TLS != nil})
	http.Redirect(w, req, Path+"/", http.StatusSeeOther)
}

// sessions are those who have shown the token in a browser.
type sessions struct {
	now func() time.Time

	mu      sync.Mutex
	known   map[string]session // by the hash of the cookie; guarded by mu
	guesses []time.Time        // wrong ones; guarded by mu
}

// A session is what is remembered of one who has signed in.
type session struct {
	ends time.Time
	done string // what was done last, until a page has said so
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, known: make(map[string]session)}
}

// A verdict is what is said of a token.
type verdict int

const (
	wrongToken verdict = iota
	rightToken
	wrongAgain // and so were mostGuesses others of this minute
)

// guess tells whether a token is the right one, and counts those that are not.
func (s *sessions) guess(token, right string) verdict {
	a, b := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(right))
	if subtle.ConstantTimeCompare(a[:], b[:]) == 1 {
		return rightToken
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.guesses = slices.DeleteFunc(s.guesses, func(t time.Time) bool { return now.Sub(t) >= time.Minute })
	if len(s.guesses) >= mostGuesses {
		return wrongAgain
	}
	s.guesses = append(s.guesses, now)
	return wrongToken
}

func (s *sessions) begin() (cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	oldest := ""
	for id, k := range s.known {
		if !now.Before(k.ends) {
			delete(s.known, id)
		} else if oldest == "" || k.ends.Before(s.known[oldest].ends) {
			oldest = id
		}
	}
	if len(s.known) >= mostSessions {
		delete(s.known, oldest)
	}
	cookie = rand.Text()
	s.known[hashed(cookie)] = session{ends: now.Add(sessionLife)}
	return cookie
}

func (s *sessions) has(cookie string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.known[hashed(cookie)]
	return ok && s.now().Before(k.ends)
}

// tell keeps what was done for the next page of a session. It does not go with the
// address, or anybody's link could make a page say what is not true.
func (s *sessions) tell(cookie, done string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.known[hashed(cookie)]; ok {
		k.done = done
		s.known[hashed(cookie)] = k
	}
}

// told returns what [sessions.tell] kept, once.
func (s *sessions) told(cookie string) (done string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.known[hashed(cookie)]; ok && k.done != "" {
		done, k.done = k.done, ""
		s.known[hashed(cookie)] = k
	}
	return done
}

func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, hashed(cookie))
}

func hashed(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return string(sum[:])
}
