package console

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// done goes back to a page, which says what was done; a program gets that as JSON.
func (c *Console) done(w http.ResponseWriter, req *http.Request, to, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.opts.Log.Info().Str("from", req.RemoteAddr).Str("done", text).Msg("changed by the console")
	if asksJSON(req) {
		c.showAs(w, req, http.StatusOK, "problem", "", map[string]string{"done": text})
		return
	}
	http.Redirect(w, req, Path+to+"?done="+url.QueryEscape(text), http.StatusSeeOther)
}

func (c *Console) changeLane(w http.ResponseWriter, req *http.Request) {
	twin := uint32(number(chi.URLParam(req, "twin")))
	to := fmt.Sprintf("/lanes/%d", twin)
	var err error
	switch action := chi.URLParam(req, "action"); action {
	case "pause":
		if _, err = c.store.PauseLane(req.Context(), twin); err == nil {
			c.done(w, req, to, "The lane to twin %d is paused.", twin)
		}
	case "resume", "retry":
		if _, err = c.store.ResumeLane(req.Context(), twin); err == nil {
			c.done(w, req, to, "The lane to twin %d is due now.", twin)
		}
	default:
		err = msgbus.ErrNotFound
	}
	if err != nil {
		c.fail(w, req, err)
	}
}

func (c *Console) changeRequest(w http.ResponseWriter, req *http.Request) {
	uid := chi.URLParam(req, "uid")
	var err error
	switch action := chi.URLParam(req, "action"); action {
	case "drop":
		if err = c.opts.Drop(req.Context(), uid); err == nil {
			c.done(w, req, "/backlog", "Request %s has ended, with an error to its app.", uid)
		}
	case "retry":
		var view backlog.RequestView
		if view, err = c.store.ViewRequest(req.Context(), uid); err == nil {
			_, err = c.store.ResumeLane(req.Context(), view.Twin)
		}
		if err == nil {
			c.done(w, req, "/backlog/"+uid, "The lane to twin %d is due now.", view.Twin)
		}
	default:
		err = msgbus.ErrNotFound
	}
	if err != nil {
		c.fail(w, req, err)
	}
}

// changeDead retries or drops the dead letters that are ticked, or all of a reason, or
// all.
func (c *Console) changeDead(w http.ResponseWriter, req *http.Request) {
	action := chi.URLParam(req, "action")
	if action != "retry" && action != "drop" {
		c.fail(w, req, msgbus.ErrNotFound)
		return
	}
	if err := req.ParseForm(); err != nil {
		c.refuse(w, req, http.StatusBadRequest, "This form cannot be read.", "")
		return
	}
	ids := req.Form["id"]
	if which := req.Form.Get("which"); which == "all" {
		var err error
		if ids, err = c.allDead(req, req.Form.Get("reason")); err != nil {
			c.fail(w, req, err)
			return
		}
	}
	if len(ids) == 0 {
		c.refuse(w, req, http.StatusBadRequest, "No dead letter is ticked.", "Tick those that are meant, or choose all.")
		return
	}
	n := 0
	for i := len(ids) - 1; i >= 0; i-- { // the oldest first, as they came
		var err error
		if action == "retry" {
			err = c.store.RetryDeadLetter(req.Context(), ids[i])
		} else {
			_, err = c.store.DropDeadLetters(req.Context(), ids[i])
		}
		switch {
		case err == nil:
			n++
		case len(ids) > 1 && (errors.Is(err, msgbus.ErrNotFound) || errors.Is(err, backlog.ErrNoRetry)):
			// The others can be tried all the same; it stays in the list, or is gone.
		default:
			c.fail(w, req, err)
			return
		}
	}
	if action == "retry" {
		c.done(w, req, "/dead", "%d of %d dead letters were put back.", n, len(ids))
		return
	}
	c.done(w, req, "/dead", "%d dead letters were dropped.", n)
}

// allDead names all dead letters of a reason, "" for any.
func (c *Console) allDead(req *http.Request, reason string) ([]string, error) {
	var ids []string
	for before := ""; ; {
		letters, next, err := c.deadPage(req.Context(), before, reason, 0)
		if err != nil {
			return nil, err
		}
		for _, l := range letters {
			ids = append(ids, l.ID)
		}
		if next == "" {
			return ids, nil
		}
		before = next
	}
}

// payload is the data of a message for people: decoded where it is text in base64, and
// cut.
func payload(data string) string {
	if decoded, err := base64.StdEncoding.DecodeString(data); err == nil && utf8.Valid(decoded) {
		data = string(decoded)
	}
	if len(data) > payloadBytes {
		return data[:payloadBytes] + " …"
	}
	return data
}
