package client

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A consumer is a service's name and what it keeps in Redis, as docs/extensions.md says
// under "Services that survive a crash". A request that it takes is on a list of its own
// until it is answered; when its lease is gone, the relay gives back what is there.
type consumer struct {
	client   *Client
	prefix   string
	name     string
	commands []string
	note     []byte        // value of the lease
	lease    time.Duration // for how long it is renewed
	rdb      *redis.Client
	taker    *redis.Client // for what blocks
}

// takeBlock is how long a take waits. go-redis cannot be told to end one earlier, so
// it is also how long a service takes to stop.
const takeBlock = time.Second

func newConsumer(c *Client, commands []string, lease time.Duration) *consumer {
	host, _ := os.Hostname()
	note, _ := json.Marshal(map[string]any{"host": host, "pid": os.Getpid(), "since": time.Now().Unix()})
	return &consumer{
		client: c, prefix: c.prefix, name: uuid.NewString(), commands: commands, note: note, lease: lease,
		rdb: c.rdb, taker: c.redis.Connect(func(o *redis.Options) { o.PoolSize = len(commands) + 1 }),
	}
}

func (c *consumer) members() []any {
	all := make([]any, len(c.commands))
	for i, cmd := range c.commands {
		all[i] = c.name + " " + cmd
	}
	return all
}

func (c *consumer) registry() string        { return c.prefix + ".system.consumers" }
func (c *consumer) leaseKey() string        { return c.prefix + ".system.consumer." + c.name }
func (c *consumer) queue(cmd string) string { return c.prefix + "." + cmd }
func (c *consumer) taken(cmd string) string { return c.prefix + ".system.taken." + c.name + "." + cmd }

// announce says for which commands the consumer is there, and renews its lease. It
// returns what Redis's clock says. Events tell that the consumer has come, also when it
// was taken for gone meanwhile.
func (c *consumer) announce(ctx context.Context) (time.Time, error) {
	var clock *redis.TimeCmd
	var lease *redis.StatusCmd
	_, err := c.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		var all []redis.Z
		for _, m := range c.members() {
			all = append(all, redis.Z{Member: m})
		}
		p.ZAdd(ctx, c.registry(), all...)
		lease = p.SetArgs(ctx, c.leaseKey(), c.note, redis.SetArgs{TTL: c.lease, Get: true})
		clock = p.Time(ctx)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return time.Time{}, err
	}
	if errors.Is(lease.Err(), redis.Nil) {
		c.tell(ctx, "up")
	}
	return clock.Val(), nil
}

// tell publishes what has become of the consumer. Who does not hear of it sees it when it
// asks who serves.
func (c *consumer) tell(ctx context.Context, what string) {
	for _, cmd := range c.commands {
		topic := PresenceExchange + "/service." + what + "." + cmd
		if !msgbus.ValidTopic(topic) {
			continue // there are commands that no topic can name
		}
		if err := c.client.Publish(ctx, topic, map[string]string{"consumer": c.name}); err != nil && ctx.Err() == nil {
			c.client.log.Warn("could not tell that a service comes or goes", "cmd", cmd, "err", err)
		}
	}
}

// leave takes back what announce said. The consumer's lists must be empty.
func (c *consumer) leave(ctx context.Context) error {
	_, err := c.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.ZRem(ctx, c.registry(), c.members()...)
		p.Del(ctx, c.leaseKey())
		return nil
	})
	if err == nil {
		c.tell(ctx, "down")
	}
	return err
}

// take waits a moment for a request; redis.Nil when there is none. After any other error
// one may come to the list of what is taken, until the block would have ended.
func (c *consumer) take(cmd string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), takeBlock+callTimeout)
	defer cancel()
	return c.taker.BLMove(ctx, c.queue(cmd), c.taken(cmd), "left", "right", takeBlock).Result()
}

// held is what was taken and not answered, the oldest first.
func (c *consumer) held(cmd string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return c.rdb.LRange(ctx, c.taken(cmd), 0, -1).Result()
}

// errUnpushed says that a reply was refused for good. Its request is off the list.
type errUnpushed struct{ cause error }

func (e errUnpushed) Error() string { return "push reply: " + e.cause.Error() }

// answer pushes a reply and acknowledges its request in one step. It does not heed a
// context that is cancelled: what is done is to be told.
func (c *consumer) answer(cmd, raw, ret string, reply []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	var pushed, removed *redis.IntCmd
	_, err := c.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		pushed = p.RPush(ctx, ret, reply)
		removed = p.LRem(ctx, c.taken(cmd), 1, raw)
		return nil
	})
	if err == nil || removed.Err() != nil {
		return err
	}
	return errUnpushed{pushed.Err()} // such as a ret that is no list; the step was made all the same
}

// drop acknowledges a request without an answer.
func (c *consumer) drop(cmd, raw string) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	return c.rdb.LRem(ctx, c.taken(cmd), 1, raw).Err()
}

// giveBack puts what was taken and not answered back to the head of the queue, in its
// order, and returns how many those were.
func (c *consumer) giveBack(ctx context.Context, cmd string) (n int, err error) {
	for {
		err := c.rdb.LMove(ctx, c.taken(cmd), c.queue(cmd), "right", "left").Err()
		switch {
		case errors.Is(err, redis.Nil):
			return n, nil
		case err != nil:
			return n, err
		}
		n++
	}
}

func (c *consumer) close() error { return c.taker.Close() }
