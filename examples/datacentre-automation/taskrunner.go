package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// A Job does a task. When ctx ends it stops. Its error is why the task failed.
type Job func(ctx context.Context, b *Bus, t RunTask) error

// A TaskRunner does tasks, one after the other. The runners of a domain on one machine share
// them. A task whose runner ends in the middle is done again, by it when it is back or by
// another one: jobs must stand that.
type TaskRunner struct {
	bus     *Bus
	name    string
	jobs    map[string]Job
	work    *Listener[RunTask]
	cancels *Listener[CancelTask] // its own: nobody but the one who does a task can stop it

	mu        sync.Mutex
	current   string                  // the task that it does; guarded by mu
	stop      context.CancelCauseFunc // of that; guarded by mu
	cancelled []string                // tasks that must not begin, the latest last; guarded by mu
}

// errCancelled is why a job has to stop.
var errCancelled = errors.New("the task is cancelled")

// cancelledMost bounds how many cancelled tasks are remembered.
const cancelledMost = 1000

// NewTaskRunner is one of the runners of a domain. No other has its name at the same time.
// jobs are by names of tasks.
func NewTaskRunner(ctx context.Context, b *Bus, domain, name string, jobs map[string]Job) (*TaskRunner, error) {
	cancels, err := listen[CancelTask](ctx, b, CancelATask)
	if err != nil {
		return nil, err
	}
	work, err := compete[RunTask](ctx, b, RunATask, domain, name)
	if err != nil {
		return nil, errors.Join(err, cancels.source.Close())
	}
	return &TaskRunner{bus: b, name: name, jobs: jobs, work: work, cancels: cancels}, nil
}

// Run works until ctx ends.
func (r *TaskRunner) Run(ctx context.Context) error {
	return together(ctx,
		func(ctx context.Context) error { return r.work.run(ctx, r.do) },
		func(ctx context.Context) error { return r.cancels.run(ctx, r.cancel) })
}

// do does a task and tells what has become of it. If the runner has to stop meanwhile, it
// tells nothing, and the task comes again.
func (r *TaskRunner) do(ctx context.Context, t RunTask) error {
	task, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.begin(t.TaskID, stop)
	err := r.perform(task, t)
	r.end()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m := TaskFinished{TaskID: t.TaskID, GraphID: t.GraphID, NodeID: t.NodeID, State: Succeeded, Runner: r.name}
	switch {
	case errors.Is(context.Cause(task), errCancelled):
		m.State, m.Error = Cancelled, errCancelled.Error()
	case err != nil:
		m.State, m.Error = Failed, err.Error()
	}
	return r.bus.Publish(ctx, TaskHasFinished, m, t.TaskID)
}

func (r *TaskRunner) perform(ctx context.Context, t RunTask) error {
	if err := ctx.Err(); err != nil { // it was cancelled before
		return err
	}
	job, ok := r.jobs[t.TaskName]
	if !ok {
		return fmt.Errorf("do %s: nobody here knows how", t.TaskName)
	}
	return job(ctx, r.bus, t)
}

func (r *TaskRunner) begin(taskID string, stop context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.stop = taskID, stop
	if slices.Contains(r.cancelled, taskID) {
		stop(errCancelled)
	}
}

func (r *TaskRunner) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current, r.stop = "", nil
}

func (r *TaskRunner) cancel(_ context.Context, m CancelTask) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == m.TaskID {
		r.stop(errCancelled)
	}
	r.cancelled = append(r.cancelled, m.TaskID)
	if len(r.cancelled) > cancelledMost {
		r.cancelled = r.cancelled[1:]
	}
	return nil
}
