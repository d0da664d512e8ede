package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/msgbusd/msgbusd/gateway"
)

// A source is what a page with an EventSource sees.
type source struct {
	t    *testing.T
	body *bufio.Reader
	end  func()
	head http.Header
}

// A told is one thing that a page is told.
type told struct {
	Name, ID string // of an EventSource
	Data     string

	Event *struct {
		Topic  string
		Src    uint32
		Time   int64
		Data   json.RawMessage
		Dat    string
		Tag    json.RawMessage
		Latest bool
	}
	Lost       int
	Kick       *struct{ Reason string }
	End, Error *struct{ Reason string }
	Subscribed []string
}

// listen opens a connection as an EventSource does. query begins with "&", or is "".
func (s *site) listen(token, query string) *source {
	s.t.Helper()
	return s.listenBy(transport(s.t), token, query)
}

func (s *site) listenBy(tr *http.Transport, token, query string) *source {
	s.t.Helper()
	ctx, cancel := context.WithCancel(patient(s.t))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/events?token="+token+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	end := func() {
		cancel()
		_ = resp.Body.Close()
	}
	s.t.Cleanup(end)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
	}
	return &source{s.t, bufio.NewReader(resp.Body), end, resp.Header}
}

// next waits for what is told next; nil is the end.
func (c *source) next() *told {
	c.t.Helper()
	m := &told{}
	for {
		line, err := c.body.ReadString('\n')
		if err != nil {
			return nil
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case name == "event":
			m.Name = value
		case name == "id":
			m.ID = value
		case name == "data":
			m.Data += value
		case line == "" && m.Data != "":
			return c.parse(m)
		}
	}
}

func (c *source) parse(m *told) *told {
	c.t.Helper()
	var into any = m
	if m.Name == "" {
		into = &m.Event
	}
	if err := json.Unmarshal([]byte(m.Data), into); err != nil {
		c.t.Fatalf("%q: %v", m.Data, err)
	}
	return m
}

// want wants an event with this topic and this data.
func (c *source) want(topic, data string) *told {
	c.t.Helper()
	return wantEvent(c.t, c.next(), topic, data)
}

func wantEvent(t *testing.T, m *told, topic, data string) *told {
	t.Helper()
	if m == nil || m.Event == nil || m.Event.Topic != topic || string(m.Event.Data) != data {
		t.Fatalf("told %s, want %s under %s", m, data, topic)
	}
	return m
}

func (m *told) String() string {
	if m == nil {
		return "nothing more"
	}
	return m.Name + " " + m.Data
}

// A socket is what a page with a WebSocket sees.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
}

// connect opens a WebSocket as a page does.
func (s *site) connect(token string) *socket {
	s.t.Helper()
	conn, _, err := websocket.Dial(patient(s.t), s.url+"/ws", &websocket.DialOptions{Subprotocols: []string{"msgbus", "msgbus.token." + token}})
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetReadLimit(16 << 20)
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	return &socket{s.t, conn}
}

func (c *socket) say(text string) {
	c.t.Helper()
	if err := c.conn.Write(patient(c.t), websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// next waits for what is told next. At the end it returns nil, and the code of it.
func (c *socket) next() (*told, websocket.StatusCode) {
	c.t.Helper()
	_, text, err := c.conn.Read(patient(c.t))
	if err != nil {
		return nil, websocket.CloseStatus(err)
	}
	m := &told{Data: string(text)}
	if err := json.Unmarshal(text, m); err != nil {
		c.t.Fatalf("%s: %v", text, err)
	}
	return m, 0
}

func (c *socket) want(topic, data string) *told {
	c.t.Helper()
	m, _ := c.next()
	return wantEvent(c.t, m, topic, data)
}

func (c *socket) wantSubscribed(patterns ...string) {
	c.t.Helper()
	if m, _ := c.next(); m == nil || strings.Join(m.Subscribed, " ") != strings.Join(patterns, " ") {
		c.t.Fatalf("told %s, want %q", m, patterns)
	}
}

func (c *socket) wantError(why gateway.Reason) {
	c.t.Helper()
	if m, _ := c.next(); m == nil || m.Error == nil || m.Error.Reason != string(why) {
		c.t.Fatalf("told %s, want the error %s", m, why)
	}
}

// subscribe subscribes, and returns when that is so.
func (c *socket) subscribe(patterns ...string) {
	c.t.Helper()
	list, _ := json.Marshal(patterns)
	c.say(`{"subscribe":` + string(list) + `}`)
	c.wantSubscribed(patterns...)
}
