package backlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/internal/recent"
	"github.com/msgbusd/msgbusd/msgbus"
)

// Options are the settings of a Store. The zero value of each number stands
// for its default.
type Options struct {
	Redis    *Address // from [ParseURL]
	Prefix   string   // of every key; default "msgbus"
	Twin     uint32   // the twin that this relay serves
	Instance string   // name of this relay among those on the same Redis

	Lease         time.Duration // of a session and what it claims; default 10 s
	Block         time.Duration // longest wait inside Redis for a message; default 1 s
	Grace         time.Duration // from when a service's lease was found gone until what it took is given back; default 10 s
	MaxLife       time.Duration // longest life of a request; default 7 days
	MaxTake       int           // messages in a claim; default 256
	MaxTakeBytes  int           // bytes in a claim; default 4 MiB
	MaxBatch      int           // messages in a lane's batch; default 128
	MaxBatchBytes int           // bytes in a lane's batch; default 4 MiB

	Observer Observer // is told how Redis fares; may be nil

	Bounds // at first; SetBounds changes them
}

// Bounds are on what is kept, so that nothing grows without end. The zero value
// of each stands for its default.
type Bounds struct {
	MaxBacklog int // requests waiting for their replies; default 1,000,000
	MaxQueue   int // messages in one service's queue; default 100,000
	MaxReplies int // replies waiting for one twin; default 100,000
	MaxUnread  int // queues that no service has taken from; default 1,000
	MaxDead    int // dead letters; default 10,000
}

// Format prints what the options are for, whatever the verb: a password is among
// them.
func (o Options) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "options of relay %s of twin %d", o.Instance, o.Twin)
}

func def(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

func (b *Bounds) setDefaults() {
	def(&b.MaxBacklog, 1_000_000)
	def(&b.MaxQueue, 100_000)
	def(&b.MaxReplies, 100_000)
	def(&b.MaxUnread, 1000)
	def(&b.MaxDead, 10_000)
}

func (o *Options) setDefaults() {
	defTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	if o.Prefix == "" {
		o.Prefix = "msgbus"
	}
	defTime(&o.Lease, 10*time.Second)
	defTime(&o.Block, time.Second)
	defTime(&o.Grace, 10*time.Second)
	defTime(&o.MaxLife, 7*24*time.Hour)
	def(&o.MaxTake, 256)
	def(&o.MaxTakeBytes, 4<<20)
	def(&o.MaxBatch, 128)
	def(&o.MaxBatchBytes, 4<<20)
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
}

// A Store keeps one twin's messages in Redis. Its methods may be called from
// many goroutines.
type Store struct {
	opts    Options
	bounds  atomic.Pointer[Bounds] // those of now
	keys    keys
	scripts *scripts
	rdb     *redis.Client
	// blocking is for BLMOVE alone. A context does not interrupt a command that
	// blocks, so the client is closed to end one.
	blocking *redis.Client

	// drained tells of each queue that the last claim on it is done, or had nothing, and
	// that the backlog has room: the next message can be waited for at once.
	drained [len(queues)]atomic.Bool

	opened *recent.Map[string, msgbus.Open] // by uid, what this relay has accepted lately

	consumersFrom atomic.Uint64 // where GiveBack goes on

	session     atomic.Pointer[string]
	began       atomic.Int64 // when this relay had its first session, by the monotonic clock
	interrupted atomic.Bool
	clock       *clock

	joining sync.Mutex
	// next is the session that Join asks for. It stays the same until an answer
	// has come: Redis may have begun it while its answer was lost. Guarded by
	// joining.
	next string
	// superseded are the sessions that this process has put an end to by joining, the
	// latest last. A fail-over may bring one of them back. Guarded by joining.
	superseded []string

	mu    sync.Mutex
	epoch string // the latest one that Redis told us, guarded by mu
}

// Open prepares a Store; it does not wait for Redis. Join must succeed before
// anything is taken.
func Open(opts Options) (*Store, error) {
	opts.setDefaults()
	s, err := loadScripts()
	if err != nil {
		return nil, fmt.Errorf("load the scripts: %w", err)
	}
	store := &Store{
		opts:    opts,
		clock:   newClock(),
		keys:    keys(opts.Prefix),
		scripts: s,
		opened:  recent.NewMap[string, msgbus.Open](openedMost),
		rdb:     opts.Redis.Connect(),
		blocking: opts.Redis.Connect(func(o *redis.Options) {
			o.PoolSize = len(queues)
			o.ReadTimeout += opts.Block
		}),
	}
	store.rdb.AddHook(watching{opts.Observer, s.names, true})
	store.blocking.AddHook(watching{opts.Observer, s.names, false}) // it waits for messages, not for Redis
	store.SetBounds(opts.Bounds)
	return store, nil
}

// SetBounds changes the bounds. What is over a smaller one stays, and holds back
// what comes until it has gone down.
func (s *Store) SetBounds(b Bounds) {
	b.setDefaults()
	s.bounds.Store(&b)
}

// Interrupt ends every wait for a message. Take returns context.Canceled from
// then on.
func (s *Store) Interrupt() {
	s.interrupted.Store(true)
	_ = s.blocking.Close()
}

// Close releases the connections.
func (s *Store) Close() error {
	s.Interrupt()
	return s.rdb.Close()
}

// Ping tells whether Redis serves now.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return translate(s.rdb.Ping(ctx).Err())
}

