package backlog

import (
	"context"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// peerKeep is how long it is remembered that a twin's relay speaks version 2,
// from the last time that its key offer changed, which it does a few times a day.
const peerKeep = 90 * 24 * time.Hour

// SavePeer keeps that a twin's relay speaks version 2, with its latest key
// offer.
func (s *Store) SavePeer(ctx context.Context, twin uint32, offer string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.rdb.Set(ctx, s.keys.peer(twin), offer, peerKeep).Err(); err != nil {
		return fmt.Errorf("keep what the relay of twin %d speaks: %w", twin, translate(err))
	}
	return nil
}

// LoadPeer returns what SavePeer kept, or msgbus.ErrNotFound.
func (s *Store) LoadPeer(ctx context.Context, twin uint32) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	offer, err := s.rdb.Get(ctx, s.keys.peer(twin)).Result()
	if isNil(err) {
		return "", msgbus.ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("look up what the relay of twin %d speaks: %w", twin, translate(err))
	}
	return offer, nil
}

// ForgetPeer forgets what SavePeer kept.
func (s *Store) ForgetPeer(ctx context.Context, twin uint32) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.rdb.Del(ctx, s.keys.peer(twin)).Err(); err != nil {
		return fmt.Errorf("forget what the relay of twin %d spoke: %w", twin, translate(err))
	}
	return nil
}
