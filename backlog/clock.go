package backlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

const (
	// stepTolerance is how far Redis's clock may be from where it was expected
	// before somebody has set it. It is no less than callTimeout: while a call
	// is under way the clock goes on.
	stepTolerance = callTimeout
	// stepHold is how long nothing ends by time after Redis's clock was set. What
	// a step forward has made too old may still be answered in that time.
	stepHold = time.Minute
)

// A clock carries Redis's time forward between readings by the monotonic clock,
// so that a step of the relay's own changes nothing, and tells when Redis's was
// set. Before the first reading it is the relay's own.
//
// Linux stops the monotonic clock while the machine is suspended. After a resume
// Redis's clock looks as if it had been set forward, which only holds expiry.
type clock struct {
	wall      func() time.Time
	monotonic func() time.Duration // since a beginning of its own

	mu   sync.Mutex
	read bool // guarded by mu
	// Redis's time since 1970, less the monotonic clock, lies between these:
	// Redis read it at some moment of a call. Guarded by mu.
	least, most time.Duration
}

func newClock() *clock {
	start := time.Now()
	return &clock{wall: time.Now, monotonic: func() time.Duration { return time.Since(start) }}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.read {
		return c.wall()
	}
	return time.Unix(0, int64(c.monotonic()+(c.least+c.most)/2))
}

// offset is how far Redis's clock is ahead of the relay's own.
func (c *clock) offset() (ahead time.Duration, known bool) {
	at := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return at.Sub(c.wall()), c.read
}

// observe takes over what Redis's clock said, in µs, in a call that was sent and
// answered at these times of the monotonic clock. When Redis's clock was set
// since the last reading it takes nothing over and returns by how much.
func (c *clock) observe(us int64, sent, answered time.Duration) (step time.Duration) {
	least, most := bounds(us, sent, answered)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.read:
	case least > c.most+stepTolerance, most < c.least-stepTolerance:
		return (least+most)/2 - (c.least+c.most)/2
	case least <= c.most && most >= c.least: // the two clocks go alike, and the truth is in both
		least, most = max(least, c.least), min(most, c.most)
	}
	c.read, c.least, c.most = true, least, most
	return 0
}

// set takes over what Redis's clock said, whatever it said before.
func (c *clock) set(us int64, sent, answered time.Duration) {
	least, most := bounds(us, sent, answered)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.least, c.most = true, least, most
}

func bounds(us int64, sent, answered time.Duration) (least, most time.Duration) {
	at := time.Duration(us) * time.Microsecond
	return at - answered, at - sent
}

// learnTime takes over what Redis's clock said in a call that was sent at a time
// of the monotonic clock. When Redis's clock was set it first holds expiry, for
// all relays: until that is done the old time stands, by which nothing expires.
func (s *Store) learnTime(ctx context.Context, us int64, sent time.Duration) error {
	step := s.clock.observe(us, sent, s.clock.monotonic())
	if step == 0 {
		return nil
	}
	sent = s.clock.monotonic()
	us, err := s.run(ctx, s.scripts.hold, []string{s.keys.hold()}, step.Milliseconds(), stepHold.Milliseconds()).Int64()
	if err != nil {
		return fmt.Errorf("hold expiry, because Redis's clock was set: %w", err)
	}
	s.clock.set(us, sent, s.clock.monotonic())
	return nil
}

// ReadClock asks Redis for its time, which Now tells from then on. Sessions do that by
// themselves.
func (s *Store) ReadClock(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	sent := s.clock.monotonic()
	now, err := s.rdb.Time(call).Result()
	if err != nil {
		return fmt.Errorf("read Redis's clock: %w", translate(err))
	}
	return s.learnTime(ctx, now.UnixMicro(), sent)
}

// expiring runs a script that ends things by time. It ends nothing while Redis's
// clock is not what it is taken for, nor while expiry is held.
func (s *Store) expiring(ctx context.Context, script *redis.Script, keys []string, args ...any) *redis.Cmd {
	keys = append([]string{s.keys.hold()}, keys...)
	run := func() *redis.Cmd {
		head := []any{s.clock.now().UnixMicro(), stepTolerance.Microseconds(), stepHold.Milliseconds(), s.opts.MaxLife.Milliseconds()}
		return s.run(ctx, script, keys, append(head, args...)...)
	}
	cmd := run()
	if !errors.Is(cmd.Err(), errStepped) {
		return cmd
	}
	// Somebody set it, or Redis was slow to begin.
	if err := s.ReadClock(ctx); err != nil {
		cmd.SetErr(err)
		return cmd
	}
	return run()
}

// errStepped says that Redis's clock is not what the relay takes it for.
var errStepped = errors.New("the clock of Redis is not where it was expected")

// heldError reads the error HELD of a script.
func heldError(text string) error {
	_, by, _ := strings.Cut(text, "HELD ")
	by, _, _ = strings.Cut(by, " ")
	ms, _ := strconv.ParseInt(by, 10, 64) // whatever stands there, expiry is held
	return &msgbus.HeldError{By: time.Duration(ms) * time.Millisecond, For: stepHold}
}
