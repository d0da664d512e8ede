package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// A Reason is why the gateway does not do what it was asked, or why a connection has
// ended: one word, the same in answers, in the log and in the metrics.
type Reason string

// Why a connection or what it asks for is refused.
const (
	NoToken            Reason = "no_token"
	BadToken           Reason = "bad_token"     // forged, cut off, or not one of this gateway
	TokenExpired       Reason = "token_expired" // also ends a connection
	BadOrigin          Reason = "bad_origin"
	BadTopic           Reason = "bad_topic"
	NotAllowed         Reason = "not_allowed" // the token is not for it
	BadMessage         Reason = "bad_message"
	TooManyConnections Reason = "too_many_connections"
	TooManyOfUser      Reason = "too_many_of_user"
	TooManyPatterns    Reason = "too_many_patterns"
	Unavailable        Reason = "unavailable" // the bus cannot be asked now
	NotFound           Reason = "not_found"
)

// Why a connection has ended.
const (
	Replaced Reason = "replaced" // by a newer session of the same user
	TooSlow  Reason = "too_slow" // it took nothing for too long
	Stopping Reason = "stopping"
	Gone     Reason = "gone" // the browser has left
)

// Refusals are all reasons for which something is refused, for who counts them.
var Refusals = [...]Reason{
	NoToken, BadToken, TokenExpired, BadOrigin, BadTopic, NotAllowed, BadMessage,
	TooManyConnections, TooManyOfUser, TooManyPatterns, Unavailable, NotFound, Stopping,
}

// A refusal is what a browser is told. Nothing of a token is ever in it.
type refusal struct {
	Reason  Reason `json:"reason"`
	Message string `json:"message"`
}

func refuse(r Reason, format string, args ...any) *refusal {
	return &refusal{r, fmt.Sprintf(format, args...)}
}

func (r *refusal) Error() string { return r.Message }

// status is how HTTP says it. An EventSource tries again after none of them, so that the
// page decides: it sees only that there was an error.
func (r *refusal) status() int {
	switch r.Reason {
	case NoToken, BadToken, TokenExpired:
		return http.StatusUnauthorized
	case BadOrigin, NotAllowed:
		return http.StatusForbidden
	case TooManyOfUser:
		return http.StatusTooManyRequests
	case TooManyConnections, Unavailable, Stopping:
		return http.StatusServiceUnavailable
	case NotFound:
		return http.StatusNotFound
	default:
		return http.StatusBadRequest
	}
}

// write answers a request with it.
func (r *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	switch r.status() {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", "5")
	}
	w.WriteHeader(r.status())
	_, _ = w.Write(encode("error", r))
}

// encode makes `{"<name>":<value>}`.
func encode(name string, value any) []byte {
	text, err := json.Marshal(map[string]any{name: value})
	if err != nil { // of values of ours, none has one
		panic(err)
	}
	return text
}
