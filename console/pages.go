package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/inspect"
	"github.com/msgbusd/msgbusd/msgbus"
)

const (
	pageLength   = 50   // rows of a long table
	queueMost    = 20   // messages of a queue
	payloadBytes = 4096 // of each message that is shown
	lineBytes    = 100  // of a message in a table
)

// words writes a word of the code for people.
func words(word any) string { return strings.ReplaceAll(fmt.Sprint(word), "_", " ") }

// listed is a list for JSON, which is [] and not null when it is empty.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// param is a part of the path as it was before it was escaped.
func param(req *http.Request, name string) string {
	text := chi.URLParam(req, name)
	if req.URL.RawPath == "" {
		return text
	}
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}

// number reads a number of the query, or of the path; 0 for what is none.
func number(text string) int {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return int(n)
}

func (c *Console) overview(w http.ResponseWriter, req *http.Request) {
	o, err := c.overall.Now(req.Context())
	if err != nil {
		c.fail(w, req, err)
		return
	}
	server, err := c.store.ViewServer(req.Context())
	if err != nil {
		c.fail(w, req, err)
		return
	}
	resolver := ""
	if c.opts.Resolver != nil {
		resolver = c.opts.Resolver()
	}
	c.show(w, req, "overview", "Overview", struct {
		*inspect.Overview
		Redis    backlog.Server `json:"redis"`
		Resolver string         `json:"resolver"`
		Rates    rates          `json:"rates"`
		Charts   []chart        `json:"charts"`
	}{o, server, resolver, c.live.rates(), c.live.charts()})
}

func (c *Console) lanes(w http.ResponseWriter, req *http.Request) {
	lanes, err := c.store.ViewLanes(req.Context())
	if err != nil {
		c.fail(w, req, err)
		return
	}
	c.show(w, req, "lanes", "Lanes", lanes)
}

func (c *Console) lane(w http.ResponseWriter, req *http.Request) {
	twin := number(chi.URLParam(req, "twin"))
	if twin == 0 {
		c.fail(w, req, msgbus.ErrNotFound)
		return
	}
	lane, err := c.store.ViewLane(req.Context(), uint32(twin))
	if err != nil {
		c.fail(w, req, err)
		return
	}
	requests, _, err := c.store.ViewRequests(req.Context(), lane.Twin, 0, pageLength)
	if err != nil {
		c.fail(w, req, err)
		return
	}
	c.show(w, req, "lane", fmt.Sprintf("Lane to twin %d", twin), struct {
		backlog.LaneView
		First []backlog.RequestView `json:"first"`
	}{lane, listed(requests)})
}

func (c *Console) queues(w http.ResponseWriter, req *http.Request) {
	queues, err := c.store.ViewQueues(req.Context())
	if err != nil {
		c.fail(w, req, err)
		return
	}
	c.show(w, req, "queues", "Queues", queues)
}

func (c *Console) queue(w http.ResponseWriter, req *http.Request) {
	name := param(req, "name")
	service := req.URL.Query().Get("of") == "service"
	queues, err := c.store.ViewQueues(req.Context())
	if err != nil {
		c.fail(w, req, err)
		return
	}
	// Only what is known as a queue: other keys of the relay would look like one.
	at := slices.IndexFunc(queues, func(v backlog.QueueView) bool { return v.Name == name && v.Service == service })
	switch {
	case at < 0:
		c.fail(w, req, msgbus.ErrNotFound)
		return
	case queues[at].Length < 0:
		c.refuse(w, req, http.StatusConflict, "The key of this queue is not a list.", "Something else has written to it: redis-cli TYPE tells what it is.")
		return
	}
	messages, err := c.store.ViewQueue(req.Context(), name, service, queueMost, payloadBytes+utf8.UTFMax)
	if err != nil {
		c.fail(w, req, err)
		return
	}
	for i := range messages {
		messages[i] = cut(messages[i], payloadBytes)
	}
	c.show(w, req, "queue", "Queue "+plain(name), struct {
		Name     string   `json:"name"`
		Messages []string `json:"messages"`
	}{name, messages})
}

