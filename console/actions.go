package console

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
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
	c.sessions.tell(c.who(req).session, text)
	http.Redirect(w, req, Path+to, http.StatusSeeOther)
}

// retryLane has a lane that is not paused tried now, and goes back to a page that says so.
func (c *Console) retryLane(w http.ResponseWriter, req *http.Request, twin uint32, to string) error {
	err := c.store.RetryLane(req.Context(), twin)
	switch {
	case err == nil:
		c.done(w, req, to, "The lane to twin %d is due now.", twin)
	case errors.Is(err, backlog.ErrPaused):
		c.refuse(w, req, http.StatusConflict, fmt.Sprintf("The lane to twin %d is paused.", twin),
			fmt.Sprintf("Resume lets it go on, on the page of the lane; or msgbusd lane resume %d.", twin))
		return nil
	}
	return err
}

func (c *Console) changeLane(w http.ResponseWriter, req *http.Request) {
	twin := uint32(number(chi.URLParam(req, "twin")))
	to := fmt.Sprintf("/lanes/%d", twin)
	action := chi.URLParam(req, "action")
	if twin == 0 {
		action = "" // no twin has that number
	}
	var err error
	switch action {
	case "pause":
		if _, err = c.store.PauseLane(req.Context(), twin); err == nil {
			c.done(w, req, to, "The lane to twin %d is paused.", twin)
		}
	case "resume":
		if _, err = c.store.ResumeLane(req.Context(), twin); err == nil {
			c.done(w, req, to, "The lane to twin %d goes on: it is not paused any more.", twin)
		}
	case "retry":
		err = c.retryLane(w, req, twin, to)
	default:
		err = msgbus.ErrNotFound
	}
	if err != nil {
		c.fail(w, req, err)
	}
}

func (c *Console) changeRequest(w http.ResponseWriter, req *http.Request) {
	uid := param(req, "uid")
	var err error
	switch action := chi.URLParam(req, "action"); action {
	case "drop":
		if err = c.opts.Drop(req.Context(), uid); err == nil {
			c.done(w, req, "/backlog", "Request %s has ended, with an error to its app.", uid)
		}
	case "retry":
		var view backlog.RequestView
		if view, err = c.store.ViewRequest(req.Context(), uid); err != nil {
			break
		}
		if view.State == backlog.RequestSent {
			c.refuse(w, req, http.StatusConflict, fmt.Sprintf("This request waits on no lane: twin %d has it.", view.Twin), "It ends with the reply, or at its deadline.")
			return
		}
		err = c.retryLane(w, req, view.Twin, "/backlog/"+url.PathEscape(uid))
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
	ids := slices.DeleteFunc(req.Form["id"], func(id string) bool { return !isDeadID(id) })
	if which := req.Form.Get("which"); which == "all" {
		var err error
		if ids, err = c.store.DeadIDs(req.Context(), msgbus.Reason(req.Form.Get("reason"))); err != nil {
			c.fail(w, req, err)
			return
		}
	}
	if len(ids) == 0 {
		c.refuse(w, req, http.StatusBadRequest, "No dead letter is ticked.", "Tick those that are meant, or choose all.")
		return
	}
	change, what := c.dropLetters, "dropped"
	if action == "retry" {
		change, what = c.retryLetters, "put back"
	}
	n, err := change(req.Context(), ids)
	if err != nil {
		c.fail(w, req, err)
		return
	}
	c.done(w, req, "/dead", "%d of %d dead letters were %s.", n, len(ids), what)
}

// retryLetters and dropLetters tell how many they have changed. If one is all that is
// meant, it is an error that it cannot be.
func (c *Console) retryLetters(ctx context.Context, ids []string) (int, error) {
	back, left, err := c.store.RetryDeadLetters(ctx, ids...)
	if err == nil && len(ids) == 1 && len(left) == 1 {
		err = left[0]
	}
	return len(back), err
}

func (c *Console) dropLetters(ctx context.Context, ids []string) (int, error) {
	n, err := c.store.DropDeadLetters(ctx, ids...)
	if err == nil && len(ids) == 1 && n == 0 {
		err = msgbus.ErrNotFound
	}
	return int(n), err
}

// isDeadID tells whether a text can be the id of a dead letter. Redis finds more in one
// than the id of one entry.
func isDeadID(id string) bool {
	ms, seq, _ := strings.Cut(id, "-")
	_, err := strconv.ParseUint(ms, 10, 64)
	_, err2 := strconv.ParseUint(seq, 10, 64)
	return err == nil && err2 == nil
}

// payload is the data of a message for people: decoded where it is text in base64, and
// cut.
func payload(data string) string {
	if decoded, err := base64.StdEncoding.DecodeString(data); err == nil && utf8.Valid(decoded) {
		data = string(decoded)
	}
	return cut(data, payloadBytes)
}

// cut keeps so many bytes of a text at most, and no half of a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + " …"
}

// plain shows what somebody else wrote: characters that are not seen, or that move what
// stands around them, are written out.
func plain(text any) string {
	var out strings.Builder
	s := fmt.Sprint(text)
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&out, `\x%02x`, s[i])
		case r == '\n' || r == '\t' || r == ' ' || unicode.IsGraphic(r):
			out.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			out.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return out.String()
}
