package gateway

// An Observer is told what the gateway does.
type Observer interface {
	// BrowserConnected and BrowserLeft tell of connections of a kind, SSE or WebSocket.
	BrowserConnected(kind string)
	BrowserLeft(kind string)
	// BrowserRefused tells why a connection or a message of a browser was refused.
	BrowserRefused(why string)
	// EventsSent and EventsLost tell of events for browsers.
	EventsSent(n int)
	EventsLost(n int)
}

// Kinds of connections.
const (
	SSE       = "sse"
	WebSocket = "websocket"
)

type unobserved struct{}

func (unobserved) BrowserConnected(string) {}
func (unobserved) BrowserLeft(string)      {}
func (unobserved) BrowserRefused(string)   {}
func (unobserved) EventsSent(int)          {}
func (unobserved) EventsLost(int)          {}
