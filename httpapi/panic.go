package httpapi

import (
	"errors"
	"net/http"

	"github.com/msgbusd/msgbusd/msgbus"
)

// outlivePanics answers a message that makes its handler panic with a 500, where
// net/http would break the connection and tell in a log of its own.
func (s *Server) outlivePanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var p *msgbus.Panic
		if !errors.As(msgbus.Guard(func() error { next.ServeHTTP(w, req); return nil }), &p) {
			return
		}
		s.log.Error().Str("path", req.URL.Path).Str("peer", req.RemoteAddr).Str("reason", string(msgbus.Poison)).
			Str("panic", p.Value).Bytes("stack", p.Stack).Msg("a message made the relay panic: please report this")
		if w.Header().Get("Content-Length") != "" {
			panic(http.ErrAbortHandler) // the answer has begun: nobody must take it for a whole one
		}
		writeError(w, http.StatusInternalServerError, p.Refusal())
	})
}
