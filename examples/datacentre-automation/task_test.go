package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// counted is a job that counts, and waits for a word before it ends.
type counted struct {
	begun chan string
	words chan error

	mu    sync.Mutex
	times map[string]int // by task ID; guarded by mu
}

func newCounted() *counted {
	return &counted{begun: make(chan string, 1000), words: make(chan error, 1000), times: make(map[string]int)}
}

func (c *counted) do(ctx context.Context, _ *Bus, t RunTask) error {
	c.mu.Lock()
	c.times[t.TaskID]++
	c.mu.Unlock()
	c.begun <- t.TaskID
	select {
	case err := <-c.words:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// let has so many tasks end.
func (c *counted) let(n int) {
	for range n {
		c.words <- nil
	}
}

// wantOnce wants so many tasks to have been done, each once.
func (c *counted) wantOnce(t testing.TB, n int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.times) != n {
		t.Errorf("%d tasks were done, not %d", len(c.times), n)
	}
	for id, times := range c.times {
		if times != 1 {
			t.Errorf("task %s was done %d times", id, times)
		}
	}
}

// await waits until a task has begun.
func (c *counted) await(r *rig) string {
	r.Helper()
	select {
	case id := <-c.begun:
		return id
	case <-r.patient().Done():
		r.Fatal("no task begins")
		return ""
	}
}

// Two schedulers schedule the same task, or two runners do it; or one runner does all and the
// other one nothing.
func TestWorkersOfADomainShareTheWork(t *testing.T) {
	r := newRig(t)
	job := newCounted()
	r.start(SystemOptions{Jobs: map[string]Job{"Task.Counted": job.do}})
	finished := hearing[TaskFinished](r, r.control, TaskHasFinished)
	const n = 12
	for i := range n {
		id := fmt.Sprintf("task-%d", i)
		r.must(r.control.Publish(r.patient(), ScheduleTask, Schedule{TaskID: id, TaskName: "Task.Counted", GraphID: "g", NodeID: "n"}))
	}
	job.await(r)
	job.await(r) // at the same time as the first
	job.let(n)
	runners := make(map[string]int)
	for range n {
		m := finished.next()
		if m.State != Succeeded {
			t.Errorf("task %s: %s", m.TaskID, m.Error)
		}
		runners[m.Runner]++
	}
	finished.wantNoMore()
	job.wantOnce(t, n)
	if len(runners) != 2 {
		t.Errorf("the work was done by %v", runners)
	}
}

// A runner is stopped in the middle of a task, and the node is never installed.
func TestATaskComesAgainToARunnerThatHasNotFinishedIt(t *testing.T) {
	r := newRig(t)
	job := newCounted()
	begin := func() (stop func()) {
		runner, err := NewTaskRunner(r.patient(), r.rack, Domain, "runner", map[string]Job{"Task.Counted": job.do})
		r.must(err)
		return r.run(runner.Run)
	}
	finished := hearing[TaskFinished](r, r.control, TaskHasFinished)
	stop := begin()
	r.must(r.control.Publish(r.patient(), RunATask, RunTask{TaskID: "t1", TaskName: "Task.Counted", GraphID: "g", NodeID: "n"}, "t1"))
	job.await(r)
	stop()
	begin()
	job.await(r)
	job.let(1)
	if got := finished.next(); got.TaskID != "t1" || got.State != Succeeded {
		t.Errorf("it finishes as %+v", got)
	}
	finished.wantNoMore()
}

// An operator cancels a task, which works on for hours, or begins all the same.
func TestTasksAreCancelledWhetherTheyRunOrWait(t *testing.T) {
	r := newRig(t)
	job := newCounted()
	runner, err := NewTaskRunner(r.patient(), r.rack, Domain, "runner", map[string]Job{"Task.Counted": job.do})
	r.must(err)
	r.run(runner.Run)
	finished := hearing[TaskFinished](r, r.control, TaskHasFinished)
	ids := []string{"runs", "waits", "stays"}
	for _, id := range ids {
		r.must(r.control.Publish(r.patient(), RunATask, RunTask{TaskID: id, TaskName: "Task.Counted", GraphID: "g", NodeID: "n"}, id))
	}
	job.await(r)
	for _, id := range []string{"waits", "runs"} {
		r.must(r.control.Publish(r.patient(), CancelATask, CancelTask{TaskID: id, GraphID: "g"}, id))
	}
	for _, want := range []TaskFinished{{TaskID: "runs", State: Cancelled}, {TaskID: "waits", State: Cancelled}} {
		if got := finished.next(); got.TaskID != want.TaskID || got.State != want.State {
			t.Errorf("it finishes as %+v, want %+v", got, want)
		}
	}
	job.let(1)
	if got := finished.next(); got.TaskID != "stays" || got.State != Succeeded {
		t.Errorf("it finishes as %+v", got)
	}
	job.wantOnce(t, 2)
}

// A task fails and its graph waits for ever, or goes on without it.
func TestTheStateOfATaskSaysWhyItFailed(t *testing.T) {
	r := newRig(t)
	job := newCounted()
	r.start(SystemOptions{Jobs: map[string]Job{"Task.Counted": job.do}})
	r.define("Graph.Two",
		GraphTask{Label: "one", TaskName: "Task.Counted"}, GraphTask{Label: "two", TaskName: "Task.Unknown", WaitOn: []string{"one"}})
	finished, ended := hearing[TaskFinished](r, r.rack, TaskHasFinished), hearing[GraphFinished](r, r.rack, GraphHasEnded)
	for _, failure := range []error{errors.New("the disk is full"), nil} {
		job.words <- failure
		g := r.runGraph("Graph.Two", "node-1")
		m := finished.next()
		if failure != nil && (m.State != Failed || m.Error != failure.Error()) {
			t.Errorf("the task finishes as %+v", m)
		}
		if failure == nil {
			m = finished.next()
			if m.State != Failed || m.TaskID != g.Tasks["two"].TaskID {
				t.Errorf("a task that nobody can do finishes as %+v", m)
			}
		}
		if got := ended.next(); got.GraphID != g.GraphID || got.Status != Failed {
			t.Errorf("the graph ends as %+v", got)
		}
	}
	if _, err := request[Graph](r.patient(), r.rack, GetActiveTaskGraph, Filtered{Filter{Target: "node-1"}}); classOf(err) != NotFoundError {
		t.Errorf("a graph that has ended is active: %v", err)
	}
}

// A graph begins a task before those that it waits for, or does not hold when it is paused.
func TestAGraphBeginsTasksInOrderAndHoldsWhilePaused(t *testing.T) {
	t.Parallel()
	d := GraphDefinition{InjectableName: "g", Tasks: []GraphTask{
		{Label: "a", TaskName: "A"}, {Label: "b", TaskName: "B"}, {Label: "c", TaskName: "C", WaitOn: []string{"a", "b"}},
	}}
	if err := (AGraph{d}).Validate(); err != nil {
		t.Fatal(err)
	}
	r := newRun("g1", d, "node-1", nil)
	finish := func(label string) []news {
		return r.taskFinished(TaskFinished{TaskID: r.graph.Tasks[label].TaskID, State: Succeeded})
	}
	want := func(when string, got []news, keys ...string) {
		t.Helper()
		var is []string
		for _, n := range got {
			is = append(is, n.event.Key)
		}
		if !slices.Equal(is, keys) {
			t.Errorf("%s: %q is told, want %q", when, is, keys)
		}
	}
	want("it begins", r.begin(), GraphHasStarted.Key, ScheduleTask.Key, ScheduleTask.Key)
	want("a is done", finish("a"))
	want("a is done again", finish("a"))
	want("it is paused", r.pause())
	want("b is done meanwhile", finish("b"))
	want("it goes on", r.resume(), ScheduleTask.Key)
	want("it is cancelled", r.cancel(), CancelATask.Key, GraphHasEnded.Key)
	want("it is cancelled again", r.cancel(), CancelATask.Key)
	want("c has stopped", r.taskFinished(TaskFinished{TaskID: r.graph.Tasks["c"].TaskID, State: Cancelled}))
	if r.fits(Filter{}) {
		t.Error("it still runs")
	}
}

// A poller floods the operator with the same alert, or what it knows cannot be asked for.
func TestPollersAskAlertOnceAndRemember(t *testing.T) {
	r := newRig(t)
	commands, err := NewCommandService(r.patient(), r.rack, warmMachine{})
	r.must(err)
	r.run(commands.Run)
	alerts, results := hearing[PollerAlert](r, r.rack, PollerAlerts), hearing[IpmiResult](r, r.control, IpmiAnswered, "sdr", "g1")
	poller, err := NewPoller(r.patient(), r.control, Poll{
		GraphID: "g1", NodeID: "node-1", Commands: []string{"power", "sdr"}, Every: 50 * time.Millisecond,
		Alert: func(reading, _ string) string {
			if reading == "inlet" {
				return "too warm"
			}
			return ""
		},
	})
	r.must(err)
	r.run(poller.Run)
	if got := alerts.next(); got != (PollerAlert{GraphID: "g1", NodeID: "node-1", Reading: "ipmi.sdr.inlet", Value: "43", Reason: "too warm"}) {
		t.Errorf("the alert is %+v", got)
	}
	for range 3 {
		results.next()
	}
	alerts.wantNoMore()
	r.must(r.rack.awaitMethods(r.patient(), RequestPollerCache.Command(), CallIpmi.Command("power")))
	cache, err := request[Readings](r.patient(), r.rack, RequestPollerCache, CacheQuestion{"g1"})
	if err != nil || cache["ipmi.sdr"]["inlet"] != "43" {
		t.Errorf("the poller remembers %v, %v", cache, err)
	}
	if _, err := request[Readings](r.patient(), r.rack, RequestPollerCache, CacheQuestion{"g2"}); classOf(err) != NotFoundError {
		t.Errorf("it remembers what it does not poll: %v", err)
	}
	// The same as a question: its answer is told to the listeners, too.
	told := hearing[IpmiResult](r, r.control, IpmiAnswered, "*", "g3")
	answer, err := request[IpmiResult](r.patient(), r.control, CallIpmi, IpmiCommand{GraphID: "g3", Command: "power", NodeID: "node-1"}, "power")
	if err != nil || answer.Result["state"] != "on" {
		t.Errorf("the machine answers %v, %v", answer, err)
	}
	if got := told.next(); got.GraphID != "g3" || got.Result["state"] != "on" {
		t.Errorf("the listeners hear %+v", got)
	}
}
