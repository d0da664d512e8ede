package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

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

// number reads a number of the query, or of the path; 0 for what is none.
func number(text string) int {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return int(n)
}

func (c *Console) overview(w http.ResponseWriter, req *http.Request) {
	o, err := inspect.ReadOverview(req.Context(), c.store)
	if err != nil {
		c.fail(w, req, err)
		return
	}
	c.show(w, req, "overview", "Overview", struct {
		*inspect.Overview
		Rates  rates   `json:"rates"`
		Charts []chart `json:"charts"`
	}{o, c.live.rates(), c.live.charts()})
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
	}{lane, requests})
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
	name := chi.URLParam(req, "name")
	service := req.URL.Query().Get("of") == "service"
	messages, err := c.store.ViewQueue(req.Context(), name, service, queueMost, payloadBytes)
	if err != nil {
		c.fail(w, req, err)
		return
	}
	c.show(w, req, "queue", "Queue "+name, struct {
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
	}{Total: total, Twin: twin, Skip: skip, Requests: requests}
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
	uid := chi.URLParam(req, "uid")
	view, err := c.store.ViewRequest(req.Context(), uid)
	if errors.Is(err, msgbus.ErrNotFound) && !asksJSON(req) {
		http.Redirect(w, req, Path+"/trace?uid="+uid, http.StatusSeeOther) // which tells how it ended
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
	bytes := lineBytes
	if !c.who(req).mayChange {
		bytes = 0
	}
	letters, next, err := c.deadPage(req.Context(), query.Get("before"), reason, bytes)
	if err != nil {
		c.fail(w, req, err)
		return
	}
	c.show(w, req, "dead", "Dead letters", struct {
		Reason  string               `json:"reason"`
		Letters []backlog.DeadLetter `json:"letters"`
		Next    string               `json:"next"` // the id before which there may be more, or ""
	}{reason, letters, next})
}

// deadPage returns dead letters of a reason, "" for any, before one.
func (c *Console) deadPage(ctx context.Context, before, reason string, bytes int) (letters []backlog.DeadLetter, next string, err error) {
	for range 100 { // of a reason that is rare, as far as is looked for at once
		step, err := c.store.DeadLetters(ctx, before, pageLength, bytes)
		if err != nil {
			return nil, "", err
		}
		for _, l := range step {
			before = l.ID
			if reason == "" || string(l.Reason) == reason {
				letters = append(letters, l)
			}
			if len(letters) == pageLength {
				return letters, before, nil
			}
		}
		if len(step) < pageLength {
			return letters, "", nil
		}
	}
	return letters, before, nil
}

func (c *Console) letter(w http.ResponseWriter, req *http.Request) {
	letter, err := c.store.DeadLetter(req.Context(), chi.URLParam(req, "id"))
	if err != nil {
		c.fail(w, req, err)
		return
	}
	if len(letter.Message) > payloadBytes {
		letter.Message = letter.Message[:payloadBytes]
	}
	c.show(w, req, "letter", "Dead letter "+letter.ID, letter)
}

func (c *Console) trace(w http.ResponseWriter, req *http.Request) {
	uid := strings.TrimSpace(req.URL.Query().Get("uid"))
	j := &inspect.Journey{UID: uid}
	if uid != "" {
		found, err := inspect.ReadJourney(req.Context(), c.store, uid)
		if err != nil && !errors.Is(err, msgbus.ErrNotFound) {
			c.fail(w, req, err)
			return
		}
		if err == nil {
			j = found
		}
	}
	c.show(w, req, "trace", "Trace of a message", j)
}

func (c *Console) twins(w http.ResponseWriter, req *http.Request) {
	var twins []TwinView
	if c.opts.Twins != nil {
		twins = c.opts.Twins()
	}
	c.show(w, req, "twins", "Twins", twins)
}

func (c *Console) settings(w http.ResponseWriter, req *http.Request) {
	var settings []Setting
	if c.opts.Settings != nil {
		settings = c.opts.Settings()
	}
	c.show(w, req, "settings", "Settings", settings)
}

// static serves the style and the script.
func (c *Console) static(w http.ResponseWriter, req *http.Request) {
	name := chi.URLParam(req, "file")
	text, err := files.ReadFile("static/" + name)
	if err != nil {
		http.NotFound(w, req)
		return
	}
	kind := "text/css; charset=utf-8"
	if strings.HasSuffix(name, ".js") {
		kind = "text/javascript; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(text)
}
