package main

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"
)

// defineTask answers the task's name. One of the same name is replaced.
func (g *GraphRunner) defineTask(_ context.Context, m ATask) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tasks[m.Definition.InjectableName] = m.Definition
	return m.Definition.InjectableName, nil
}

// defineTaskGraph answers the graph's name. One of the same name is replaced; those that run
// go on as they were.
func (g *GraphRunner) defineTaskGraph(_ context.Context, m AGraph) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range m.Definition.Tasks {
		if _, ok := g.tasks[t.TaskName]; !ok {
			return "", notFound("there is no task %s", t.TaskName)
		}
	}
	g.graphs[m.Definition.InjectableName] = m.Definition
	return m.Definition.InjectableName, nil
}

func (g *GraphRunner) getTaskLibrary(_ context.Context, m Filtered) ([]TaskDefinition, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return pickNamed(g.tasks, m.Filter), nil
}

func (g *GraphRunner) getTaskGraphLibrary(_ context.Context, m Filtered) ([]GraphDefinition, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return pickNamed(g.graphs, m.Filter), nil
}

// pickNamed returns the entries that a filter names, in the order of their names.
func pickNamed[D any](library map[string]D, f Filter) []D {
	picked := []D{}
	for _, name := range slices.Sorted(maps.Keys(library)) {
		if f.InjectableName == "" || f.InjectableName == name {
			picked = append(picked, library[name])
		}
	}
	return picked
}

// getActiveTaskGraph answers the one graph that the filter is for and that has not ended.
func (g *GraphRunner) getActiveTaskGraph(_ context.Context, m Filtered) (Graph, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, err := g.active(m.Filter)
	if err != nil {
		return Graph{}, err
	}
	return r.copy(), nil
}

func (g *GraphRunner) getActiveTaskGraphs(_ context.Context, m Filtered) ([]Graph, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := []Graph{}
	for _, id := range slices.Sorted(maps.Keys(g.runs)) {
		if r := g.runs[id]; r.fits(m.Filter) {
			all = append(all, r.copy())
		}
	}
	return all, nil
}

// active needs mu.
func (g *GraphRunner) active(f Filter) (*run, error) {
	var found *run
	for _, r := range g.runs {
		switch {
		case !r.fits(f):
		case found != nil:
			return nil, conflict("the filter is for more than one graph")
		default:
			found = r
		}
	}
	if found == nil {
		return nil, notFound("no graph that runs is as the filter says")
	}
	return found, nil
}

// getTaskGraphProperties tells of graphs that have ended, too.
func (g *GraphRunner) getTaskGraphProperties(_ context.Context, m Instance) (GraphProperties, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, ok := g.runs[m.Instance]
	if !ok {
		return GraphProperties{}, notFound("there is no graph %s", m.Instance)
	}
	p := GraphProperties{Name: r.graph.Name, Status: r.graph.Status, Tasks: len(r.graph.Tasks), ByStates: make(map[State]int)}
	for _, step := range r.graph.Tasks {
		p.ByStates[step.State]++
	}
	return p, nil
}

// runTaskGraph answers the graph as it begins. A target has one graph at a time.
func (g *GraphRunner) runTaskGraph(ctx context.Context, m RunGraph) (Graph, error) {
	g.mu.Lock()
	definition, ok := g.graphs[m.Name]
	if !ok {
		g.mu.Unlock()
		return Graph{}, notFound("there is no graph %s", m.Name)
	}
	for id, r := range g.runs {
		if r.fits(Filter{Target: m.Target}) {
			g.mu.Unlock()
			return Graph{}, conflict("graph %s runs on %s", id, m.Target)
		}
	}
	options := make(map[string]map[string]string)
	for _, t := range definition.Tasks {
		options[t.TaskName] = maps.Clone(g.tasks[t.TaskName].Options)
		if options[t.TaskName] == nil {
			options[t.TaskName] = make(map[string]string)
		}
		maps.Copy(options[t.TaskName], m.Options)
	}
	r := newRun(uuid.NewString(), definition, m.Target, options)
	g.runs[r.graph.GraphID] = r
	news := r.begin()
	begun := r.copy()
	g.mu.Unlock()
	return begun, g.publish(ctx, news)
}

// cancelTaskGraph answers the graph that ends by it.
func (g *GraphRunner) cancelTaskGraph(ctx context.Context, m Filtered) (Graph, error) {
	return g.change(ctx, m.Filter, (*run).cancel)
}

// pauseTaskGraph has no more tasks of a graph begin. Those that run go on.
func (g *GraphRunner) pauseTaskGraph(ctx context.Context, m Filtered) (Graph, error) {
	return g.change(ctx, m.Filter, (*run).pause)
}

func (g *GraphRunner) resumeTaskGraph(ctx context.Context, m Filtered) (Graph, error) {
	return g.change(ctx, m.Filter, (*run).resume)
}

// change does something to the one graph that a filter is for, and answers it.
func (g *GraphRunner) change(ctx context.Context, f Filter, do func(*run) []news) (Graph, error) {
	g.mu.Lock()
	r, err := g.active(f)
	if err != nil {
		g.mu.Unlock()
		return Graph{}, err
	}
	news := do(r)
	changed := r.copy()
	g.mu.Unlock()
	return changed, g.publish(ctx, news)
}
