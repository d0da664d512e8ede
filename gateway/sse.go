package gateway

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"sync"
	"time"
)

// Server-sent events: what a page gets as messages are events of the bus; others have a
// name, `lost`, `kick` or `end`.

// endedID is the id of the last thing that is said to an EventSource which is not to come
// again. It does so by itself whenever a connection ends, and of two pages with one user
// each would end the other for ever. When it has this id, it is answered with 204, after
// which browsers stop.
const endedID = "ended"

func (g *Gateway) events(w http.ResponseWriter, req *http.Request) {
	if req.Header.Get("Last-Event-ID") == endedID {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s, r := g.admit(req, SSE)
	if r != nil {
		g.refuse(w, req, r)
		return
	}
	defer s.close()
	query := req.URL.Query()
	topics := query["topic"]
	if len(topics) == 0 {
		topics = s.claims.Topics
	}
	s.queue.hold()
	added, r := s.subscribe(req.Context(), topics)
	var latest []*message
	if r == nil && query.Get("latest") == "1" {
		latest, r = s.latest(added)
	}
	if r != nil {
		g.refuse(w, req, r)
		return
	}
	out := newStream(w, s)
	defer out.stop()
	defer context.AfterFunc(s.ctx, out.hurry)()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events until it has many
	if err := out.begin(latest); err != nil {
		out.failed(err)
		return
	}
	s.queue.release()
	out.run(req.Context())
}

// A stream writes server-sent events.
type stream struct {
	s   *session
	w   http.ResponseWriter
	rc  *http.ResponseController
	buf bytes.Buffer

	mu     sync.Mutex
	ending bool // the session has ended: guarded by mu
}

func newStream(w http.ResponseWriter, s *session) *stream {
	return &stream{s: s, w: w, rc: http.NewResponseController(w)}
}

// begin writes what comes before all that happens from now on.
func (o *stream) begin(latest []*message) error {
	if err := o.write([]byte("retry: 2000\n\n")); err != nil {
		return err
	}
	for _, m := range latest {
		if err := o.event(m); err != nil {
			return err
		}
	}
	return o.flush()
}

// run writes what comes until the session ends, and then why it does. gone ends when the
// browser has left, and also when something could not be written.
func (o *stream) run(gone context.Context) {
	ping := time.NewTicker(o.s.g.opts.Ping)
	defer ping.Stop()
	for {
		var err error
		select {
		case <-o.s.ctx.Done():
			o.farewell()
			return
		case <-gone.Done():
			o.s.leave()
			return
		case <-o.s.queue.ready:
			err = o.drain()
		case <-ping.C:
			if err = o.write([]byte(": ping\n\n")); err == nil {
				err = o.flush()
			}
		}
		if err != nil {
			o.failed(err)
			return
		}
	}
}

// failed ends the session when something could not be written, unless it has ended before.
func (o *stream) failed(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		o.s.tooSlow()
		return
	}
	o.s.leave()
}

// drain writes all that waits, one by one: what is in the queue is what its bound is for.
func (o *stream) drain() error {
	for o.s.ctx.Err() == nil {
		i, ok := o.s.queue.next()
		if !ok {
			break
		}
		if i.lost != 0 {
			if err := o.named("lost", "", encode("lost", i.lost)); err != nil {
				return err
			}
		}
		if err := o.event(i.message); err != nil {
			return err
		}
	}
	return o.flush()
}

func (o *stream) event(m *message) error {
	o.buf.Reset()
	if m.id != "" {
		o.buf.WriteString("id: " + m.id + "\n")
	}
	o.buf.WriteString("data: ")
	o.buf.Write(m.text)
	o.buf.WriteString("\n\n")
	err := o.write(o.buf.Bytes())
	if err == nil {
		o.s.g.opts.Observer.EventsSent(1)
	}
	return err
}

func (o *stream) named(name, id string, data []byte) error {
	o.buf.Reset()
	o.buf.WriteString("event: " + name + "\n")
	if id != "" {
		o.buf.WriteString("id: " + id + "\n")
	}
	o.buf.WriteString("data: ")
	o.buf.Write(data)
	o.buf.WriteString("\n\n")
	return o.write(o.buf.Bytes())
}

// farewell says why the session has ended, to who is still there.
func (o *stream) farewell() {
	why := o.s.why()
	name, id := "end", ""
	switch why.Reason {
	case Gone, TooSlow:
		return
	case Replaced:
		name, id = "kick", endedID
	case TokenExpired:
		id = endedID // with the same token it would be refused
	}
	text := encode(name, why)
	if o.named(name, id, text) == nil {
		_ = o.flush()
	}
}

// write gives the browser the time that a slow one has for so much.
func (o *stream) write(p []byte) error {
	o.extend(o.s.g.opts.limit(len(p)))
	_, err := o.w.Write(p)
	return err
}

func (o *stream) flush() error {
	o.extend(o.s.g.opts.limit(0))
	return o.rc.Flush()
}

// farewellLimit is how long the last word may take.
const farewellLimit = 2 * time.Second

func (o *stream) extend(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ending {
		_ = o.rc.SetWriteDeadline(time.Now().Add(d))
	}
}

// hurry is for when the session has ended while something is being written.
func (o *stream) hurry() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ending {
		o.ending = true
		_ = o.rc.SetWriteDeadline(time.Now().Add(farewellLimit))
	}
}

// stop leaves the connection alone from now on: it is the server's again.
func (o *stream) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ending = true
}

// bytesASecond is how fast a browser must at least take an event that is large.
const bytesASecond = 64 << 10

// limit is how long writing so many bytes may take.
func (o *Options) limit(bytes int) time.Duration {
	return o.Slow + time.Duration(bytes)*time.Second/bytesASecond
}
