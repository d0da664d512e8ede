package client

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/redisconn"
)

// Options are where a [Client] finds its bus. The zero value is good on a machine that
// is set up as msgbusd's defaults are.
type Options struct {
	// Redis is the Redis that the relay of this machine uses: `host:port`,
	// `redis://user:password@host:port/db` (tcp:// is the same), `rediss://…` for TLS,
	// `unix:///path?db=0`, the path of a socket, or `sentinel://host:port,host:port/name`.
	// Empty: 127.0.0.1:6379.
	Redis string
	// Prefix is what the relay's keys begin with, its --prefix. Empty: msgbus.
	Prefix string
	// Log is told what the callers are not: that Redis is away or back, that something
	// came that cannot be read, that a handler panicked. It is given no data. Nil: nobody
	// is told.
	Log *slog.Logger
	// MaxWaiting bounds how many requests may wait for answers at once: more are refused
	// with [ErrTooManyWait]. 0: 100,000.
	MaxWaiting int
}

const (
	defaultRedis      = "127.0.0.1:6379"
	defaultPrefix     = "msgbus"
	defaultMaxWaiting = 100_000
	lateness          = 10 * time.Second // the relay says 5
)

// Errors that stand in the place of an answer, for errors.Is. What a service or the bus
// answers is an [*Error].
var (
	// ErrNoAnswer: the request's deadline has passed and the relay has not said so. It
	// does not run, or not on this Redis. Whether the request was served is not known.
	ErrNoAnswer = errors.New("no answer came, not even an error of the bus: does msgbusd run on this Redis?")
	// ErrClosed: the client was closed meanwhile, or before.
	ErrClosed = errors.New("the client is closed")
	// ErrTooManyWait: as many requests wait as [Options.MaxWaiting] allows. This one was
	// not sent.
	ErrTooManyWait = errors.New("too many requests wait for their answers")
)

// A Client asks twins. All its methods may be used by many goroutines at once: their
// requests leave together, and their answers come by one list in Redis.
type Client struct {
	prefix  string
	log     *slog.Logger
	list    string             // where answers come, and interim replies
	rdb     *redis.Client      // nil of a Fake
	redis   *redisconn.Address // nil of a Fake
	out     *outbox
	in      *inbox
	link    link
	hearing *hearing      // nil of a Fake
	ids     atomic.Uint64 // of requests, so far
	grace   time.Duration // how long after its deadline a request's error may come
	silence time.Duration // of a stream of a group, after which others get its events
}

// Open returns a client. It connects when it is first used, and again whenever Redis has
// been away; an error is about the options. Close ends it.
func Open(opts Options) (*Client, error) {
	if opts.Redis == "" {
		opts.Redis = defaultRedis
	}
	where, err := redisconn.ParseURL(opts.Redis)
	if err != nil {
		return nil, err
	}
	c := newClient(opts)
	c.redis = where
	c.rdb = where.Connect()
	c.hearing = newHearing(c.rdb, c.log)
	c.connect(&redisLink{
		rdb: c.rdb, reader: where.Connect(),
		local: c.prefix + ".system.local", list: c.list,
	}, opts)
	return c, nil
}

// newClient returns a client that is not connected to anything.
func newClient(opts Options) *Client {
	c := &Client{prefix: opts.Prefix, log: opts.Log, list: uuid.NewString(), grace: lateness, silence: claimAfter}
	if c.prefix == "" {
		c.prefix = defaultPrefix
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *Client) connect(l link, opts Options) {
	most := opts.MaxWaiting
	if most <= 0 {
		most = defaultMaxWaiting
	}
	c.link = l
	c.out = &outbox{link: l}
	c.in = newInbox(l, c.log, most)
}

// nextID names a request. The name of the list of answers is this client's alone, so no other
// request of its twin has the same.
func (c *Client) nextID() string { return c.list + "." + strconv.FormatUint(c.ids.Add(1), 36) }

// Close ends the client. Calls that wait return [ErrClosed]; what they asked for may be
// done all the same. A [Server] of this client must have stopped before.
func (c *Client) Close() error {
	if !c.in.close() {
		return nil
	}
	err := c.link.stopReading()
	c.in.await()
	if c.hearing != nil {
		err = errors.Join(err, c.hearing.close())
	}
	c.out.close()
	return errors.Join(err, c.link.close())
}

// closeTimeout bounds what is done at the end.
const closeTimeout = 2 * time.Second

// pause waits for so long, and reports whether it did: ctx may end it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A backoff is how long to wait before the next attempt after one that failed.
type backoff struct{ last time.Duration }

// next doubles from 50 ms to 2 s.
func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, 50*time.Millisecond), 2*time.Second)
	return b.last
}

// reset is for an attempt that did not fail. It reports whether the one before did.
func (b *backoff) reset() bool {
	failed := b.last > 0
	b.last = 0
	return failed
}
