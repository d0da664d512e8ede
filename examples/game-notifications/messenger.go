package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// A Messenger is what server-side components publish, subscribe and queue with. It speaks
// to the Redis of its own machine; the relays do the rest.
type Messenger struct {
	Bus *client.Client
	// Others are the twins of the game's other machines.
	Others []uint32
	// JoinWait is how long a subscription waits for the other machines. Nobody shall have
	// to wait for one that is down: its messages come when it is there again. 0: 1 s.
	JoinWait time.Duration
}

const (
	defaultJoinWait = time.Second
	// countWait is how long a publisher waits to be told who heard him.
	countWait = 5 * time.Second
	// queueLife is how long a queued message waits for its worker.
	queueLife = 24 * time.Hour
	// queueRetries is more often than a relay tries in that time.
	queueRetries = 10_000
)

// Publish sends a message to those who listen to a channel now, on all machines. It
// returns when this machine's Redis has it. A machine that is away gets it if it is there
// again within 30 s; [client.Expire] says otherwise.
func (m *Messenger) Publish(ctx context.Context, channel string, msg Message, opts ...client.CallOption) error {
	if err := msg.checkFor(channel); err != nil {
		return err
	}
	if err := m.Bus.Publish(ctx, channel, msg, opts...); err != nil {
		return fmt.Errorf("publish %s to %s: %w", msg.Action, channel, err)
	}
	return nil
}

// PublishCounted is Publish that waits for up to 5 s, or as [client.Expire] says, and tells
// how many machines with listeners have been given the message: 0 when it is lost. The error
// of a machine that it did not reach comes with the number of the others.
func (m *Messenger) PublishCounted(ctx context.Context, channel string, msg Message, opts ...client.CallOption) (heard int, err error) {
	if err := msg.checkFor(channel); err != nil {
		return 0, err
	}
	opts = append([]client.CallOption{client.Expire(countWait)}, opts...)
	heard, err = m.Bus.PublishCounted(ctx, channel, msg, opts...)
	if err != nil {
		return heard, fmt.Errorf("publish %s to %s: %w", msg.Action, channel, err)
	}
	return heard, nil
}

// Subscribe hears what is published on a channel from when it returns on, from all
// machines. buffer is how many messages may wait to be taken: of more, the oldest are lost.
func (m *Messenger) Subscribe(ctx context.Context, channel string, buffer int) (*client.Subscription, error) {
	wait := cmp.Or(m.JoinWait, defaultJoinWait)
	opts := []client.SubscribeOption{client.From(m.Others...), client.Within(wait)}
	if buffer > 0 {
		opts = append(opts, client.Buffer(buffer))
	}
	return m.Bus.Subscribe(ctx, channel, opts...)
}

// Send puts a task into the queue of a twin's workers. When it returns, the task is in the
// Redis of this machine, and is neither lost nor doubled by a relay that ends: one worker
// gets it, within a day, now or when there is one.
func (m *Messenger) Send(ctx context.Context, twin uint32, task Task) error {
	if err := task.Message.Check(); err != nil {
		return err
	}
	if err := m.Bus.Notify(ctx, twin, TaskQueue, task, client.Expire(queueLife), client.Retries(queueRetries)); err != nil {
		return fmt.Errorf("queue task %s: %w", task.ID, err)
	}
	return nil
}
