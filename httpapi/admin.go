package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
)

// A Check tells whether the relay can serve: nil, or why it cannot.
type Check func(ctx context.Context) error

// AdminHandler serves the admin side: `/healthz` says that the process runs,
// `/readyz` that it can serve, with the reason when it cannot, and `/metrics` what
// metrics tells; nil has none.
func AdminHandler(ready Check, metrics http.Handler) http.Handler {
	r := chi.NewRouter()
	if metrics != nil {
		r.Method(http.MethodGet, "/metrics", metrics)
	}
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	r.Get("/readyz", func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), 2*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			writeJSON(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	})
	return r
}
