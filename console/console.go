// Package console is the page on which an operator sees how a relay fares and where a
// message is, and with a token changes it. It works without JavaScript and takes nothing
// from outside. Each page has a twin in JSON: the same address with ?format=json.
package console

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/inspect"
	"github.com/msgbusd/msgbusd/internal/recent"
	"github.com/msgbusd/msgbusd/msgbus"
)

// Path is where the console is on the admin side.
const Path = "/console"

//go:embed templates/*.html static/*
var files embed.FS

// Options of a Console.
type Options struct {
	Version  string
	Twin     uint32 // 0: not known yet
	Instance string
	Token    string // "" : nothing can be changed, and no payload is shown
	// Guarded: without the token not even a page is shown, since others than this
	// machine's users can reach it.
	Guarded  bool
	Hosts    []string                                    // names under which it may be asked for, besides localhost and addresses
	Settings func() []Setting                            // in force; may be nil
	Resolver func() string                               // how the resolver fares, in words; may be nil
	Twins    func() []TwinView                           // that are remembered; may be nil
	Drop     func(ctx context.Context, uid string) error // ends a request; msgbus.ErrNotFound when it has ended
	Log      zerolog.Logger
}

// A Setting is one value by which the relay runs.
type Setting struct {
	Group  string `json:"group"`
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"` // "default", "flag", the variable's or the file's name
}

// A TwinView is what is remembered of a twin.
type TwinView struct {
	ID      uint32    `json:"id"`
	Account string    `json:"account"`
	Address string    `json:"address"`
	Asked   time.Time `json:"asked"` // when the resolver last told
	Problem string    `json:"problem"`
}

// A Console serves the pages.
type Console struct {
	opts     Options
	store    *backlog.Store
	overall  *recent.Look[*inspect.Overview]
	pages    func() (map[string]*template.Template, error) // read when somebody looks: most relays nobody looks at
	sessions *sessions
	live     *live
}

// New returns a console over the store of a relay, and over how that fares.
// [Console.Run] must run for its rates.
func New(opts Options, store *backlog.Store, overall *recent.Look[*inspect.Overview]) *Console {
	c := &Console{opts: opts, store: store, overall: overall, sessions: newSessions(time.Now), live: newLive()}
	c.pages = sync.OnceValues(c.readPages)
	return c
}

func (c *Console) readPages() (map[string]*template.Template, error) {
	pages := make(map[string]*template.Template)
	for _, name := range []string{"overview", "lanes", "lane", "queues", "queue", "backlog", "request", "dead", "letter", "trace", "twins", "settings", "login", "problem"} {
		page, err := template.New("layout.html").Funcs(c.functions()).ParseFS(files, "templates/layout.html", "templates/requests.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("read the page %s: %w", name, err)
		}
		pages[name] = page
	}
	return pages, nil
}

// functions are what the templates call.
func (c *Console) functions() template.FuncMap {
	now := c.store.Now
	absent := func(t time.Time) bool { return t.UnixMilli() <= 0 }
	return template.FuncMap{
		"ago": func(t time.Time) string {
			if absent(t) {
				return "never"
			}
			return inspect.Short(now().Sub(t)) + " ago"
		},
		"age": func(t time.Time) string {
			if absent(t) {
				return "–"
			}
			return inspect.Short(now().Sub(t))
		},
		"left": func(t time.Time) string {
			if absent(t) {
				return "–"
			}
			if d := t.Sub(now()); d > 0 {
				return inspect.Short(d)
			}
			return "now"
		},
		"clock": func(t time.Time) string {
			if absent(t) {
				return "now"
			}
			return t.UTC().Format("2006-01-02 15:04:05.000 UTC")
		},
		"nav":     func() []entry { return navigation[:] },
		"because": inspect.Because,
		"words":   words,
		"plain":   plain,
		"path":    url.PathEscape,
		"spark":   spark,
		"last": func(c chart) string {
			switch len(c.Values) {
			case 0:
				return "no reading yet"
			case 1:
				return fmt.Sprintf("%.0f, one reading", c.Values[0])
			}
			return fmt.Sprintf("%.0f now, at most %.0f", c.Values[len(c.Values)-1], slices.Max(c.Values))
		},
	}
}

