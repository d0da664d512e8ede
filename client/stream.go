package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// After has a stream go on behind the event with this ID, the one that was handled last. "0"
// begins with the oldest that is kept. Without it a stream begins with what comes next.
func After(id string) SubscribeOption { return func(o *subscribeOptions) { o.after = id } }

// Matching leaves out of a stream what a pattern of topics is not for. The exchange of
// the stream is not part of it.
func Matching(pattern string) SubscribeOption {
	return func(o *subscribeOptions) { o.pattern = pattern }
}

// Competing has all streams of the same group share the events: each goes to one of them,
// and is to be acknowledged with [Stream.Ack], however long that takes. What was not, when its
// stream has been closed, or its process dead, for a minute, goes to another one. consumer is the name of this one in the group;
// one that begins again under its name gets first what it had not acknowledged. A group
// begins where the first of its streams begins, which [After] says.
func Competing(group, consumer string) SubscribeOption {
	return func(o *subscribeOptions) { o.group, o.consumer = group, consumer }
}

// A Stream is the durable events of one exchange, in their order. It must be closed, and
// used by one goroutine.
type Stream struct {
	c        *Client
	key      string
	exchange string
	opts     subscribeOptions
	rdb      *redis.Client // of its own: it blocks
	interest *interest
	last     string   // behind which it goes on
	events   []*Event // read and not taken
	stop     context.CancelFunc
	keeping  sync.WaitGroup

	// Of a group. Redis may have handed out what has not come here: at the beginning, and
	// after each failure, all that this consumer has is looked through.
	behind  string    // where that goes on, or "" when it is done
	claimed time.Time // when the look for what others have left began
	left    string    // where it goes on, or ""

	mu   sync.Mutex
	held map[string]struct{} // ids of what was read and is not acknowledged; guarded by mu
}

const (
	streamBlock  = time.Second
	streamBatch  = 100
	claimAfter   = time.Minute // of silence of the consumer that has an event
	streamsLease = 24 * time.Hour
)

// Stream reads the durable events of an exchange: those of topics `<exchange>/…`, or of
// topics without an exchange with "". At most the latest 10,000 or a few more are kept. With
// [From], other twins are asked for theirs until a day after the stream was closed: one that
// is opened again within it misses nothing.
func (c *Client) Stream(ctx context.Context, exchange string, opts ...SubscribeOption) (*Stream, error) {
	o := subscribeOptions{after: "$", pattern: "#"}
	for _, opt := range opts {
		opt(&o)
	}
	if exchange == "" {
		exchange = msgbus.DefaultExchange
	}
	pattern := exchange + "/" + o.pattern
	switch {
	case !msgbus.ValidPattern(pattern) || strings.Contains(exchange, "*"):
		return nil, fmt.Errorf("%q is no exchange with a pattern of topics", pattern)
	case c.redis == nil:
		return nil, errors.New("the client of a stream must be one of Open")
	}
	s := &Stream{c: c, key: c.prefix + ".system.stream." + exchange, exchange: exchange, opts: o, rdb: c.redis.Connect(), last: o.after, held: make(map[string]struct{})}
	err := s.begin(ctx)
	if err == nil && len(o.twins) > 0 {
		s.interest, err = c.takeInterest(ctx, pattern, &o, s.interestName(), streamsLease)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read stream %s: %w", exchange, err), s.rdb.Close())
	}
	keep, stop := context.WithCancel(context.Background())
	s.stop = stop
	if s.opts.group != "" {
		s.keeping.Go(func() { s.keep(keep) })
	}
	return s, nil
}

// keepHeld says that this consumer of a group still works on events, unless others have them
// by now. KEYS 1 the stream; ARGV 1 the group, 2 the consumer, then the ids.
var keepHeld = redis.NewScript(`for i = 3, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  end
end`)

// keep has nobody else get what this consumer works on, however long that takes, until ctx
// ends.
func (s *Stream) keep(ctx context.Context) {
	for pause(ctx, s.c.silence/3) {
		for ids := range slices.Chunk(s.heldIDs(), streamBatch) {
			call, cancel := context.WithTimeout(ctx, callTimeout)
			err := keepHeld.Run(call, s.rdb, []string{s.key}, append([]any{s.opts.group, s.opts.consumer}, ids...)...).Err()
			cancel()
			if err != nil && !errors.Is(err, redis.Nil) && ctx.Err() == nil {
				s.c.log.Warn("events that are worked on may go to another worker", "exchange", s.exchange, "err", err)
			}
		}
	}
}

func (s *Stream) heldIDs() []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]any, 0, len(s.held))
	for id := range s.held {
		ids = append(ids, id)
	}
	return ids
}

// hold notes that an event has come here, and reports whether that is news.
func (s *Stream) hold(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.held[id]
	s.held[id] = struct{}{}
	return !known
}

func (s *Stream) letGo(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, id)
}

// interestName is the same for all streams of a machine that want the same.
func (s *Stream) interestName() string { return "stream-" + s.exchange }

// begin finds out where the stream goes on.
func (s *Stream) begin(ctx context.Context) error {
	if s.opts.group != "" {
		s.behind = "0"
		err := s.rdb.XGroupCreateMkStream(ctx, s.key, s.opts.group, s.last).Err()
		if err != nil && strings.HasPrefix(err.Error(), "BUSYGROUP") {
			return nil
		}
		return err
	}
	if s.last != "$" {
		return nil
	}
	latest, err := s.rdb.XRevRangeN(ctx, s.key, "+", "-", 1).Result()
	if err != nil {
		return err
	}
	s.last = "0"
	if len(latest) > 0 {
		s.last = latest[0].ID
	}
	return nil
}

