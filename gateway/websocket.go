package gateway

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"
)

// Codes with which a WebSocket is closed, beside those of the protocol itself.
const (
	closeExpired  = websocket.StatusCode(4001)
	closeReplaced = websocket.StatusCode(4002)
	closeSlow     = websocket.StatusCode(4003)
)

// Messages of one browser: more in a second wait, and with them their connection.
const (
	messagesASecond = 100
	messagesAtOnce  = 200
)

func (g *Gateway) socket(w http.ResponseWriter, req *http.Request) {
	s, r := g.admit(req, WebSocket)
	if r != nil {
		g.refuse(w, req, r)
		return
	}
	defer s.close()
	if offered := protocols(req); len(offered) > 0 && !slices.Contains(offered, protocol) {
		g.refuse(w, req, refuse(BadMessage, "offer the subprotocol %s beside that of the token: a browser wants one of its own back, and the token is not repeated", protocol))
		return
	}
	conn, err := websocket.Accept(w, req, &websocket.AcceptOptions{
		Subprotocols:       []string{protocol},
		InsecureSkipVerify: true, // checkOrigin has looked
	})
	if err != nil { // which it has answered
		g.opts.Observer.BrowserRefused(string(BadMessage))
		return
	}
	conn.SetReadLimit(int64(g.opts.MaxMessage))
	c := &socket{session: s, conn: conn, pace: rate.NewLimiter(messagesASecond, messagesAtOnce)}
	var group sync.WaitGroup
	group.Go(c.write)
	group.Go(c.ping)
	group.Go(c.finish)
	c.read()
	group.Wait()
}

// A socket is a session over a WebSocket.
type socket struct {
	*session
	conn *websocket.Conn
	pace *rate.Limiter
}

// within is for what the browser must take within a limit. It does not end with the
// session: that would break the connection, and with it the last word. When the limit has
// passed, what breaks is known to have been slow before whoever reads sees that it is broken.
func (c *socket) within(limit time.Duration) (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(limit, func() {
		c.tooSlow()
		cancel()
	})
	return ctx, func() {
		timer.Stop()
		cancel()
	}
}

// say writes one message. It may be called by several goroutines at once.
func (c *socket) say(text []byte, limit time.Duration) error {
	ctx, done := c.within(limit)
	defer done()
	return c.conn.Write(ctx, websocket.MessageText, text)
}

// tell says something that is not an event.
func (c *socket) tell(name string, value any) bool {
	text := encode(name, value)
	return c.try(c.say(text, c.g.opts.limit(len(text))))
}

func (c *socket) event(m *message) bool {
	text := make([]byte, 0, len(m.text)+len(`{"event":}`))
	text = append(append(append(text, `{"event":`...), m.text...), '}')
	if !c.try(c.say(text, c.g.opts.limit(len(text)))) {
		return false
	}
	c.g.opts.Observer.EventsSent(1)
	return true
}

// try ends the session when something could not be said.
func (c *socket) try(err error) bool {
	if err != nil {
		c.leave() // unless it has ended before
	}
	return err == nil
}

// write writes events until the session ends.
func (c *socket) write() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.queue.ready:
		}
		for c.ctx.Err() == nil {
			i, ok := c.queue.next()
			if !ok {
				break
			}
			if i.lost != 0 && !c.tell("lost", i.lost) || !c.event(i.message) {
				return
			}
		}
	}
}

// ping finds out whether the browser is there: one whose network has gone says nothing.
func (c *socket) ping() {
	ticker := time.NewTicker(c.g.opts.Ping)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
		ctx, done := c.within(c.g.opts.Slow)
		err := c.conn.Ping(ctx)
		done()
		if !c.try(err) {
			return
		}
	}
}

// finish closes the connection when the session has ended, after it has said why.
func (c *socket) finish() {
	<-c.ctx.Done()
	why := c.why()
	code, name := websocket.StatusGoingAway, "error"
	switch why.Reason {
	case Gone, TooSlow: // who takes nothing does not take a farewell
		_ = c.conn.CloseNow()
		return
	case TokenExpired:
		code = closeExpired
	case Replaced:
		code, name = closeReplaced, "kick"
	case Unavailable:
		code = websocket.StatusTryAgainLater
	}
	if c.say(encode(name, why), farewellLimit) != nil {
		_ = c.conn.CloseNow()
		return
	}
	_ = c.conn.Close(code, string(why.Reason))
}

// read does what the browser asks for, one after the other, until the session ends.
func (c *socket) read() {
	defer c.leave()
	for {
		// Not the session's context: it would break the connection before the farewell.
		kind, text, err := c.conn.Read(context.Background())
		if err != nil || c.pace.Wait(c.ctx) != nil {
			return
		}
		if kind != websocket.MessageText {
			if !c.refuse(refuse(BadMessage, "messages are text")) {
				return
			}
			continue
		}
		if !c.handle(text) {
			return
		}
	}
}

// refuse tells the browser why not.
func (c *socket) refuse(r *refusal) bool {
	c.g.opts.Observer.BrowserRefused(string(r.Reason))
	return c.tell("error", r)
}
