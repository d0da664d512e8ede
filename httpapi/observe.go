package httpapi

import (
	"net/http"

	"github.com/msgbusd/msgbusd/msgbus"
)

// An Observer is told what becomes of messages that come in. Its methods are called on
// the way of each of them, from many goroutines: they must be quick and wait for nothing.
type Observer interface {
	// MessagesReceived is told of messages as their senders are: they were taken, and
	// the reason is "", or they were not, for good or for now. A POST that is refused as
	// a whole is one.
	MessagesReceived(why msgbus.Reason, n int)
}

// unobserved is the Observer of a Server of which nobody wants to know.
type unobserved struct{}

func (unobserved) MessagesReceived(msgbus.Reason, int) {}

// turnAway refuses a message and counts it.
func (s *Server) turnAway(w http.ResponseWriter, req *http.Request, m *msgbus.Message, err error) {
	s.opts.Observer.MessagesReceived(s.refuse(w, req, m, err), 1)
}
