package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A SubscribeOption says what a [Client.Subscribe] or [Client.Stream] wants.
type SubscribeOption func(*subscribeOptions)

type subscribeOptions struct {
	twins    []uint32
	within   time.Duration
	askAgain bool
	retained bool
	buffer   int
	after    string
	pattern  string
	group    string
	consumer string
}

// From has events of other twins come, too. Without it only those come that apps of this
// machine publish, and those of other twins that somebody else of this machine wants.
func From(twins ...uint32) SubscribeOption {
	return func(o *subscribeOptions) { o.twins = append(o.twins, unique(twins)...) }
}

// Within is how long the twins of [From] are waited for. Those that have not been joined by
// then are asked by this machine's relay when they are there again: until then nothing comes of
// them, and the log is told. Without it all of them must answer.
func Within(d time.Duration) SubscribeOption {
	return func(o *subscribeOptions) { o.within = max(d, time.Millisecond) }
}

// AskAgain is for twins of [From] that refuse, because they do not know this one or may not
// send it anything: this machine's relay asks them again, as it does those that are away, and
// the log is told. Without it a refusal is an error.
func AskAgain() SubscribeOption { return func(o *subscribeOptions) { o.askAgain = true } }

// Retained has the latest event of each topic come first, as far as it was published with
// [Retain], here or at a twin that an app of this machine wants events of.
func Retained() SubscribeOption { return func(o *subscribeOptions) { o.retained = true } }

// Buffer is how many events may wait to be taken: of more, the oldest are dropped, which
// [Event.Lost] tells. Without it: 1,024.
func Buffer(n int) SubscribeOption { return func(o *subscribeOptions) { o.buffer = max(n, 1) } }

const defaultBuffer = 1024

// A Subscription hears events as they happen. It must be closed. All of a client share one
// connection to Redis, and none waits for another: each has a queue of its own, as [Buffer]
// says.
type Subscription struct {
	c        *Client
	pattern  string
	interest *interest
	buffer   int
	shut     context.CancelFunc
	open     context.Context // ends when it is closed

	mu     sync.Mutex
	events []*Event // that wait to be taken; guarded by mu
	lost   int      // events dropped since the latest that was taken in; guarded by mu
	ready  chan struct{}
}

// Subscribe hears what is published under the topics that match a pattern, from when it
// returns on: `*` stands for one word of the topic, `#` for any number of them. What is
// published while Redis is away is lost, which [Event.Lost] tells; [Client.Stream] loses
// nothing that is durable.
func (c *Client) Subscribe(ctx context.Context, pattern string, opts ...SubscribeOption) (*Subscription, error) {
	o := subscribeOptions{buffer: defaultBuffer}
	for _, opt := range opts {
		opt(&o)
	}
	switch {
	case !msgbus.ValidPattern(pattern):
		return nil, fmt.Errorf("%q is no pattern of topics", pattern)
	case c.rdb == nil:
		return nil, errors.New("the client of a subscription must be one of Open")
	}
	s := &Subscription{c: c, pattern: pattern, buffer: o.buffer, ready: make(chan struct{}, 1)}
	s.open, s.shut = context.WithCancel(context.Background())
	err := c.hearing.join(ctx, s)
	if err != nil {
		err = fmt.Errorf("subscribe to %s: %w", pattern, err)
	}
	if err == nil && len(o.twins) > 0 {
		s.interest, err = c.takeInterest(ctx, pattern, &o, "", interestLease)
	}
	if err == nil && o.retained {
		err = s.addRetained(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// addRetained puts the latest events before those that have come since. What another twin
// has just been asked for comes by itself.
func (s *Subscription) addRetained(ctx context.Context) error {
	all, err := s.c.Latest(ctx, s.pattern)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all = slices.DeleteFunc(all, s.has)
	s.events = append(all, s.events...)
	s.announce()
	return nil
}

// has tells whether an event of the same topic and twin has come already, which is newer.
// It needs mu.
func (s *Subscription) has(latest *Event) bool {
	for _, e := range s.events {
		if e.Topic == latest.Topic && e.Source == latest.Source {
			return true
		}
	}
	return false
}

// channel is what Redis calls the pattern.
func (s *Subscription) channel() string { return s.c.prefix + ".events." + s.pattern }

// take takes in an event, in place of the oldest if too many wait.
func (s *Subscription) take(e *Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) >= s.buffer {
		first := s.events[0]
		s.events = s.events[1:]
		lost := first.Lost + 1
		if first.Lost < 0 {
			lost = -1
		}
		if len(s.events) > 0 {
			s.events[0].Lost = sum(s.events[0].Lost, lost)
		} else {
			s.lost = sum(s.lost, lost)
		}
	}
	e.Lost, s.lost = s.lost, 0
	s.events = append(s.events, e)
	s.announce()
}

// sum adds two numbers of events of which -1 stands for one that nobody knows.
func sum(a, b int) int {
	if a < 0 || b < 0 {
		return -1
	}
	return a + b
}

// lose notes that events may be missing from now on.
func (s *Subscription) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = -1
}

// announce needs mu.
func (s *Subscription) announce() {
	select {
	case s.ready <- struct{}{}:
	default: // it is said already
	}
}

// Next waits for the next event. It returns the error of ctx, or [ErrClosed].
func (s *Subscription) Next(ctx context.Context) (*Event, error) {
	for {
		if e := s.pop(); e != nil {
			return e, nil
		}
		select {
		case <-s.ready:
		case <-s.open.Done():
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Subscription) pop() *Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.events) == 0 {
		return nil
	}
	e := s.events[0]
	s.events = s.events[1:]
	if len(s.events) > 0 {
		s.announce() // for another who waits
	}
	return e
}

// All yields events until ctx ends or the subscription is closed.
func (s *Subscription) All(ctx context.Context) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		for {
			e, err := s.Next(ctx)
			if err != nil || !yield(e) {
				return
			}
		}
	}
}

// Close ends the subscription. Events that were not taken are dropped.
func (s *Subscription) Close() error {
	s.shut()
	s.c.hearing.leave(s)
	s.interest.end(true)
	return nil
}
