package main

import "github.com/google/uuid"

// A run is a graph that runs, or has run. It knows what is to be told next, and does nothing
// itself.
type run struct {
	definition GraphDefinition
	options    map[string]map[string]string // by task name
	graph      Graph
}

func newRun(id string, d GraphDefinition, target string, options map[string]map[string]string) *run {
	r := &run{definition: d, options: options}
	r.graph = Graph{GraphID: id, Name: d.InjectableName, Target: target, Status: Running, Tasks: make(map[string]*Step)}
	for _, t := range d.Tasks {
		r.graph.Tasks[t.Label] = &Step{TaskID: uuid.NewString(), State: Pending}
	}
	return r
}

func (r *run) begin() []news {
	started := GraphStarted{GraphID: r.graph.GraphID, Name: r.graph.Name, Target: r.graph.Target}
	return append([]news{{GraphHasStarted, started, r.graph.GraphID}}, r.schedule()...)
}

// schedule begins the tasks that wait for nothing any more.
func (r *run) schedule() (all []news) {
	if r.graph.Status != Running {
		return nil
	}
	for _, t := range r.definition.Tasks {
		step := r.graph.Tasks[t.Label]
		if step.State != Pending || !r.haveSucceeded(t.WaitOn) {
			continue
		}
		step.State = Running
		all = append(all, news{ScheduleTask, Schedule{
			TaskID: step.TaskID, TaskName: t.TaskName, Overrides: r.options[t.TaskName], GraphID: r.graph.GraphID, NodeID: r.graph.Target,
		}, ""})
	}
	return all
}

func (r *run) haveSucceeded(labels []string) bool {
	for _, label := range labels {
		if r.graph.Tasks[label].State != Succeeded {
			return false
		}
	}
	return true
}

// taskFinished heeds the first end of a task only: a runner that ends before it can say that
// it is done does the task again.
func (r *run) taskFinished(m TaskFinished) []news {
	for _, step := range r.graph.Tasks {
		if step.TaskID == m.TaskID && !step.State.IsEnd() {
			step.State = m.State
			if m.State != Succeeded && !r.graph.Status.IsEnd() {
				return append(r.cancelRunning(), r.end(m.State)...)
			}
			if r.isDone() {
				return r.end(Succeeded)
			}
			return r.schedule()
		}
	}
	return nil
}

func (r *run) isDone() bool {
	for _, step := range r.graph.Tasks {
		if step.State != Succeeded {
			return false
		}
	}
	return true
}

func (r *run) end(status State) []news {
	if r.graph.Status.IsEnd() {
		return nil
	}
	r.graph.Status = status
	m := GraphFinished{GraphID: r.graph.GraphID, Name: r.graph.Name, Target: r.graph.Target, Status: status}
	return []news{{GraphHasEnded, m, r.graph.GraphID}}
}

func (r *run) cancel() []news { return append(r.cancelRunning(), r.end(Cancelled)...) }

// cancelRunning stops the tasks that run, which tell when they have stopped.
func (r *run) cancelRunning() (all []news) {
	for _, t := range r.definition.Tasks {
		step := r.graph.Tasks[t.Label]
		switch step.State {
		case Running:
			all = append(all, news{CancelATask, CancelTask{TaskID: step.TaskID, GraphID: r.graph.GraphID}, step.TaskID})
		case Pending:
			step.State = Cancelled // it never begins
		}
	}
	return all
}

func (r *run) pause() []news {
	r.graph.Status = Paused
	return nil
}

func (r *run) resume() []news {
	r.graph.Status = Running
	if r.isDone() { // its last task has finished meanwhile
		return r.end(Succeeded)
	}
	return r.schedule()
}

// fits tells whether it has not ended, and a filter is for it.
func (r *run) fits(f Filter) bool {
	return !r.graph.Status.IsEnd() &&
		(f.InjectableName == "" || f.InjectableName == r.graph.Name) &&
		(f.GraphID == "" || f.GraphID == r.graph.GraphID) &&
		(f.Target == "" || f.Target == r.graph.Target)
}

// copy is what leaves while the run goes on.
func (r *run) copy() Graph {
	g := r.graph
	g.Tasks = make(map[string]*Step)
	for label, step := range r.graph.Tasks {
		copied := *step
		g.Tasks[label] = &copied
	}
	return g
}
