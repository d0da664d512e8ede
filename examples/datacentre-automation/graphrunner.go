package main

import (
	"context"
	"errors"
	"sync"
)

// A GraphRunner runs graphs of tasks: it has those tasks scheduled that wait for nothing any
// more, hears what becomes of them, and goes on until the graph has ended. It keeps what it
// knows in memory; of tasks that end while it does not run it learns nothing.
type GraphRunner struct {
	bus      *Bus
	finished *Listener[TaskFinished]

	mu     sync.Mutex
	tasks  map[string]TaskDefinition  // by name; guarded by mu
	graphs map[string]GraphDefinition // by name; guarded by mu
	runs   map[string]*run            // by graph ID; guarded by mu
}

// NewGraphRunner returns one that knows no tasks yet.
func NewGraphRunner(ctx context.Context, b *Bus) (*GraphRunner, error) {
	finished, err := listen[TaskFinished](ctx, b, TaskHasFinished)
	if err != nil {
		return nil, err
	}
	return &GraphRunner{
		bus: b, finished: finished,
		tasks: make(map[string]TaskDefinition), graphs: make(map[string]GraphDefinition), runs: make(map[string]*run),
	}, nil
}

// Run serves until ctx ends.
func (g *GraphRunner) Run(ctx context.Context) error {
	s := g.bus.newServer()
	handle(s, DefineTask, g.defineTask)
	handle(s, DefineTaskGraph, g.defineTaskGraph)
	handle(s, GetTaskLibrary, g.getTaskLibrary)
	handle(s, GetTaskGraphLibrary, g.getTaskGraphLibrary)
	handle(s, GetActiveTaskGraph, g.getActiveTaskGraph)
	handle(s, GetActiveTaskGraphs, g.getActiveTaskGraphs)
	handle(s, GetTaskGraphProperties, g.getTaskGraphProperties)
	handle(s, RunTaskGraph, g.runTaskGraph)
	handle(s, CancelTaskGraph, g.cancelTaskGraph)
	handle(s, PauseTaskGraph, g.pauseTaskGraph)
	handle(s, ResumeTaskGraph, g.resumeTaskGraph)
	return together(ctx, s.Run, func(ctx context.Context) error { return g.finished.run(ctx, g.taskFinished) })
}

// taskFinished goes on with the graph of a task.
func (g *GraphRunner) taskFinished(ctx context.Context, m TaskFinished) error {
	g.mu.Lock()
	r, ok := g.runs[m.GraphID]
	if !ok {
		g.mu.Unlock()
		return nil // another graph runner's
	}
	news := r.taskFinished(m)
	g.mu.Unlock()
	return g.publish(ctx, news)
}

// news is what is to be published when mu is not held any more, in its order.
type news struct {
	event Event
	data  Message
	word  string // in the key's brackets, "" if it has none
}

func (g *GraphRunner) publish(ctx context.Context, all []news) error {
	var errs []error
	for _, n := range all {
		errs = append(errs, g.bus.Publish(ctx, n.event, n.data, n.word))
	}
	return errors.Join(errs...)
}
