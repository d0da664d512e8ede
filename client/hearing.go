package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A hearing is the one connection to Redis by which all subscriptions of a client hear. It
// is there from the first of them to the end of the client.
//
// A goroutine reads and another one writes. Whoever joins counts from the answer to a PING
// that was written behind the SUBSCRIBE of his channel: what was published before he came
// has been read by then, and goes to the others alone. This holds over connections that
// break, too: go-redis subscribes anew to all channels before anything else is written.
type hearing struct {
	log    *slog.Logger
	pubsub *redis.PubSub
	open   context.Context // ends when it is closed
	shut   context.CancelFunc
	toSay  chan struct{} // of capacity 1: there is something to write
	busy   sync.WaitGroup

	mu       sync.Mutex
	begun    bool                  // the goroutines run; guarded by mu
	channels map[string]*channel   // by name; guarded by mu
	gone     map[string]struct{}   // channels that nobody wants any more; guarded by mu
	joining  map[*joining]struct{} // guarded by mu
	pings    int                   // so far; guarded by mu
}

// A channel of Redis, with all that its hearing's mutex guards.
type channel struct {
	name    string
	asked   bool // Redis has been told
	users   int  // how many hear it or are joining
	hearers map[*Subscription]struct{}
}

// A joining is a subscription that is about to hear a channel.
type joining struct {
	s     *Subscription
	ch    *channel
	ping  int           // whose answer it waits for, 0 when that was not written; guarded by the hearing's mutex
	ended chan struct{} // closed when it hears, or err
	err   error         // to be read when ended is closed
}

func newHearing(rdb *redis.Client, log *slog.Logger) *hearing {
	h := &hearing{
		log: log, pubsub: rdb.Subscribe(context.Background()), toSay: make(chan struct{}, 1),
		channels: make(map[string]*channel), gone: make(map[string]struct{}), joining: make(map[*joining]struct{}),
	}
	h.open, h.shut = context.WithCancel(context.Background())
	return h
}