func (c *Console) backlog(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	twin, skip := number(query.Get("twin")), number(query.Get("skip"))
	requests, total, err := c.store.ViewRequests(req.Context(), uint32(twin), skip, pageLength)
	if err != nil {
		c.fail(w, req, err)
		return
	}
	data := struct {
		Total    int64                 `json:"total"`
		Twin     int                   `json:"twin"`
		Skip     int                   `json:"skip"`
		Requests []backlog.RequestView `json:"requests"`
		Earlier  string                `json:"-"` // addresses of the pages before and after
		Later    string                `json:"-"`
	}{Total: total, Twin: twin, Skip: skip, Requests: listed(requests)}
	at := func(skip int) string {
		if twin == 0 {
			return fmt.Sprintf("?skip=%d", skip)
		}
		return fmt.Sprintf("?twin=%d&skip=%d", twin, skip)
	}
	if skip > 0 {
		data.Earlier = at(max(0, skip-pageLength))
	}
	if len(requests) == pageLength {
		data.Later = at(skip + pageLength)
	}
	c.show(w, req, "backlog", "Backlog", data)
}

// A requestPage is one request, with as much of its data as may be shown.
type requestPage struct {
	backlog.RequestView
	Data string `json:"data,omitempty"`
}

func (c *Console) request(w http.ResponseWriter, req *http.Request) {
	uid := param(req, "uid")
	view, err := c.store.ViewRequest(req.Context(), uid)
	if errors.Is(err, msgbus.ErrNotFound) && !asksJSON(req) {
		http.Redirect(w, req, Path+"/trace?uid="+url.QueryEscape(uid), http.StatusSeeOther) // which tells how it ended
		return
	}
	if err != nil {
		c.fail(w, req, err)
		return
	}
	page := requestPage{RequestView: view}
	if c.who(req).mayChange {
		if entry, err := c.store.Entry(req.Context(), uid); err == nil { // else it has just ended
			page.Data = payload(entry.Message.Data)
		}
	}
	c.show(w, req, "request", "Request "+uid, page)
}

func (c *Console) dead(w http.ResponseWriter, req *http.Request) {
	query := req.URL.Query()
	reason := query.Get("reason")
	bytes := lineBytes + utf8.UTFMax // so that it can be cut between two characters
	if !c.who(req).mayChange {
		bytes = 0
	}
	before := query.Get("before")
	if before != "" && !isDeadID(before) {
		c.fail(w, req, msgbus.ErrNotFound)
		return
	}
	letters, next, err := c.store.DeadLetters(req.Context(), before, msgbus.Reason(reason), pageLength, bytes)
	if err != nil {
		c.fail(w, req, err)
		return
	}
	for i := range letters {
		letters[i].Message = cut(letters[i].Message, lineBytes)
	}
	c.show(w, req, "dead", "Dead letters", struct {
		Reason  string               `json:"reason"`
		Letters []backlog.DeadLetter `json:"letters"`
		Next    string               `json:"next"` // the id before which there are more, or ""
	}{reason, listed(letters), next})
}

func (c *Console) letter(w http.ResponseWriter, req *http.Request) {
	id := param(req, "id")
	if !isDeadID(id) {
		c.fail(w, req, msgbus.ErrNotFound)
		return
	}
	letter, err := c.store.DeadLetter(req.Context(), id)
	if err != nil {
		c.fail(w, req, err)
		return
	}
	letter.Message = cut(letter.Message, payloadBytes)
	c.show(w, req, "letter", "Dead letter "+letter.ID, letter)
}

func (c *Console) trace(w http.ResponseWriter, req *http.Request) {
	uid := strings.TrimSpace(req.URL.Query().Get("uid"))
	j, status := &inspect.Journey{UID: uid}, http.StatusOK
	if uid != "" {
		found, err := inspect.ReadJourney(req.Context(), c.store, uid)
		if err != nil && !errors.Is(err, msgbus.ErrNotFound) {
			c.fail(w, req, err)
			return
		}
		if err == nil {
			j = found
		} else {
			status = http.StatusNotFound
		}
	}
	c.showAs(w, req, status, "trace", "Trace of a message", j)
}

func (c *Console) twins(w http.ResponseWriter, req *http.Request) {
	var twins []TwinView
	if c.opts.Twins != nil {
		twins = c.opts.Twins()
	}
	c.show(w, req, "twins", "Twins", listed(twins))
}

func (c *Console) settings(w http.ResponseWriter, req *http.Request) {
	var settings []Setting
	if c.opts.Settings != nil {
		settings = c.opts.Settings()
	}
	c.show(w, req, "settings", "Settings", listed(settings))
}

// static serves the style and the script.
func (c *Console) static(w http.ResponseWriter, req *http.Request) {
	name := chi.URLParam(req, "file")
	text, err := files.ReadFile("static/" + name)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	w.Header().Set("Content-Type", kinds[path.Ext(name)])
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(text)
}
