package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// A Frontend is the Datadealer application in a browser: the consumer at the end of the
// line. It stands for page.html, which does the same in a real one.
type Frontend struct {
	name string
	tell func(format string, args ...any)
	done chan string // actions that it has dealt with
}

// actionsMost bounds the actions that nobody has awaited.
const actionsMost = 100

// NewFrontend returns one that tells what its user sees.
func NewFrontend(name string, tell func(format string, args ...any)) *Frontend {
	return &Frontend{name: name, tell: tell, done: make(chan string, actionsMost)}
}

// Push does what the action of a message says.
func (f *Frontend) Push(m Message) {
	switch m.Action {
	case ActionDebug:
		var d Debug
		f.show(m, &d, func() string { return fmt.Sprintf("console: %s", d.Message) })
	case ActionNodeReady:
		var n NodeReady
		f.show(m, &n, func() string { return fmt.Sprintf("%s %s is ready to collect, result %s", n.Type, n.ID, n.Result) })
	case ActionNewItems:
		var n NewItems
		f.show(m, &n, func() string { return "new items: " + list(n.Items) })
	case ActionKick:
		f.tell("%s: alert: the game has been opened elsewhere; this session closes", f.name)
	default: // of a later version
	}
	select {
	case f.done <- m.Action:
	default:
	}
}

func (f *Frontend) show(m Message, data any, text func() string) {
	if err := json.Unmarshal(m.Data, data); err != nil {
		f.tell("%s: a %s that cannot be read: %v", f.name, m.Action, err)
		return
	}
	f.tell("%s: %s", f.name, text())
}

func list(items []Item) string {
	var all []string
	for _, i := range items {
		all = append(all, fmt.Sprintf("%d %s", i.Count, i.Name))
	}
	return strings.Join(all, ", ")
}

// Missed has the application load its state anew, as it does when it starts.
func (f *Frontend) Missed(n int) { f.tell("%s: missed messages (%d): loads its state anew", f.name, n) }

// await waits until an action has been dealt with.
func (f *Frontend) await(ctx context.Context, action string) error {
	for {
		select {
		case got := <-f.done:
			if got == action {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("%s waits for %s: %w", f.name, action, ctx.Err())
		}
	}
}