// join returns when all that is published on a channel from now on is given to s, which must
// leave.
func (h *hearing) join(ctx context.Context, s *Subscription) error {
	j, err := h.enter(s)
	if err != nil {
		return err
	}
	select {
	case <-j.ended:
		return j.err
	case <-h.open.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hearing) enter(s *Subscription) (*joining, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open.Err() != nil {
		return nil, ErrClosed
	}
	if !h.begun {
		h.begun = true
		h.busy.Go(h.read)
		h.busy.Go(h.write)
	}
	name := s.channel()
	ch := h.channels[name]
	if ch == nil {
		ch = &channel{name: name, hearers: make(map[*Subscription]struct{})}
		h.channels[name] = ch
		delete(h.gone, name)
	}
	ch.users++
	j := &joining{s: s, ch: ch, ended: make(chan struct{})}
	h.joining[j] = struct{}{}
	h.say()
	return j, nil
}

// leave may be called again. Nothing is given to s any more.
func (h *hearing) leave(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for j := range h.joining {
		if j.s == s {
			h.end(j, ErrClosed)
		}
	}
	ch := h.channels[s.channel()]
	if ch == nil {
		return
	}
	if _, hears := ch.hearers[s]; hears {
		delete(ch.hearers, s)
		h.disuse(ch)
	}
}

// end needs mu.
func (h *hearing) end(j *joining, err error) {
	delete(h.joining, j)
	if j.err = err; err != nil {
		h.disuse(j.ch)
	} else {
		j.ch.hearers[j.s] = struct{}{}
	}
	close(j.ended)
}

// disuse needs mu.
func (h *hearing) disuse(ch *channel) {
	if ch.users--; ch.users == 0 {
		delete(h.channels, ch.name)
		h.gone[ch.name] = struct{}{}
		h.say()
	}
}

// say has the goroutine that writes look what there is.
func (h *hearing) say() {
	select {
	case h.toSay <- struct{}{}:
	default: // it will
	}
}

// read gives what comes to those who hear it, until the hearing is closed.
func (h *hearing) read() {
	var trouble backoff
	for h.open.Err() == nil {
		got, err := h.pubsub.ReceiveTimeout(h.open, quietLimit)
		switch {
		case h.open.Err() != nil:
			return
		case isQuiet(err):
			h.say() // what is wrong shows when it is written
			continue
		case err != nil:
			var refused redis.Error
			if errors.As(err, &refused) { // such as a channel that this user of Redis may not hear
				h.refuse(err)
			}
			h.lose()
			h.say() // a PING is lost, too
			wait := trouble.next()
			h.log.Warn("events cannot be heard; trying again", "err", err, "in", wait)
			pause(h.open, wait)
			continue
		}
		if trouble.reset() {
			h.log.Info("events can be heard again")
		}
		switch m := got.(type) {
		case *redis.Message:
			h.give(m)
		case *redis.Pong:
			h.admit(m.Payload)
		}
	}
}

// quietLimit is how long nothing may come before Redis is asked whether it is there.
const quietLimit = 30 * time.Second

// isQuiet tells that nothing has come on a connection that is there.
func isQuiet(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "read" && op.Timeout()
}

// give gives an event to all who hear its channel. It waits for none of them.
func (h *hearing) give(m *redis.Message) {
	e, err := parseEvent([]byte(m.Payload))
	if err != nil {
		h.log.Warn("an event cannot be read", "channel", m.Channel, "err", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if ch := h.channels[m.Channel]; ch != nil {
		for s := range ch.hearers {
			s.take(e.clone())
		}
	}
}

// admit has those hear who wait for the answer to a PING, or to one before it.
func (h *hearing) admit(ping string) {
	n, err := strconv.Atoi(ping)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for j := range h.joining {
		if j.ping > 0 && j.ping <= n {
			h.end(j, nil)
		}
	}
}

// lose tells all that events may be missing from now on.
func (h *hearing) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ch := range h.channels {
		for s := range ch.hearers {
			s.lose()
		}
	}
}

// refuse ends the wait of all who are joining.
func (h *hearing) refuse(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for j := range h.joining {
		h.end(j, err)
	}
}

// write tells Redis what is to be heard, until the hearing is closed.
func (h *hearing) write() {
	for {
		select {
		case <-h.toSay:
		case <-h.open.Done():
			return
		}
		err := h.tell()
		if err != nil && h.open.Err() == nil {
			// go-redis may have connected again, and then nobody else knows of it.
			h.lose()
			err = h.tell()
		}
		if err != nil && h.open.Err() == nil {
			h.refuse(err)
		}
	}
}

// tell writes what has changed, and a PING.
func (h *hearing) tell() error {
	ctx, cancel := context.WithTimeout(h.open, callTimeout)
	defer cancel()
	if gone := h.takeGone(); len(gone) > 0 {
		// An error changes nothing about it: go-redis does not subscribe to them again.
		_ = h.pubsub.Unsubscribe(ctx, gone...)
	}
	fresh := h.fresh()
	if len(fresh) > 0 {
		names := make([]string, len(fresh))
		for i, ch := range fresh {
			names[i] = ch.name
		}
		if err := h.pubsub.Subscribe(ctx, names...); err != nil {
			return err
		}
	}
	return h.pubsub.Ping(ctx, strconv.Itoa(h.nextPing(fresh)))
}

func (h *hearing) takeGone() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var gone []string
	for name := range h.gone {
		gone = append(gone, name)
	}
	clear(h.gone)
	return gone
}

// fresh are the channels that Redis has not been told of.
func (h *hearing) fresh() []*channel {
	h.mu.Lock()
	defer h.mu.Unlock()
	var fresh []*channel
	for _, ch := range h.channels {
		if !ch.asked {
			fresh = append(fresh, ch)
		}
	}
	return fresh
}

// nextPing has those wait for the next PING whose channels Redis knows by now.
func (h *hearing) nextPing(asked []*channel) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ch := range asked {
		ch.asked = true
	}
	h.pings++
	for j := range h.joining {
		if j.ch.asked && j.ping == 0 {
			j.ping = h.pings
		}
	}
	return h.pings
}

// close ends the subscriptions. Nothing is given to them any more when it returns.
func (h *hearing) close() error {
	h.mu.Lock() // so that nobody begins
	h.shut()
	h.mu.Unlock()
	err := h.pubsub.Close()
	h.busy.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ch := range h.channels {
		for s := range ch.hearers {
			s.shut()
		}
	}
	return err
}
