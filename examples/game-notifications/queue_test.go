package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/msgbusd/msgbusd/client"
)

// A task that is queued while no worker runs is gone, or two workers do the same.
func TestATaskWaitsForAWorkerAndIsDoneByOne(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	owner := a.open("666.1")
	a.serve((&RPC{Messenger: a.Messenger, Tokens: a.handlers.Tokens, Workers: twinB}).Register)
	const n = 10
	for i := range n {
		if _, err := a.submit("666.1", fmt.Sprint("node-", i)); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorkers()
	b.serve(w.register(b))
	b.serve(w.register(b))
	owner.wantCharged(t, n, "666.1")
	w.wantOnce(t, n)
}

// The worker crashes when it has charged a node: the node is charged twice, or the user is
// not told.
func TestATaskThatComesAgainChargesNothingAndTellsAgain(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	owner := a.open("666.1")
	w := newWorkers()
	b.serve(w.register(b))
	m := message(t, ActionCharge, Charge{ID: "node-0", Type: "ContactPerp", Path: "some.full.path"})
	var items [2]NewItems
	for i := range items { // as the queue gives it, after a crash
		if err := a.Send(patient(t), twinB, Task{ID: "1001/1001.1", AuthUID: "666", Message: m}); err != nil {
			t.Fatal(err)
		}
		decode(t, owner.next(t), ActionNodeReady, &NodeReady{})
		decode(t, owner.next(t), ActionNewItems, &items[i])
	}
	if len(items[0].Items) != 1 || len(items[1].Items) != 1 {
		t.Fatalf("the user is given %v and %v, want one item", items[0], items[1])
	}
	if items[0].Items[0] != items[1].Items[0] {
		t.Errorf("the user is given %v and %v, want the same item", items[0], items[1])
	}
	if times := w.game.Times("node-0"); times != 1 {
		t.Errorf("the node was charged %d times", times)
	}
}

// workers share a game, and note what each task was.
type workers struct {
	game *Game

	mu  sync.Mutex
	ran map[string]int // by node; guarded by mu
}

func newWorkers() *workers { return &workers{game: &Game{}, ran: make(map[string]int)} }

// register registers one more worker.
func (w *workers) register(s *site) func(client.Mux) {
	worker := &Worker{Messenger: s.Messenger, Game: w.game}
	return func(mux client.Mux) { worker.Register(counting{mux, w}) }
}

// counting is a mux whose handlers count tasks.
type counting struct {
	client.Mux
	workers *workers
}

func (c counting) HandleFunc(cmd string, h client.Handler) {
	c.Mux.HandleFunc(cmd, func(ctx context.Context, r *client.Request) (any, error) {
		var t Task
		var node Charge
		if err := r.Decode(&t); err == nil {
			err = json.Unmarshal(t.Message.Data, &node)
			if err == nil {
				c.workers.note(node.ID)
			}
		}
		return h(ctx, r)
	})
}

func (w *workers) note(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ran[node]++
}

// wantOnce wants the tasks of node-0 to node-<n-1> to have been taken once, each.
func (w *workers) wantOnce(t *testing.T, n int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range n {
		node := fmt.Sprint("node-", i)
		if w.ran[node] != 1 || w.game.Times(node) != 1 {
			t.Errorf("the task of %s was taken %d times, and the node charged %d times", node, w.ran[node], w.game.Times(node))
		}
	}
}

// wantCharged waits until the page has been told of n nodes and as many items, each once.
// token is the page's own: what it has asked for comes with it.
func (r *recorder) wantCharged(t *testing.T, n int, token string) {
	t.Helper()
	ready, got := make(map[string]int), make(map[string]int)
	for range 2 * n {
		m := r.next(t)
		if m.Token != token {
			t.Errorf("%s has the token %q", m.Action, m.Token)
		}
		switch m.Action {
		case ActionNodeReady:
			var node NodeReady
			decode(t, m, ActionNodeReady, &node)
			ready[node.ID]++
		default:
			var items NewItems
			decode(t, m, ActionNewItems, &items)
			got[items.Items[0].ID]++
		}
	}
	for i := range n {
		if node := fmt.Sprint("node-", i); ready[node] != 1 {
			t.Errorf("the page is told %d times that %s is ready", ready[node], node)
		}
	}
	if len(got) != n {
		t.Errorf("the page is given %d items, want %d", len(got), n)
	}
}