// SetTwin says which twin the Store is for, where that is found out after Open.
// It must be called before Join.
func (s *Store) SetTwin(twin uint32) { s.opts.Twin = twin }

// Prefix returns what every key begins with.
func (s *Store) Prefix() string { return s.opts.Prefix }

// Now returns Redis's time.
func (s *Store) Now() time.Time { return s.clock.now() }

// run runs a script with a bound on its time.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args ...any) *redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := script.EvalSha(ctx, s.rdb, keys, args...)
	if isNoScript(cmd.Err()) {
		cmd = script.Eval(ctx, s.rdb, keys, args...)
	}
	if err := cmd.Err(); err != nil {
		cmd.SetErr(translate(err))
	}
	return cmd
}

// A call is a script with what it is called for.
type call struct {
	script *redis.Script
	keys   []string
	args   []any
}

// call runs a script with what it is called for.
func (s *Store) call(ctx context.Context, c call) *redis.Cmd {
	return s.run(ctx, c.script, c.keys, c.args...)
}

// exchange sends scripts together and waits once. Each runs, whatever became of
// those before it: nothing may depend on their success.
func (s *Store) exchange(ctx context.Context, calls ...call) []*redis.Cmd {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pipe := s.rdb.Pipeline()
	cmds := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		cmds[i] = c.script.EvalSha(ctx, pipe, c.keys, c.args...)
	}
	_, _ = pipe.Exec(ctx) // each command has its error
	for i := range cmds {
		if isNoScript(cmds[i].Err()) { // then so are those behind it, or they came too early
			for j := i; j < len(calls); j++ {
				cmds[j] = s.call(ctx, calls[j])
			}
			break
		}
		if err := cmds[i].Err(); err != nil {
			cmds[i].SetErr(translate(err))
		}
	}
	return cmds
}

func isNoScript(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") }

// translate turns Redis's errors that the rules tell apart into theirs. Only what a
// server answered is a verdict; all else, and what it says of itself (READONLY, LOADING,
// MASTERDOWN, NOREPLICAS, UNBLOCKED), is that Redis does not serve now.
func translate(err error) error {
	if err == nil || errors.Is(err, redis.Nil) {
		return err
	}
	var answered redis.Error
	if !errors.As(err, &answered) || unready(err) {
		return fmt.Errorf("redis: %w", err)
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "FENCED"):
		return msgbus.ErrFenced
	case strings.Contains(text, "FULL the backlog"):
		return msgbus.ErrBacklogFull
	case strings.Contains(text, "STEPPED"):
		return errStepped
	case strings.Contains(text, "HELD "):
		return heldError(text)
	case strings.Contains(text, "REPLAYED"):
		return msgbus.ErrRepeated
	case strings.Contains(text, "STALE"):
		return msgbus.ErrStale
	case strings.Contains(text, "APART"):
		return errApart
	case strings.HasPrefix(text, "OOM"), strings.HasPrefix(text, "MISCONF"), strings.Contains(text, "OOM command not allowed"):
		return fmt.Errorf("%w: %w", msgbus.ErrStorageFull, err)
	}
	return fmt.Errorf("redis: %w", err)
}
