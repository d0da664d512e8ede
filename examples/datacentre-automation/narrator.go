package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/msgbusd/msgbusd/client"
)

// A Narrator writes a line for each thing that passes on the bus, and for what else is told.
type Narrator struct {
	everything *client.Subscription

	mu   sync.Mutex
	w    io.Writer       // guarded by mu
	told map[string]bool // topics; guarded by mu
	more chan struct{}   // closed when there is one more; guarded by mu
}

// NewNarrator hears all events of all machines: `*` stands for any exchange, `#` for any key.
func NewNarrator(ctx context.Context, b *Bus, w io.Writer) (*Narrator, error) {
	s, err := b.client.Subscribe(ctx, "*/#", client.From(b.others...))
	if err != nil {
		return nil, err
	}
	return &Narrator{everything: s, w: w, told: make(map[string]bool), more: make(chan struct{})}, nil
}

// Run writes until ctx ends.
func (n *Narrator) Run(ctx context.Context) error {
	for e := range n.everything.All(ctx) {
		n.say("  %d → %s %s", e.Source, e.Topic, e.Data)
		n.mu.Lock()
		n.told[e.Topic] = true
		close(n.more)
		n.more = make(chan struct{})
		n.mu.Unlock()
	}
	return n.everything.Close()
}

// Await waits until something has passed under a topic.
func (n *Narrator) Await(ctx context.Context, topic string) error {
	for {
		n.mu.Lock()
		told, more := n.told[topic], n.more
		n.mu.Unlock()
		if told {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", topic, ctx.Err())
		}
	}
}

// Chapter begins something new.
func (n *Narrator) Chapter(title string) { n.say("\n%s", title) }

// Answer tells what a method has answered.
func (n *Narrator) Answer(m Method, out any, err error) {
	var e *client.Error
	switch {
	case errors.As(err, &e) && e.Class != "":
		n.say("  %s/%s is answered with a %s: %s", m.Exchange, m.Key, e.Class, e.Message)
	case err != nil:
		n.say("  %s/%s is not answered: %v", m.Exchange, m.Key, err)
	default:
		text, err := json.Marshal(out)
		if err != nil {
			text = []byte(err.Error())
		}
		n.say("  %s/%s is answered %s", m.Exchange, m.Key, text)
	}
}

func (n *Narrator) say(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.w, format+"\n", args...)
}
