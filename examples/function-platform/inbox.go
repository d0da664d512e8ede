package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// An inbox is the one queue of a process. Its messages are dealt with one at a time, in
// their order: a disable must not overtake its enable.
type inbox struct {
	bus   *client.Client
	queue string
	story Story
	on    map[string]handler // by action
}

// A handler deals with a message from a twin and returns what to answer, nil for nothing.
type handler func(ctx context.Context, from uint32, raw json.RawMessage) (any, error)

// on makes a handler of one that wants the message decoded.
func on[M any](action string, handle func(ctx context.Context, from uint32, m M) (any, error)) handler {
	return func(ctx context.Context, from uint32, raw json.RawMessage) (any, error) {
		m, err := parse[M](raw, action)
		if err != nil {
			return nil, err
		}
		return handle(ctx, from, m)
	}
}

// run serves until ctx ends.
func (b *inbox) run(ctx context.Context) error {
	server := client.NewServer(b.bus, client.ServerOptions{Workers: 1})
	client.Handle(server, b.queue, func(ctx context.Context, raw json.RawMessage) (any, error) {
		from := client.RequestFrom(ctx).Source
		b.story.Saw(Message{To: b.queue, From: from, Raw: raw})
		var h Header
		if err := json.Unmarshal(raw, &h); err != nil {
			return nil, &client.Error{Class: "bad_message", Message: err.Error()}
		}
		handle, ok := b.on[h.Action]
		if !ok {
			return nil, &client.Error{Class: "bad_action", Message: fmt.Sprintf("%s does not know the action %q", b.queue, h.Action)}
		}
		return handle(ctx, from, raw)
	})
	if err := server.Run(ctx); err != nil {
		return fmt.Errorf("serve %s: %w", b.queue, err)
	}
	return nil
}

// untiring has a relay try as often as a message lives: a twin that is away must not use
// up its attempts.
const untiring = 10_000

// ask sends a message that is to be answered, and returns the answer as it came. The
// message is dropped when it is older than stale.
func ask(ctx context.Context, bus *client.Client, to Queue, message any, stale time.Duration) (json.RawMessage, error) {
	return client.Call[json.RawMessage](ctx, bus, to.Twin, to.Name, message, client.Expire(stale), client.Retries(untiring))
}

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
