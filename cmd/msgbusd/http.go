package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/httpapi"
)

// stopHTTP is how long requests may go on after the stop.
const stopHTTP = 5 * time.Second

// serveHTTP serves until ctx ends, and then lets what has begun finish. It
// closes the listener.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log zerolog.Logger) error {
	server := httpapi.HTTPServer(h)
	server.ErrorLog = errorLog(log)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopHTTP)
	defer cancel()
	if err := server.Shutdown(limited); err != nil {
		log.Debug().Err(err).Msg("cut off requests that took too long")
		_ = server.Close()
	}
	<-done
	return nil
}

// A gate tells clients to come back until there is something behind it.
type gate struct{ behind atomic.Pointer[http.Handler] }

func (g *gate) open(h http.Handler) { g.behind.Store(&h) }

func (g *gate) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if h := g.behind.Load(); h != nil {
		(*h).ServeHTTP(w, req)
		return
	}
	httpapi.Unready(w, req)
}
