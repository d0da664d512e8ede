package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Options of a Gateway. Each zero value but Secret's stands for its default.
type Options struct {
	// Secret signs tokens: 32 bytes or more.
	Secret []byte
	// Origins may be of pages, such as https://app.example.org, that connect from elsewhere;
	// pages of the gateway's own host always may. "*" is all of them.
	Origins []string

	MaxConnections int // in all; default 10,000
	MaxUser        int // connections of one user; default 20
	MaxPatterns    int // of one connection; default 50
	MaxQueue       int // events that wait for one connection; default 256
	MaxQueueBytes  int // of these; default 1 MiB. One that is larger waits alone
	MaxMessage     int // bytes of a message of a browser; default 64 KiB

	Slow time.Duration // how long a connection may take nothing that waits for it; default 30 s
	Ping time.Duration // how often a connection is tried that nothing is said on; default 15 s

	Now      func() time.Time // the clock that tokens are held against; default time.Now
	Log      zerolog.Logger
	Observer Observer // default nobody
}

// Format prints nothing of the options, whatever the verb: the secret is among them.
func (Options) Format(f fmt.State, _ rune) { fmt.Fprint(f, "gateway options") }

func (o *Options) setDefaults() {
	number := func(n *int, or int) {
		if *n <= 0 {
			*n = or
		}
	}
	number(&o.MaxConnections, 10_000)
	number(&o.MaxUser, 20)
	number(&o.MaxPatterns, maxClaimed)
	number(&o.MaxQueue, 256)
	number(&o.MaxQueueBytes, 1<<20)
	number(&o.MaxMessage, 64<<10)
	if o.Slow <= 0 {
		o.Slow = 30 * time.Second
	}
	if o.Ping <= 0 {
		o.Ping = 15 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
}

// A Gateway serves browsers.
type Gateway struct {
	opts     Options
	bus      Bus
	origins  origins
	hub      *hub
	sessions *sessions
	log      zerolog.Logger // of what strangers cause
}

// New returns a gateway to a bus. [Gateway.Run] must run as long as it serves.
func New(opts Options, bus Bus) (*Gateway, error) {
	if err := checkSecret(opts.Secret); err != nil {
		return nil, err
	}
	opts.setDefaults()
	allowed, err := parseOrigins(opts.Origins)
	if err != nil {
		return nil, err
	}
	opts.Secret = slices.Clone(opts.Secret)
	return &Gateway{
		opts: opts, bus: bus, origins: allowed, hub: newHub(bus, opts.Log),
		sessions: &sessions{all: make(map[*session]struct{}), users: make(map[string]map[*session]struct{})},
		// Strangers must not fill the disk with lines.
		log: opts.Log.Sample(&zerolog.BurstSampler{Burst: 20, Period: time.Second}),
	}, nil
}

// Handler serves GET /events and GET /ws.
func (g *Gateway) Handler() http.Handler {
	r := chi.NewRouter()
	r.Use(g.outlivePanics, g.checkOrigin)
	r.NotFound(g.nowhere)
	r.MethodNotAllowed(g.nowhere)
	r.Get("/events", g.events)
	r.Get("/ws", g.socket)
	return r
}

func (g *Gateway) nowhere(w http.ResponseWriter, req *http.Request) {
	g.refuse(w, req, refuse(NotFound, "there is nothing here: GET /events or /ws"))
}

// refuse answers, and tells. What a request asks for is not logged: the token may be in it.
func (g *Gateway) refuse(w http.ResponseWriter, req *http.Request, r *refusal) {
	g.opts.Observer.BrowserRefused(string(r.Reason))
	g.log.Info().Str("peer", req.RemoteAddr).Str("reason", string(r.Reason)).Msg("refused a browser")
	r.write(w)
}

// outlivePanics ends the connection whose handler panics, and no other.
func (g *Gateway) outlivePanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var p *msgbus.Panic
		if errors.As(msgbus.Guard(func() error { next.ServeHTTP(w, req); return nil }), &p) {
			g.log.Error().Str("peer", req.RemoteAddr).Str("panic", p.Value).Bytes("stack", p.Stack).
				Msg("a browser made the gateway panic: please report this")
			panic(http.ErrAbortHandler) // the answer may have begun
		}
	})
}

