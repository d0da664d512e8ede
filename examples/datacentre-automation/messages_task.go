package main

import (
	"fmt"
	"slices"
)

// The messages about tasks and graphs of them.

// A State is what has become of a task or a graph.
type State string

// States. The last three are ends.
const (
	Pending   State = "pending"
	Running   State = "running"
	Paused    State = "paused" // of graphs
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// IsEnd tells whether nothing more becomes of it.
func (s State) IsEnd() bool { return slices.Contains([]State{Succeeded, Failed, Cancelled}, s) }

// A TaskDefinition is an entry of the task library.
type TaskDefinition struct {
	InjectableName string            `json:"injectableName"` // by which graphs name it
	FriendlyName   string            `json:"friendlyName"`
	Options        map[string]string `json:"options,omitempty"`
}

// A GraphDefinition is an entry of the graph library.
type GraphDefinition struct {
	InjectableName string      `json:"injectableName"`
	FriendlyName   string      `json:"friendlyName"`
	Tasks          []GraphTask `json:"tasks"`
}

// A GraphTask is a task's place in a graph.
type GraphTask struct {
	Label    string   `json:"label"`
	TaskName string   `json:"taskName"`
	WaitOn   []string `json:"waitOn,omitempty"` // labels of tasks before it that must have succeeded
}

// A Graph is one that runs, or has run.
type Graph struct {
	GraphID string           `json:"graphId"`
	Name    string           `json:"name"`
	Target  string           `json:"target"` // a node
	Status  State            `json:"status"`
	Tasks   map[string]*Step `json:"tasks"` // by label
}

// A Step is a task of a graph that runs.
type Step struct {
	TaskID string `json:"taskId"`
	State  State  `json:"state"`
}

// A Filter picks graphs or definitions: all that have what it names, and all if it is empty.
type Filter struct {
	InjectableName string `json:"injectableName,omitempty"`
	GraphID        string `json:"graphId,omitempty"`
	Target         string `json:"target,omitempty"`
}

// Filtered is the data of questions that have a filter.
type Filtered struct {
	Filter Filter `json:"filter"`
}

// ATask defines a task.
type ATask struct {
	Definition TaskDefinition `json:"definition"`
}

// AGraph defines a graph.
type AGraph struct {
	Definition GraphDefinition `json:"definition"`
}

// RunGraph has a graph run on a node.
type RunGraph struct {
	Name    string            `json:"name"`
	Options map[string]string `json:"options,omitempty"` // go before those of its tasks
	Target  string            `json:"target"`
}

// Instance names a graph that runs.
type Instance struct {
	Instance string `json:"instance"`
}

// GraphProperties tell how far a graph is.
type GraphProperties struct {
	Name     string        `json:"name"`
	Status   State         `json:"status"`
	Tasks    int           `json:"tasks"`
	ByStates map[State]int `json:"byStates"`
}

// Schedule has a task run as soon as may be.
type Schedule struct {
	TaskID    string            `json:"taskId"`
	TaskName  string            `json:"taskName"`
	Overrides map[string]string `json:"overrides,omitempty"`
	GraphID   string            `json:"graphId"`
	NodeID    string            `json:"nodeId"`
}

// RunTask has a task run now.
type RunTask struct {
	TaskID   string            `json:"taskId"`
	TaskName string            `json:"taskName"`
	Options  map[string]string `json:"options,omitempty"`
	GraphID  string            `json:"graphId"`
	NodeID   string            `json:"nodeId"`
}

// CancelTask stops a task, or has it not begin.
type CancelTask struct {
	TaskID  string `json:"taskId"`
	GraphID string `json:"graphId"`
}

// TaskFinished tells what has become of a task.
type TaskFinished struct {
	TaskID  string `json:"taskId"`
	GraphID string `json:"graphId"`
	NodeID  string `json:"nodeId"`
	State   State  `json:"state"`
	Error   string `json:"error,omitempty"` // of one that failed
	Runner  string `json:"runner"`          // who has run it
}

// GraphStarted tells that a graph runs.
type GraphStarted struct {
	GraphID string `json:"graphId"`
	Name    string `json:"name"`
	Target  string `json:"target"`
}

// GraphFinished tells what has become of a graph.
type GraphFinished struct {
	GraphID string `json:"graphId"`
	Name    string `json:"name"`
	Target  string `json:"target"`
	Status  State  `json:"status"`
}

// SkuAssigned tells what kind a node is of.
type SkuAssigned struct {
	NodeID string `json:"nodeId"`
	Sku    string `json:"sku"`
}

// IpmiCommand asks a node's management controller something.
type IpmiCommand struct {
	GraphID string `json:"graphId"`
	Command string `json:"command"` // power, sel or sdr
	NodeID  string `json:"nodeId"`
}

// IpmiResult is what a management controller says: readings by the sensor's name.
type IpmiResult struct {
	GraphID string            `json:"graphId"`
	Command string            `json:"command"`
	NodeID  string            `json:"nodeId"`
	Result  map[string]string `json:"result"`
}

// SnmpCommand asks a node for the values of objects.
type SnmpCommand struct {
	GraphID string   `json:"graphId"`
	NodeID  string   `json:"nodeId"`
	Oids    []string `json:"oids"`
}

// SnmpResult is values by object.
type SnmpResult struct {
	GraphID string            `json:"graphId"`
	NodeID  string            `json:"nodeId"`
	Result  map[string]string `json:"result"`
}

// PollerAlert tells of a reading that is not as it should be.
type PollerAlert struct {
	GraphID string `json:"graphId"`
	NodeID  string `json:"nodeId"`
	Reading string `json:"reading"`
	Value   string `json:"value"`
	Reason  string `json:"reason"`
}

// CacheQuestion asks for what a poller has heard last of a graph.
type CacheQuestion struct {
	Value string `json:"value"` // the graph
}

// Readings are what a poller has heard last, by source such as `ipmi.sdr`.
type Readings map[string]map[string]string

func (Filtered) Validate() error { return nil }

func (m ATask) Validate() error {
	return require(field{"injectableName", m.Definition.InjectableName})
}

func (m AGraph) Validate() error {
	var before []string
	for _, t := range m.Definition.Tasks {
		if err := require(field{"label", t.Label}, field{"taskName", t.TaskName}); err != nil {
			return err
		}
		if slices.Contains(before, t.Label) {
			return fmt.Errorf("there are two tasks %s", t.Label)
		}
		for _, w := range t.WaitOn {
			// Since each waits only on those before it, no two wait on each other.
			if !slices.Contains(before, w) {
				return fmt.Errorf("%s waits on %q, which is no task before it", t.Label, w)
			}
		}
		before = append(before, t.Label)
	}
	if len(before) == 0 {
		return fmt.Errorf("tasks are missing")
	}
	return require(field{"injectableName", m.Definition.InjectableName})
}

func (m RunGraph) Validate() error {
	return require(field{"name", m.Name}, field{"target", m.Target})
}

func (m Instance) Validate() error { return require(field{"instance", m.Instance}) }

func (m Schedule) Validate() error {
	return require(field{"taskId", m.TaskID}, field{"taskName", m.TaskName}, field{"graphId", m.GraphID}, field{"nodeId", m.NodeID})
}

func (m RunTask) Validate() error {
	return require(field{"taskId", m.TaskID}, field{"taskName", m.TaskName}, field{"graphId", m.GraphID}, field{"nodeId", m.NodeID})
}

func (m CancelTask) Validate() error {
	return require(field{"taskId", m.TaskID}, field{"graphId", m.GraphID})
}

func (m TaskFinished) Validate() error {
	if !m.State.IsEnd() {
		return fmt.Errorf("state %q is no end", m.State)
	}
	return require(field{"taskId", m.TaskID}, field{"graphId", m.GraphID}, field{"runner", m.Runner})
}

func (m GraphStarted) Validate() error {
	return require(field{"graphId", m.GraphID}, field{"name", m.Name}, field{"target", m.Target})
}

func (m GraphFinished) Validate() error {
	if !m.Status.IsEnd() {
		return fmt.Errorf("status %q is no end", m.Status)
	}
	return require(field{"graphId", m.GraphID}, field{"name", m.Name}, field{"target", m.Target})
}

func (m SkuAssigned) Validate() error { return require(field{"nodeId", m.NodeID}, field{"sku", m.Sku}) }

func (m IpmiCommand) Validate() error {
	if !slices.Contains([]string{"power", "sel", "sdr"}, m.Command) {
		return fmt.Errorf("command %q is none of power, sel and sdr", m.Command)
	}
	return require(field{"graphId", m.GraphID}, field{"nodeId", m.NodeID})
}

func (m IpmiResult) Validate() error {
	return require(field{"graphId", m.GraphID}, field{"command", m.Command}, field{"nodeId", m.NodeID})
}

func (m SnmpCommand) Validate() error {
	if len(m.Oids) == 0 {
		return fmt.Errorf("oids are missing")
	}
	return require(field{"graphId", m.GraphID}, field{"nodeId", m.NodeID})
}

func (m SnmpResult) Validate() error {
	return require(field{"graphId", m.GraphID}, field{"nodeId", m.NodeID})
}

func (m PollerAlert) Validate() error {
	return require(field{"graphId", m.GraphID}, field{"nodeId", m.NodeID}, field{"reading", m.Reading}, field{"reason", m.Reason})
}

func (m CacheQuestion) Validate() error { return require(field{"value", m.Value}) }
