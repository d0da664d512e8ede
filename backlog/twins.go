package backlog

import (
	"context"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// SaveTwin keeps a twin's record, as its owner encoded it, for keep.
func (s *Store) SaveTwin(ctx context.Context, twin uint32, record []byte, keep time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.rdb.Set(ctx, s.keys.twinRecord(twin), record, keep).Err(); err != nil {
		return fmt.Errorf("keep the record of twin %d: %w", twin, translate(err))
	}
	return nil
}

// LoadTwin returns a kept record, or msgbus.ErrNotFound.
func (s *Store) LoadTwin(ctx context.Context, twin uint32) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	record, err := s.rdb.Get(ctx, s.keys.twinRecord(twin)).Bytes()
	if isNil(err) {
		return nil, msgbus.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("load the record of twin %d: %w", twin, translate(err))
	}
	return record, nil
}