// Run serves until ctx ends. Then it ends all connections, which are told so, and returns
// when nothing of them is left. It is called once.
func (g *Gateway) Run(ctx context.Context) {
	g.watchUsers(ctx)
	g.sessions.stop()
	g.hub.close()
}

// admit makes a session of who asks, which must be closed. The cheapest comes first.
func (g *Gateway) admit(req *http.Request, kind string) (*session, *refusal) {
	claims, r := readToken(g.opts.Secret, tokenOf(req), g.opts.Now())
	if r != nil {
		return nil, r
	}
	s := g.newSession(kind, claims)
	if r := g.sessions.add(s, &g.opts); r != nil {
		s.leave()
		s.expiry.Stop()
		return nil, r
	}
	g.opts.Observer.BrowserConnected(kind)
	g.opts.Log.Debug().Str("kind", kind).Str("user", claims.User).Str("peer", req.RemoteAddr).Msg("a browser has connected")
	if claims.Single {
		if err := s.takeUser(req.Context()); err != nil {
			s.close()
			g.opts.Log.Warn().Err(err).Msg("a browser's user cannot be announced")
			return nil, refuse(Unavailable, "the bus cannot be told of the user now: try again in a few seconds")
		}
	}
	return s, nil
}

// tokenProtocol is what the subprotocol of a WebSocket begins with that is a token, and
// protocol the one that is spoken: a page offers both.
const (
	protocol      = "msgbus"
	tokenProtocol = "msgbus.token."
)

// tokenOf finds the token of a request. A page cannot set headers of an EventSource, and
// of a WebSocket only its subprotocols.
func tokenOf(req *http.Request) string {
	if token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok {
		return token
	}
	if token := req.URL.Query().Get("token"); token != "" {
		return token
	}
	for _, p := range protocols(req) {
		if token, ok := strings.CutPrefix(p, tokenProtocol); ok {
			return token
		}
	}
	return ""
}

// protocols are those that a WebSocket is offered for.
func protocols(req *http.Request) (all []string) {
	for _, line := range req.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			all = append(all, strings.TrimSpace(p))
		}
	}
	return all
}

// sessions are those that there are.
type sessions struct {
	serving sync.WaitGroup // that have not been closed

	mu      sync.Mutex
	stopped bool                             // guarded by mu
	last    int64                            // when the latest session began: no two did at once; guarded by mu
	all     map[*session]struct{}            // guarded by mu
	users   map[string]map[*session]struct{} // guarded by mu
}

// add takes in a session, and ends the older ones of its user if it is to be the only one.
func (t *sessions) add(s *session, o *Options) *refusal {
	user := s.claims.User
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopped:
		return refuse(Stopping, "the gateway stops: try again in a few seconds")
	case len(t.all) >= o.MaxConnections:
		return refuse(TooManyConnections, "%d browsers are connected, and no more may be", o.MaxConnections)
	case user != "" && !s.claims.Single && len(t.users[user]) >= o.MaxUser:
		return refuse(TooManyOfUser, "a user may have %d connections", o.MaxUser)
	}
	if s.claims.Single {
		for older := range t.users[user] {
			older.replace()
		}
	}
	t.last = max(s.since, t.last+1)
	s.since = t.last
	t.all[s] = struct{}{}
	if user != "" {
		if t.users[user] == nil {
			t.users[user] = make(map[*session]struct{})
		}
		t.users[user][s] = struct{}{}
	}
	t.serving.Add(1)
	return nil
}

func (t *sessions) remove(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, s)
	if of := t.users[s.claims.User]; of != nil {
		if delete(of, s); len(of) == 0 {
			delete(t.users, s.claims.User)
		}
	}
}

// of returns the sessions of a user.
func (t *sessions) of(user string) (all []*session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.users[user] {
		all = append(all, s)
	}
	return all
}

// stop ends all sessions, lets nobody in any more, and returns when they have ended.
func (t *sessions) stop() {
	t.mu.Lock()
	t.stopped = true
	for s := range t.all {
		s.end(refuse(Stopping, "the gateway stops: connect again in a few seconds"))
	}
	t.mu.Unlock()
	t.serving.Wait()
}