// Handler serves what is under [Path].
func (c *Console) Handler() http.Handler {
	r := chi.NewRouter()
	r.Use(c.guard)
	r.NotFound(c.nowhere)
	r.MethodNotAllowed(c.nowhere)
	r.Get("/static/{file}", c.static)
	r.Get("/login", func(w http.ResponseWriter, req *http.Request) { c.show(w, req, "login", "Sign in", nil) })
	r.Post("/login", c.login)
	r.Group(func(r chi.Router) {
		r.Use(c.mayRead)
		r.Get("/", c.overview)
		r.Get("/events", c.events)
		r.Get("/lanes", c.lanes)
		r.Get("/lanes/{twin}", c.lane)
		r.Get("/queues", c.queues)
		r.Get("/backlog", c.backlog)
		r.Get("/backlog/{uid}", c.request)
		r.Get("/dead", c.dead)
		r.Get("/trace", c.trace)
		r.Get("/twins", c.twins)
		r.Get("/settings", c.settings)
	})
	r.Group(func(r chi.Router) {
		r.Use(c.mayChange)
		r.Get("/queues/{name}", c.queue) // payloads
		r.Get("/dead/{id}", c.letter)    // payloads
		r.Post("/logout", c.logout)
		r.Post("/lanes/{twin}/{action}", c.changeLane)
		r.Post("/backlog/{uid}/{action}", c.changeRequest)
		r.Post("/dead/{action}", c.changeDead)
	})
	return http.StripPrefix(Path, r)
}

// An entry leads to a page from every other.
type entry struct{ Path, Name, Title string }

var navigation = [...]entry{
	{"", "overview", "Overview"}, {"lanes", "lanes", "Lanes"}, {"queues", "queues", "Queues"}, {"backlog", "backlog", "Backlog"},
	{"dead", "dead", "Dead letters"}, {"trace", "trace", "Trace"}, {"twins", "twins", "Twins"}, {"settings", "settings", "Settings"},
}

// A page is what every template gets.
type page struct {
	Title    string
	Name     string
	Console  Options
	Known    bool // the visitor may know whose relay this is
	SignedIn bool
	CSRF     string
	Done     string // what has just been done
	JSON     string // the address of its twin in JSON, if there is one
	Data     any
}

// show answers with a page, or with its data as JSON.
func (c *Console) show(w http.ResponseWriter, req *http.Request, name, title string, data any) {
	c.showAs(w, req, http.StatusOK, name, title, data)
}

func (c *Console) showAs(w http.ResponseWriter, req *http.Request, status int, name, title string, data any) {
	if asksJSON(req) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(data)
		return
	}
	who := c.who(req)
	p := page{Title: title, Name: name, Console: c.opts, SignedIn: who.mayChange, CSRF: who.csrf, Data: data}
	p.Known = who.mayChange || !c.opts.Guarded
	if req.Method == http.MethodGet {
		p.Done = c.sessions.told(who.session)
		if name != "login" {
			query := req.URL.Query()
			query.Set("format", "json")
			p.JSON = "?" + query.Encode()
		}
	}
	var out bytes.Buffer
	pages, err := c.pages()
	if err == nil {
		err = pages[name].Execute(&out, p)
	}
	if err != nil {
		c.opts.Log.Error().Err(err).Str("page", name).Msg("cannot show a page of the console: please report this")
		http.Error(w, "this page cannot be shown; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = out.WriteTo(w)
}

func (c *Console) nowhere(w http.ResponseWriter, req *http.Request) {
	c.refuse(w, req, http.StatusNotFound, "There is no such page.", "")
}

func asksJSON(req *http.Request) bool { return req.URL.Query().Get("format") == "json" }

// A problem is why there is no page.
type problem struct {
	What string `json:"error"`
	Hint string `json:"hint,omitempty"`
}

func (c *Console) refuse(w http.ResponseWriter, req *http.Request, status int, what, hint string) {
	c.showAs(w, req, status, "problem", http.StatusText(status), problem{what, hint})
}

// fail answers with what an error means.
func (c *Console) fail(w http.ResponseWriter, req *http.Request, err error) {
	switch {
	case errors.Is(err, msgbus.ErrNotFound):
		c.refuse(w, req, http.StatusNotFound, "There is no such thing here.", "It may have ended meanwhile: the trace of a message tells what became of it.")
	case errors.Is(err, backlog.ErrNoRetry), errors.Is(err, backlog.ErrNoList):
		c.refuse(w, req, http.StatusConflict, "It cannot be put back: "+err.Error()+".", "")
	default:
		c.opts.Log.Debug().Err(err).Msg("a page of the console cannot be read")
		c.refuse(w, req, http.StatusServiceUnavailable, "Redis does not tell: "+err.Error(), "msgbusd doctor looks for what is wrong with it.")
	}
}
