package main

import (
	"encoding/json"
	"fmt"
	"sync"
)

// A Game stands for the game's database.
type Game struct {
	mu    sync.Mutex
	done  map[string]Charged // by task; guarded by mu
	times map[string]int     // how often each node was charged; guarded by mu
}

// Charged is what has come of a charge.
type Charged struct {
	Ready NodeReady
	Items NewItems
}

// A ContactResult is the result of a node of type ContactPerp. The document leaves it to
// be specified.
type ContactResult struct {
	Profiles int `json:"profiles"` // collected in this cycle
}

// Charge charges the node of a task, once for each task.
func (g *Game) Charge(t Task) (Charged, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if done, again := g.done[t.ID]; again {
		return done, nil
	}
	var node Charge
	if err := json.Unmarshal(t.Message.Data, &node); err != nil {
		return Charged{}, fmt.Errorf("read task %s: %w", t.ID, err)
	}
	result, err := json.Marshal(ContactResult{Profiles: 12})
	if err != nil {
		return Charged{}, fmt.Errorf("encode the result of task %s: %w", t.ID, err)
	}
	c := Charged{
		Ready: NodeReady{ID: node.ID, Type: node.Type, Path: node.Path, Result: result},
		Items: NewItems{Items: []Item{{ID: t.ID, Name: "profile set", Count: 1}}},
	}
	if g.done == nil {
		g.done, g.times = make(map[string]Charged), make(map[string]int)
	}
	g.done[t.ID] = c
	g.times[node.ID]++
	return c, nil
}

// Times tells how often a node was charged.
func (g *Game) Times(node string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.times[node]
}
