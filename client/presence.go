package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// PresenceExchange is the exchange of the events that tell who comes and goes.
//
//   - `msgbus/presence.up.<name>`, `msgbus/presence.down.<name>`, and
//     `msgbus/presence.replaced.<name>` when a newer one has taken a name. Their data is what
//     [Client.Announce] was given, of the one who comes.
//   - `msgbus/service.up.<cmd>` and `msgbus/service.down.<cmd>`: a [Server] serves a command,
//     or does no longer, with {"consumer":name} as data.
//   - `msgbus/twin.away.<id>` and `msgbus/twin.back.<id>`, on this machine only: its relay
//     finds that it cannot join a twin, or can again.
const PresenceExchange = "msgbus"

// A Presence is a name that an app has as long as it lives, or until another app takes it.
type Presence struct {
	c       *Client
	name    string
	value   string
	lost    chan struct{}
	once    sync.Once
	stop    context.CancelFunc
	keeping sync.WaitGroup
}

const presenceLease = 15 * time.Second

// holder is what is kept of who has a name.
type holder struct {
	ID    string          `json:"id"`
	Since int64           `json:"since"` // unix seconds
	Info  json.RawMessage `json:"info,omitempty"`
}

// Announce takes a name, words with dots between them such as `runner.7`, until Close. Who
// has it already loses it: the newer one has it. When the app dies, its name is free within
// 15 seconds, and the relay tells so some 10 seconds later. info is JSON for those who want to know more.
func (c *Client) Announce(ctx context.Context, name string, info any) (*Presence, error) {
	switch {
	case !msgbus.ValidTopic("msgbus/presence.up." + name):
		return nil, fmt.Errorf("%q is no name: words of letters, digits, _ and -, with dots between them", name)
	case c.rdb == nil:
		return nil, errors.New("the client of a presence must be one of Open")
	}
	text, err := encodeData(info)
	if err != nil {
		return nil, fmt.Errorf("encode what is said of %s: %w", name, err)
	}
	value, err := json.Marshal(holder{ID: uuid.NewString(), Since: time.Now().Unix(), Info: text})
	if err != nil {
		return nil, fmt.Errorf("encode what is said of %s: %w", name, err)
	}
	p := &Presence{c: c, name: name, value: string(value), lost: make(chan struct{})}
	before, err := p.take(ctx)
	if err != nil {
		return nil, fmt.Errorf("take the name %s: %w", name, err)
	}
	what := "up"
	if before != "" {
		what = "replaced"
	}
	if err := p.tell(ctx, what); err != nil {
		return nil, errors.Join(err, p.free(ctx))
	}
	keep, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.keeping.Go(func() { p.keep(keep) })
	return p, nil
}

func (p *Presence) registry() string { return p.c.prefix + ".system.presence" }
func (p *Presence) key() string      { return p.c.prefix + ".system.presence." + p.name }

// take returns what the one before has said, or "".
func (p *Presence) take(ctx context.Context) (before string, err error) {
	var set *redis.StatusCmd
	_, err = p.c.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.ZAdd(ctx, p.registry(), redis.Z{Member: p.name})
		set = pipe.SetArgs(ctx, p.key(), p.value, redis.SetArgs{TTL: presenceLease, Get: true})
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", err
	}
	return set.Val(), nil
}

// tell publishes what has become of the name.
func (p *Presence) tell(ctx context.Context, what string) error {
	var h holder
	_ = json.Unmarshal([]byte(p.value), &h) // which Announce has written
	return p.c.Publish(ctx, "msgbus/presence."+what+"."+p.name, h.Info)
}

// renewPresence and freePresence do nothing when another one has the name. KEYS 1 the name's
// value, 2 the names; ARGV 1 the value, 2 the name, of renewPresence 3 ms. They return 1 when
// it was ours.
var (
	renewPresence = redis.NewScript(`if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('ZADD', KEYS[2], 0, ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])`)
	freePresence = redis.NewScript(`if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[2])
return redis.call('DEL', KEYS[1])`)
)

// keep renews until ctx ends or the name is lost.
func (p *Presence) keep(ctx context.Context) {
	var trouble backoff
	wait := presenceLease / 3
	for pause(ctx, wait) {
		wait = presenceLease / 3
		isOurs, err := p.renew(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			wait = min(wait, trouble.next())
			p.c.log.Warn("a name cannot be kept up; trying again", "name", p.name, "err", err, "in", wait)
		case err == nil && !isOurs:
			p.once.Do(func() { close(p.lost) })
			return
		case trouble.reset():
			p.c.log.Info("a name is kept up again", "name", p.name)
		}
	}
}

// renew reports whether the name is still this one's. One that nobody has is taken again:
// the lease has passed while this process, or Redis, stood still.
func (p *Presence) renew(ctx context.Context) (isOurs bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	n, err := renewPresence.Run(ctx, p.c.rdb, []string{p.key(), p.registry()}, p.value, p.name, presenceLease.Milliseconds()).Int()
	if err != nil || n == 1 {
		return n == 1, err
	}
	took, err := p.c.rdb.SetNX(ctx, p.key(), p.value, presenceLease).Result()
	if err != nil || !took {
		return false, err
	}
	if err := p.c.rdb.ZAdd(ctx, p.registry(), redis.Z{Member: p.name}).Err(); err != nil {
		return false, err
	}
	return true, p.tell(ctx, "up")
}

// Lost is closed when another app has taken the name, at most 5 seconds after it did.
func (p *Presence) Lost() <-chan struct{} { return p.lost }

func (p *Presence) free(ctx context.Context) error {
	n, err := freePresence.Run(ctx, p.c.rdb, []string{p.key(), p.registry()}, p.value, p.name).Int()
	if err == nil && n == 1 {
		err = p.tell(ctx, "down")
	}
	if err != nil {
		return fmt.Errorf("give up the name %s: %w", p.name, err)
	}
	return nil
}

// Close gives up the name, unless another app has it, and tells so.
func (p *Presence) Close() error {
	p.stop()
	p.keeping.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return p.free(ctx)
}

// Present returns who has a name on this machine: what he said of himself, and false when
// nobody has it.
func (c *Client) Present(ctx context.Context, name string) (info json.RawMessage, ok bool, err error) {
	raw, err := c.rdb.Get(ctx, c.prefix+".system.presence."+name).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("look up the name %s: %w", name, err)
	}
	var h holder
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, false, fmt.Errorf("read what is said of %s: %w", name, err)
	}
	return h.Info, true, nil
}
