package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// ServerOptions are how a [Server] works. The zero value is good.
type ServerOptions struct {
	// Workers is how many requests are handled at once, over all commands. 0: 16.
	Workers int
	// Grace is how long Run waits for handlers that work, once its context has ended,
	// before it ends their contexts. 0: 10 s.
	Grace time.Duration
	// Lease is how long the relay waits before it gives this service's requests to
	// another one, when nothing is heard from this one. It is renewed three times as
	// often. 0: 15 s; below 3 s it is 3 s.
	Lease time.Duration
	// Middleware is put around all handlers, the first one outermost.
	Middleware []Middleware
}

const (
	defaultWorkers = 16
	defaultGrace   = 10 * time.Second
	defaultLease   = 15 * time.Second
	minLease       = 3 * takeBlock
)

// A Server serves commands of its twin. A request that it has taken is not lost when it
// crashes: the relay gives it to another service of the command, or to this one when it
// is there again.
type Server struct {
	c        *Client
	opts     ServerOptions
	handlers registry
	running  atomic.Bool
}

// NewServer returns a server that uses c's Redis. Register its handlers, then run it.
func NewServer(c *Client, opts ServerOptions) *Server {
	if opts.Workers <= 0 {
		opts.Workers = defaultWorkers
	}
	if opts.Grace <= 0 {
		opts.Grace = defaultGrace
	}
	if opts.Lease <= 0 {
		opts.Lease = defaultLease
	}
	opts.Lease = max(opts.Lease, minLease)
	return &Server{c: c, opts: opts, handlers: make(registry)}
}

// HandleFunc registers the handler of a command. It panics when that has one, when the
// name is none that a service can have, and when the server runs.
func (s *Server) HandleFunc(cmd string, h Handler) {
	if s.running.Load() {
		panic("client: the server runs already")
	}
	s.handlers.add(cmd, h)
}

// Run serves until ctx ends. Then it takes nothing more, waits for the handlers that work,
// gives back what is not finished, for other services, takes its name off the relay's
// list, and returns nil; that lasts up to Grace and a few seconds. An error tells that it could not
// give back or sign off, and that the relay will, when the lease ends; or that there is
// nothing to serve.
//
// While Redis is away it tries again and again, and keeps answers until their deadlines.
func (s *Server) Run(ctx context.Context) error {
	switch {
	case len(s.handlers) == 0:
		return errors.New("the server has no handlers")
	case s.c.rdb == nil:
		return errors.New("the client of a server must be one of Open")
	case !s.running.CompareAndSwap(false, true):
		return errors.New("the server runs already")
	}
	defer s.running.Store(false)
	commands := slices.Sorted(maps.Keys(s.handlers))
	consumer := newConsumer(s.c, commands, s.opts.Lease)
	session := newSession(s, consumer)
	err := session.serve(ctx)
	if err := errors.Join(err, consumer.close()); err != nil {
		return fmt.Errorf("stop serving: %w", err)
	}
	return nil
}
