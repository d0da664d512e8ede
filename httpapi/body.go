package httpapi

import (
	"errors"
	"io"
	"net/http"

	"golang.org/x/sync/semaphore"

	"github.com/msgbusd/msgbusd/msgbus"
)

// freeBody is how much of each body, coming or going, counts against no bound:
// large bodies that are slow hold up other large ones, and never the ordinary
// messages.
const freeBody = 64 << 10

// LeastInFlight returns how many bytes [ServerOptions].MaxInFlight must be at least
// for messages of up to maxBody bytes. A transfer that is as large as one may be,
// sealed and compressed, is there three times until its lines are read; with less
// it would be told for ever to come again.
func LeastInFlight(maxBody int64) int64 { return 3 * (maxBody + transferOverhead - freeBody) }

// errOverloaded: large bodies take as much memory as they may.
var errOverloaded = errors.New("too many large bodies at once")

// A meter counts the bytes of one body against a bound that all have together.
type meter struct {
	budget *semaphore.Weighted
	free   int64 // may still come without being counted
	held   int64
}

func newMeter(budget *semaphore.Weighted) meter { return meter{budget: budget, free: freeBody} }

// take counts n bytes until release, or returns errOverloaded.
func (m *meter) take(n int64) error {
	counted := max(0, n-m.free)
	m.free -= n - counted
	if counted > 0 && !m.budget.TryAcquire(counted) {
		return errOverloaded
	}
	m.held += counted
	return nil
}

func (m *meter) release() {
	m.budget.Release(m.held)
	m.held = 0
}

// boundBodies counts the bytes of large bodies while they are read and for as
// long as their messages are being dealt with.
func (s *Server) boundBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body := &meteredBody{req.Body, newMeter(s.inFlight)}
		defer body.release()
		req.Body = body
		next.ServeHTTP(w, req)
	})
}

type meteredBody struct {
	io.ReadCloser
	meter
}

func (b *meteredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if over := b.take(int64(n)); over != nil {
		return 0, over
	}
	return n, err
}

// readBody reads a body of at most so many bytes whole.
func (s *Server) readBody(w http.ResponseWriter, req *http.Request, most int64) ([]byte, error) {
	if req.ContentLength > most {
		return nil, tooLarge(most)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, most))
	var over *http.MaxBytesError
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &over):
		return nil, tooLarge(most)
	case errors.Is(err, errOverloaded):
		return nil, overloaded()
	default:
		return nil, msgbus.Refuse(msgbus.Malformed, "the body could not be read")
	}
}

func tooLarge(most int64) error {
	return msgbus.Refuse(msgbus.TooLarge, "the body is over %d bytes", most)
}

func overloaded() error {
	return msgbus.Refuse(msgbus.Overloaded, "too many large messages at once")
}
