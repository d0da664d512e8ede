package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/msgbusd/msgbusd/client"
)

// The twins of the game's two machines.
const (
	twinA uint32 = 1001
	twinB uint32 = 1002
)

// A machine is what runs on one of the game's: roles that share a client of the bus, and end
// with it.
type machine struct {
	*Messenger
	roles  sync.WaitGroup
	ctx    context.Context // of the roles
	cancel context.CancelFunc

	mu     sync.Mutex
	failed []error // guarded by mu
}

// newMachine connects to a machine's Redis. others are the twins of the other machines.
func newMachine(redis string, others ...uint32) (*machine, error) {
	bus, err := client.Open(client.Options{Redis: redis})
	if err != nil {
		return nil, fmt.Errorf("open the bus at %s: %w", redis, err)
	}
	m := &machine{Messenger: &Messenger{Bus: bus, Others: others}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m, nil
}

// start runs a role until the machine stops.
func (m *machine) start(role func(ctx context.Context) error) {
	m.roles.Go(func() {
		if err := role(m.ctx); err != nil {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.failed = append(m.failed, err)
		}
	})
}

// serve runs a server with what register gives it.
func (m *machine) serve(register func(client.Mux)) {
	s := client.NewServer(m.Bus, client.ServerOptions{})
	register(s)
	m.start(s.Run)
}

// play runs a session. That it is kicked is part of the game.
func (m *machine) play(s *Session) {
	m.start(func(ctx context.Context) error {
		if err := s.Run(ctx); !errors.Is(err, ErrKicked) {
			return err
		}
		return nil
	})
}

// stop ends the roles before the client that they use, and returns what went wrong.
func (m *machine) stop() error {
	m.cancel()
	m.roles.Wait()
	return errors.Join(errors.Join(m.failed...), m.Bus.Close())
}
