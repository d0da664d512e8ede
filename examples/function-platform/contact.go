package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// A contact is how a runner or a front end keeps in touch with the tron.
type contact struct {
	bus   *client.Client
	tron  Queue
	queue string // of the one who keeps in touch
	times Times
	story Story

	awake     func(ctx context.Context) (Awake, error) // an error ends the contact
	heartbeat func() Heartbeat
	known     func(ctx context.Context) // called when the tron has answered an awake; may be nil
}

// keep says that its process is awake until the tron knows, and then that it still lives,
// until ctx ends. A tron that has forgotten it, because it began anew, is told again.
func (k *contact) keep(ctx context.Context) error {
	isKnown := false
	for {
		var message any
		if isKnown {
			message = k.heartbeat()
		} else {
			awake, err := k.awake(ctx)
			if err != nil {
				return err
			}
			message = awake
		}
		answer, err := k.tell(ctx, message)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			// Lost, and no harm done: the next one says the same.
			k.story.Say(k.queue, fmt.Sprintf("no word from the tron: %v", err))
		case answer == ActionResendAwake && isKnown:
			isKnown = false
			continue
		case !isKnown:
			isKnown = true
			if k.known != nil {
				k.known(ctx)
			}
		}
		if !pause(ctx, k.times.HeartbeatEvery) {
			return nil
		}
	}
}

// tell sends a message and returns the action of what the tron answers. What has no answer
// when the next one is due is of no use any more.
func (k *contact) tell(ctx context.Context, message any) (action string, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.times.HeartbeatEvery)
	defer cancel()
	raw, err := ask(ctx, k.bus, k.tron, message, k.times.HeartbeatEvery)
	if err != nil {
		return "", err
	}
	k.story.Saw(Message{To: k.queue, From: k.tron.Twin, Raw: raw})
	var h Header
	if err := json.Unmarshal(raw, &h); err != nil {
		return "", fmt.Errorf("read the tron's answer: %w", err)
	}
	return h.Action, nil
}

// diedWait is how long one who leaves waits until the tron sends nobody to him any more.
const diedWait = 2 * time.Second

// leave tells the tron that its process ends. The message goes on when its sender has
// gone; if the tron never gets it, it cleans up by itself.
func (k *contact) leave(ctx context.Context, died Died) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diedWait)
	defer cancel()
	if _, err := ask(ctx, k.bus, k.tron, died, k.times.StaleAfter); err != nil {
		k.story.Say(k.queue, fmt.Sprintf("leaves without a word from the tron: %v", err))
	}
}

// A listener hears what the tron tells all.
type listener struct {
	bus     *client.Client
	tron    uint32
	pattern string // of topics
	queue   string // of the one who listens
	times   Times
	story   Story
	handle  func(ctx context.Context, raw json.RawMessage)
}

// listen hands over what is heard, until ctx ends. The latest that was told before comes
// first. While the tron's machine is away it tries again.
func (l *listener) listen(ctx context.Context) error {
	for {
		err := l.hear(ctx)
		if ctx.Err() != nil {
			return nil
		}
		l.story.Say(l.queue, fmt.Sprintf("does not hear the tron: %v; trying again", err))
		if !pause(ctx, l.times.HeartbeatEvery) {
			return nil
		}
	}
}

func (l *listener) hear(ctx context.Context) error {
	heard, err := l.bus.Subscribe(ctx, l.pattern, client.From(l.tron), client.Retained())
	if err != nil {
		return err
	}
	for e := range heard.All(ctx) {
		if e.Source != l.tron {
			continue // what an app of this machine, or another tron, has published
		}
		l.story.Saw(Message{To: l.queue, From: e.Source, Raw: e.Data})
		l.handle(ctx, e.Data)
	}
	return heard.Close()
}
