package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// An interest is what is wanted of other twins. Their relays are asked by this machine's
// as long as the interest has a lease, as docs/extensions.md says under "Events".
type interest struct {
	c       *Client
	name    string
	pattern string
	twins   []uint32
	lease   time.Duration
	stop    context.CancelFunc
	keeping sync.WaitGroup
}

// How long the lease of an interest is renewed for, and how long another twin goes on to
// send before this machine's relay has asked once more.
const (
	interestLease = 15 * time.Second
	askedLease    = time.Minute
)

// takeInterest returns when all twins send what is wanted, but for those that the options let
// do so later.
func (c *Client) takeInterest(ctx context.Context, pattern string, o *subscribeOptions, name string, lease time.Duration) (*interest, error) {
	if name == "" {
		name = uuid.NewString()
	}
	i := &interest{c: c, name: name, pattern: pattern, twins: o.twins, lease: lease}
	if err := i.announce(ctx); err != nil {
		return nil, fmt.Errorf("announce a subscription: %w", err)
	}
	keep, stop := context.WithCancel(context.Background())
	i.stop = stop
	i.keeping.Go(func() { i.keep(keep) })
	wish := map[string]any{"patterns": []string{pattern}, "lease": int(max(askedLease, lease).Seconds())}
	asking := ctx
	if o.within > 0 {
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, o.within)
		defer cancel()
	}
	for reply := range c.CallAll(asking, o.twins, msgbus.SubscribeCommand, wish) {
		switch {
		case reply.Err == nil:
		case o.within > 0 && ctx.Err() == nil && isAway(reply.Err):
			c.log.Warn("a twin is away; its events come when it is there again", "pattern", pattern, "twin", reply.Twin, "err", reply.Err)
		case o.askAgain && isRefusal(reply.Err):
			c.log.Warn("a twin refuses to send events; it is asked again and again", "pattern", pattern, "twin", reply.Twin, "err", reply.Err)
		default:
			i.end(true)
			return nil, fmt.Errorf("subscribe to %s: %w", pattern, reply.Err)
		}
	}
	return i, nil
}

// isAway tells that a twin was not joined in time. One that refuses is there.
func isAway(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason() == msgbus.Expired || e.Reason() == msgbus.RetriesExhausted
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// isRefusal tells that a twin, or a relay on the way to it, has said no.
func isRefusal(err error) bool {
	var e *Error
	return errors.As(err, &e) && !isAway(err)
}

func (i *interest) members() []string {
	all := make([]string, len(i.twins))
	for n, twin := range i.twins {
		all[n] = fmt.Sprintf("%s %d %s", i.name, twin, i.pattern)
	}
	return all
}

func (i *interest) registry() string { return i.c.prefix + ".system.subscriptions" }
func (i *interest) leaseKey() string { return i.c.prefix + ".system.consumer." + i.name }

func (i *interest) announce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := i.c.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, i.leaseKey(), "{}", i.lease)
		for _, m := range i.members() {
			p.ZAdd(ctx, i.registry(), redis.Z{Member: m})
		}
		return nil
	})
	return err
}

// keep renews the lease until ctx ends.
func (i *interest) keep(ctx context.Context) {
	var trouble backoff
	wait := interestLease / 3
	for pause(ctx, wait) {
		wait = interestLease / 3
		if err := i.announce(ctx); err != nil && ctx.Err() == nil {
			wait = min(wait, trouble.next())
			i.c.log.Warn("a subscription cannot be renewed; trying again", "pattern", i.pattern, "err", err, "in", wait)
		} else if trouble.reset() {
			i.c.log.Info("a subscription is renewed again", "pattern", i.pattern)
		}
	}
}

// end stops renewing. With forget the other twins stop sending, a few seconds later;
// otherwise when the lease ends.
func (i *interest) end(forget bool) {
	if i == nil {
		return
	}
	i.stop()
	i.keeping.Wait()
	if !forget {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_, err := i.c.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, m := range i.members() {
			p.ZRem(ctx, i.registry(), m)
		}
		p.Del(ctx, i.leaseKey())
		return nil
	})
	if err != nil {
		i.c.log.Warn("a subscription cannot be taken back; it ends with its lease", "pattern", i.pattern, "err", err)
	}
}
