package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/msgbusd/msgbusd/client"
)

// OnClient returns the bus that a client is on. Events of other twins come too if those are
// named. The client must be open for longer than the gateway runs.
func OnClient(c *client.Client, twins []uint32, log zerolog.Logger) Bus {
	return &clientBus{c, twins, log}
}

type clientBus struct {
	*client.Client
	twins []uint32
	log   zerolog.Logger
}

const (
	// twinsWait is how long a subscription waits until other twins send. One that is away
	// is asked again, and nobody waits for it.
	twinsWait = 2 * time.Second
	// askAgain is how long after an attempt that failed.
	askAgain = 5 * time.Second
	// askFor is how long an attempt may last.
	askFor = 20 * time.Second
)

// A clientSubscription hears what this machine hears, and has other twins send.
type clientSubscription struct {
	*client.Subscription
	stop   context.CancelFunc
	asking sync.WaitGroup
}

func (b *clientBus) Subscribe(ctx context.Context, pattern string) (Subscription, error) {
	here, err := b.Client.Subscribe(ctx, pattern)
	if err != nil {
		return nil, err
	}
	asking, stop := context.WithCancel(context.Background())
	s := &clientSubscription{Subscription: here, stop: stop}
	var first sync.WaitGroup
	for _, twin := range b.twins {
		first.Add(1)
		s.asking.Go(func() { b.ask(asking, pattern, twin, sync.OnceFunc(first.Done)) })
	}
	asked := make(chan struct{})
	s.asking.Go(func() {
		first.Wait()
		close(asked)
	})
	limit := time.NewTimer(twinsWait)
	defer limit.Stop()
	select {
	case <-asked:
	case <-limit.C:
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.Close())
	}
	return s, nil
}

// ask has one twin send events until ctx ends. Each twin is asked by itself, so that one
// that is away keeps no other's events from coming. What it sends comes to this machine's
// Redis, where the subscription itself hears it: what is heard here is thrown away.
func (b *clientBus) ask(ctx context.Context, pattern string, twin uint32, first func()) {
	defer first()
	failing := false
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, askFor)
		interest, err := b.Client.Subscribe(limited, pattern, client.From(twin), client.Buffer(1))
		cancel()
		first()
		if err == nil {
			if failing {
				b.log.Info().Uint32("twin", twin).Str("pattern", pattern).Msg("browsers hear the twin again")
			}
			<-ctx.Done()
			_ = interest.Close() // its log tells
			return
		}
		if !failing && ctx.Err() == nil {
			failing = true
			b.log.Warn().Err(err).Uint32("twin", twin).Str("pattern", pattern).Msg("browsers do not hear a twin; it is asked again and again")
		}
		pause(ctx, askAgain)
	}
}

func (s *clientSubscription) Close() error {
	s.stop()
	err := s.Subscription.Close()
	s.asking.Wait()
	return err
}

// Latest subscribes for a moment: what is kept comes first, and is there when the
// subscription is.
func (b *clientBus) Latest(ctx context.Context, pattern string) ([]*client.Event, error) {
	s, err := b.Client.Subscribe(ctx, pattern, client.Retained())
	if err != nil {
		return nil, err
	}
	over, end := context.WithCancel(ctx)
	end() // so that Next returns what is there, and waits for nothing
	var latest []*client.Event
	for {
		e, err := s.Next(over)
		if err != nil {
			return latest, s.Close()
		}
		if e.Latest {
			latest = append(latest, e)
		}
	}
}

func (b *clientBus) Publish(ctx context.Context, topic string, data json.RawMessage) error {
	return b.Client.Publish(ctx, topic, data)
}

func (b *clientBus) Announce(ctx context.Context, name string, info any) (Name, error) {
	p, err := b.Client.Announce(ctx, name, info)
	if err != nil {
		return nil, err // and no interface that holds a nil
	}
	return p, nil
}

// pause waits for so long, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