// Next waits for the next event. Redis being away is an error; Next may be called again.
func (s *Stream) Next(ctx context.Context) (*Event, error) {
	for len(s.events) == 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.read(ctx); err != nil {
			return nil, fmt.Errorf("read stream %s: %w", s.exchange, err)
		}
	}
	e := s.events[0]
	s.events = s.events[1:]
	return e, nil
}

func (s *Stream) read(ctx context.Context) error {
	if s.opts.group != "" {
		return s.readGroup(ctx)
	}
	came, err := s.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{s.key, s.last}, Count: streamBatch, Block: streamBlock}).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for _, stream := range came {
		for _, m := range stream.Messages {
			s.last = m.ID
			s.add(ctx, m)
		}
	}
	return nil
}

// readGroup reads first what this consumer has, then what others have left, and then what is
// new.
func (s *Stream) readGroup(ctx context.Context) error {
	err := s.readSome(ctx)
	if err != nil {
		s.behind = "0"
	}
	return err
}

func (s *Stream) readSome(ctx context.Context) error {
	switch {
	case s.behind != "":
		return s.readHeld(ctx)
	case s.left != "" || time.Since(s.claimed) > s.c.silence/2:
		if err := s.readLeft(ctx); err != nil || len(s.events) > 0 {
			return err
		}
	}
	came, err := s.fromGroup(ctx, ">", 1, streamBlock) // the others of the group have time for the rest
	s.addAll(ctx, came)
	return err
}

// readHeld reads what Redis has handed to this consumer.
func (s *Stream) readHeld(ctx context.Context) error {
	came, err := s.fromGroup(ctx, s.behind, streamBatch, -1)
	if err != nil {
		return err
	}
	s.behind = ""
	if len(came) > 0 {
		s.behind = came[len(came)-1].ID
	}
	s.addAll(ctx, came)
	return nil
}

// readLeft takes over what other consumers have left, from where the last look has ended.
func (s *Stream) readLeft(ctx context.Context) error {
	if s.left == "" {
		s.left, s.claimed = "0", time.Now()
	}
	came, next, err := s.rdb.XAutoClaim(ctx, &redis.XAutoClaimArgs{
		Stream: s.key, Group: s.opts.group, Consumer: s.opts.consumer, MinIdle: s.c.silence, Start: s.left, Count: streamBatch,
	}).Result()
	if err != nil {
		return err
	}
	if s.left = next; next == "0-0" {
		s.left = ""
	}
	s.addAll(ctx, came)
	return nil
}

func (s *Stream) fromGroup(ctx context.Context, from string, count int64, block time.Duration) ([]redis.XMessage, error) {
	came, err := s.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{
		Group: s.opts.group, Consumer: s.opts.consumer, Streams: []string{s.key, from}, Count: count, Block: block,
	}).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return came[0].Messages, nil
}

func (s *Stream) addAll(ctx context.Context, messages []redis.XMessage) {
	for _, m := range messages {
		if s.hold(m.ID) {
			s.add(ctx, m)
		}
	}
}

// add takes in an event, unless it is not wanted: nobody acknowledges that otherwise.
func (s *Stream) add(ctx context.Context, m redis.XMessage) {
	raw, _ := m.Values["event"].(string)
	e, err := parseEvent([]byte(raw))
	if err == nil && msgbus.MatchTopic(s.exchange+"/"+s.opts.pattern, s.fullTopic(e)) {
		e.ID = m.ID
		s.events = append(s.events, e)
		return
	}
	if s.opts.group != "" {
		s.letGo(m.ID)
		_ = s.rdb.XAck(ctx, s.key, s.opts.group, m.ID).Err() // or it comes again
	}
}

// fullTopic is a topic with its exchange.
func (s *Stream) fullTopic(e *Event) string {
	exchange, key := msgbus.SplitTopic(e.Topic)
	return exchange + "/" + key
}

// Ack says that an event of a group has been dealt with.
func (s *Stream) Ack(ctx context.Context, e *Event) error {
	if err := s.rdb.XAck(ctx, s.key, s.opts.group, e.ID).Err(); err != nil {
		return fmt.Errorf("acknowledge event %s: %w", e.ID, err)
	}
	s.letGo(e.ID)
	return nil
}

// All yields events until ctx ends, and goes on when Redis was away.
func (s *Stream) All(ctx context.Context) iter.Seq[*Event] {
	return func(yield func(*Event) bool) {
		var trouble backoff
		for ctx.Err() == nil {
			e, err := s.Next(ctx)
			if err != nil {
				if wait := trouble.next(); ctx.Err() == nil {
					s.c.log.Warn("events cannot be read; trying again", "exchange", s.exchange, "err", err, "in", wait)
					pause(ctx, wait)
				}
				continue
			}
			trouble.reset()
			if !yield(e) {
				return
			}
		}
	}
}

// Close ends the stream. Other twins go on to send for a day, and what they send is kept.
func (s *Stream) Close() error {
	s.stop()
	s.keeping.Wait()
	s.interest.end(false)
	return s.rdb.Close()
}
