package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/msgbus"
)

// document is the document's list: exchanges with their keys, in its words and its order.
var document = []string{
	"configuration/methods.set", "configuration/methods.get",
	"events/tftp.success.[nodeid]", "events/tftp.failure.[nodeid]", "events/http.response.[nodeid]", "events/dhcp.bind.success.[nodeid]",
	"events/task.finished.[taskid]", "events/graph.started.[graphid]", "events/graph.finished.[graphid]", "events/sku.assigned.[nodeid]",
	"http/http.response",
	"dhcp/methods.lookupIpLease", "dhcp/methods.ipInRange", "dhcp/methods.peekLeaseTable", "dhcp/methods.removeLease",
	"dhcp/methods.removeLeaseByIp", "dhcp/methods.pinMac", "dhcp/methods.unpinMac", "dhcp/methods.pinIp", "dhcp/methods.unpinIp",
	"logging/emerg", "logging/alert", "logging/error", "logging/warning", "logging/notice", "logging/info", "logging/debug", "logging/silly",
	"task-graph-runner/methods.getTaskGraphLibrary", "task-graph-runner/methods.getTaskLibrary",
	"task-graph-runner/methods.getActiveTaskGraph", "task-graph-runner/methods.getActiveTaskGraphs",
	"task-graph-runner/methods.defineTaskGraph", "task-graph-runner/methods.defineTask", "task-graph-runner/methods.runTaskGraph",
	"task-graph-runner/methods.cancelTaskGraph", "task-graph-runner/methods.pauseTaskGraph", "task-graph-runner/methods.resumeTaskGraph",
	"task-graph-runner/methods.getTaskGraphProperties",
	"scheduler/schedule",
	"task/run.[taskid]", "task/cancel.[taskid]",
	"task/methods.requestProfile.[id]", "task/methods.requestProperties.[id]", "task/methods.requestCommands.[id]",
	"task/methods.respondCommands.[id]", "task/methods.getBootProfile.[nodeid]", "task/methods.activeTaskExists.[nodeId]",
	"task/methods.requestPollerCache",
	"task/ipmi.command.[command].[graphid]", "task/ipmi.command.[command].result.[graphid]",
	"task/run.snmp.command.[graphid]", "task/snmp.command.result.[graphid]", "task/poller.alert.[graphid]",
}

// A told message is an event that a role on one machine publishes and the other machine
// hears.
type told struct {
	event  Event
	sender uint32
	ids    []string // names of the fields that say what the words in brackets are
	fields string   // all names, in their order
}

// An asked one is a question of one machine, answered by the other.
type asked struct {
	method Method
	from   *Bus
	in     Message
	words  []string
	fields string // of the value, or of its first element; or the value itself
}

// A service of the next release asks what nobody here answers, or waits for an event that
// nobody sends, or finds a field missing.
func TestEveryMessageOfTheDocumentPassesBetweenTwoRelays(t *testing.T) {
	r := newRig(t)
	seen := map[uint32]*recorder{r.a.ID: r.record(r.rack), r.b.ID: r.record(r.control)} // by sender
	active := r.playAll()
	passes := r.passes(active)
	for _, entry := range document {
		pass, ok := passes[entry]
		delete(passes, entry)
		switch p := pass.(type) {
		case told:
			if topic := p.event.Exchange + "/" + p.event.Key; topic != entry {
				t.Errorf("%s is sent as %s", entry, topic)
			}
			r.wantTold(seen[p.sender], p)
		case asked:
			if command := p.method.Exchange + "/" + p.method.Key; command != entry {
				t.Errorf("%s is asked as %s", entry, command)
			}
			r.wantAnswered(p)
		default:
			t.Errorf("%s does not pass: %v", entry, ok)
		}
	}
	for entry := range maps.Keys(passes) {
		t.Errorf("%s is not in the document", entry)
	}
	r.wantNothingElse(seen)
}

// playAll has the roles do all that events come of. It returns a graph that still runs.
func (r *rig) playAll() (active Graph) {
	r.Helper()
	ctx := r.patient()
	s := r.start(SystemOptions{DiscoveryGraph: "Graph.Discovery", Jobs: map[string]Job{
		"Task.Quick": func(context.Context, *Bus, RunTask) error { return nil },
		"Task.Node":  CommandsJob("dmidecode"), "Task.Stress": untilCancelled,
	}})
	for _, n := range []string{"1", "2", "3"} {
		_, err := s.DHCP.Bind(ctx, "node-"+n, "52:54:00:00:00:0"+n)
		r.must(err)
	}
	_, err := s.TFTP.Get(ctx, "node-1", "undionly.kpxe")
	r.must(err)
	if _, err = s.TFTP.Get(ctx, "node-1", "no.such"); err == nil {
		r.Error("a file is there that is not")
	}
	_, err = s.HTTP.Profile(ctx, "node-1")
	r.must(err)
	for _, level := range Levels() {
		r.must(NewLogger(r.rack, "dhcp").Log(ctx, level, "node-1", "hello"))
	}

	ended := hearing[GraphFinished](r, r.rack, GraphHasEnded)
	r.define("Graph.Discovery", GraphTask{Label: "quick", TaskName: "Task.Quick"})
	r.define("Graph.Node", GraphTask{Label: "node", TaskName: "Task.Node"})
	r.define("Graph.Stress", GraphTask{Label: "stress", TaskName: "Task.Stress"})
	r.runGraph("Graph.Discovery", "node-1")
	ended.next()
	poller, err := NewPoller(ctx, r.control, Poll{
		GraphID: "poll-1", NodeID: "node-1", Commands: []string{"power", "sel", "sdr"}, Oids: []string{"sysUpTime"}, Every: 200 * time.Millisecond,
		Alert: func(string, string) string { return "too warm" },
	})
	r.must(err)
	r.run(poller.Run)
	fleettest.Eventually(r, "the poller has heard all", func() error {
		got, err := request[Readings](ctx, r.rack, RequestPollerCache, CacheQuestion{"poll-1"})
		if err == nil && len(got) != 4 {
			err = fmt.Errorf("it has %v", got)
		}
		return err
	})
	r.runGraph("Graph.Stress", "node-3")
	r.runGraph("Graph.Node", "node-4")
	return r.runGraph("Graph.Node", "node-1")
}

// passes is how each message of the document passes.
func (r *rig) passes(active Graph) map[string]any {
	control, rack := r.a.ID, r.b.ID
	ip, mac := "10.1.1.10", "52:54:00:00:00:01"
	lease, graph := "nodeId ip mac pinned", "graphId name target status tasks"
	one := Filtered{Filter{GraphID: active.GraphID}}
	atNode := func(m Method, node string, in Message, fields string) asked {
		return asked{m, r.control, in, []string{node}, fields}
	}
	all := map[string]any{
		"configuration/methods.set": asked{SetConfiguration, r.rack, ConfigurationValue{"dns", json.RawMessage(`7`)}, nil, "key value"},
		"configuration/methods.get": asked{GetConfiguration, r.rack, ConfigurationKey{Key: "dns"}, nil, "key value"},

		"events/tftp.success.[nodeid]":      told{TftpSucceeded, rack, []string{"nodeId"}, "nodeId file bytes"},
		"events/tftp.failure.[nodeid]":      told{TftpFailed, rack, []string{"nodeId"}, "nodeId file error"},
		"events/http.response.[nodeid]":     told{HTTPResponded, rack, []string{"nodeId"}, "nodeId method url statusCode"},
		"events/dhcp.bind.success.[nodeid]": told{DhcpBound, rack, []string{"nodeId"}, lease},
		"events/task.finished.[taskid]":     told{TaskHasFinished, rack, []string{"taskId"}, "taskId graphId nodeId state runner"},
		"events/graph.started.[graphid]":    told{GraphHasStarted, control, []string{"graphId"}, "graphId name target"},
		"events/graph.finished.[graphid]":   told{GraphHasEnded, control, []string{"graphId"}, "graphId name target status"},
		"events/sku.assigned.[nodeid]":      told{SkuWasAssigned, control, []string{"nodeId"}, "nodeId sku"},
		"http/http.response":                told{HTTPRespondedToo, rack, nil, "nodeId method url statusCode"},

		"dhcp/methods.lookupIpLease":   asked{LookupIPLease, r.control, IPAddress{ip}, nil, lease},
		"dhcp/methods.ipInRange":       asked{IPInRange, r.control, IPAddress{ip}, nil, "true"},
		"dhcp/methods.peekLeaseTable":  asked{PeekLeaseTable, r.control, Nothing{}, nil, lease},
		"dhcp/methods.removeLease":     asked{RemoveLease, r.control, MACAddress{"52:54:00:00:00:02"}, nil, lease},
		"dhcp/methods.removeLeaseByIp": asked{RemoveLeaseByIP, r.control, IPAddress{"10.1.1.12"}, nil, lease},
		"dhcp/methods.pinMac":          asked{PinMAC, r.control, MACAddress{mac}, nil, lease},
		"dhcp/methods.unpinMac":        asked{UnpinMAC, r.control, MACAddress{mac}, nil, lease},
		"dhcp/methods.pinIp":           asked{PinIP, r.control, IPAddress{ip}, nil, lease},
		"dhcp/methods.unpinIp":         asked{UnpinIP, r.control, IPAddress{ip}, nil, lease},

		"task-graph-runner/methods.getTaskGraphLibrary":    asked{GetTaskGraphLibrary, r.rack, Filtered{}, nil, "injectableName friendlyName tasks"},
		"task-graph-runner/methods.getTaskLibrary":         asked{GetTaskLibrary, r.rack, Filtered{}, nil, "injectableName friendlyName"},
		"task-graph-runner/methods.getActiveTaskGraph":     asked{GetActiveTaskGraph, r.rack, one, nil, graph},
		"task-graph-runner/methods.getActiveTaskGraphs":    asked{GetActiveTaskGraphs, r.rack, Filtered{}, nil, graph},
		"task-graph-runner/methods.runTaskGraph":           asked{RunTaskGraph, r.rack, RunGraph{Name: "Graph.Discovery", Target: "node-9"}, nil, graph},
		"task-graph-runner/methods.cancelTaskGraph":        asked{CancelTaskGraph, r.rack, Filtered{Filter{Target: "node-3"}}, nil, graph},
		"task-graph-runner/methods.pauseTaskGraph":         asked{PauseTaskGraph, r.rack, one, nil, graph},
		"task-graph-runner/methods.resumeTaskGraph":        asked{ResumeTaskGraph, r.rack, one, nil, graph},
		"task-graph-runner/methods.getTaskGraphProperties": asked{GetTaskGraphProperties, r.rack, Instance{active.GraphID}, nil, "name status tasks byStates"},
		"task-graph-runner/methods.defineTask":             asked{DefineTask, r.rack, ATask{TaskDefinition{InjectableName: "Task.New"}}, nil, `"Task.New"`},
		"task-graph-runner/methods.defineTaskGraph": asked{
			DefineTaskGraph, r.rack, AGraph{GraphDefinition{InjectableName: "Graph.New", Tasks: []GraphTask{{Label: "a", TaskName: "Task.Quick"}}}}, nil, `"Graph.New"`,
		},

		"scheduler/schedule":   told{ScheduleTask, control, nil, "taskId taskName overrides graphId nodeId"},
		"task/run.[taskid]":    told{RunATask, control, []string{"taskId"}, "taskId taskName options graphId nodeId"},
		"task/cancel.[taskid]": told{CancelATask, control, []string{"taskId"}, "taskId graphId"},

		"task/methods.requestProfile.[id]":       atNode(RequestProfile, "node-1", NodeQuestion{"node-1"}, "profile options"),
		"task/methods.requestProperties.[id]":    atNode(RequestProperties, "node-1", NodeQuestion{"node-1"}, "taskId taskName"),
		"task/methods.requestCommands.[id]":      atNode(RequestCommands, "node-1", NodeQuestion{"node-1"}, "nodeId commands"),
		"task/methods.getBootProfile.[nodeid]":   atNode(GetBootProfile, "node-4", NodeQuestion{"node-4"}, "profile"),
		"task/methods.activeTaskExists.[nodeId]": atNode(ActiveTaskExists, "node-4", NodeQuestion{"node-4"}, "true"),
		"task/methods.respondCommands.[id]":      atNode(RespondCommands, "node-1", CommandResults{"node-1", []string{"BIOS"}}, ""),
		"task/methods.requestPollerCache":        asked{RequestPollerCache, r.rack, CacheQuestion{"poll-1"}, nil, "ipmi.power ipmi.sdr ipmi.sel snmp"},

		"task/ipmi.command.[command].[graphid]":        told{AskIpmi, control, []string{"command", "graphId"}, "graphId command nodeId"},
		"task/ipmi.command.[command].result.[graphid]": told{IpmiAnswered, rack, []string{"command", "graphId"}, "graphId command nodeId result"},
		"task/run.snmp.command.[graphid]":              told{AskSnmp, control, []string{"graphId"}, "graphId nodeId oids"},
		"task/snmp.command.result.[graphid]":           told{SnmpAnswered, rack, []string{"graphId"}, "graphId nodeId result"},
		"task/poller.alert.[graphid]":                  told{PollerAlerts, control, []string{"graphId"}, "graphId nodeId reading value reason"},
	}
	for _, level := range Levels() {
		all["logging/"+string(level)] = told{LogEntries(level), rack, nil, "level module subject message timestamp"}
	}
	return all
}

// wantTold wants a message to have come from the other machine.
func (r *rig) wantTold(seen *recorder, p told) {
	r.Helper()
	e, err := seen.await(r.patient(), p.event.Pattern(), func(e *client.Event) bool {
		return e.Source == p.sender && msgbus.MatchTopic(p.event.Pattern(), e.Topic)
	})
	if err != nil {
		r.Error(err)
		return
	}
	if got, want := namesIn(e.Data), sorted(p.fields); got != want {
		r.Errorf("%s has the fields %q, want %q", e.Topic, got, want)
	}
	var data map[string]any
	r.must(e.Decode(&data))
	var words []string
	for _, id := range p.ids {
		words = append(words, fmt.Sprint(data[id]))
	}
	if want := p.event.Topic(words...); e.Topic != want {
		r.Errorf("what its fields say belongs under %s, not %s", want, e.Topic)
	}
	if e.Schema == "" {
		r.Errorf("%s does not say what type it is of", e.Topic)
	}
}

// wantAnswered wants a question to be answered by the other machine.
func (r *rig) wantAnswered(p asked) {
	r.Helper()
	command := p.method.Command(p.words...)
	r.must(p.from.awaitMethods(r.patient(), command))
	value, err := request[json.RawMessage](r.patient(), p.from, p.method, p.in, p.words...)
	if err != nil {
		r.Error(err)
		return
	}
	if got, want := namesIn(value), sorted(p.fields); got != want {
		r.Errorf("%s answers %s with the fields %q, want %q", command, value, got, want)
	}
	served, err := served(r.patient(), p.from, p.from.twin)
	if err != nil || slices.Contains(served, command) {
		r.Errorf("%s does not pass between two relays: twin %d serves it itself (%v)", command, p.from.twin, err)
	}
}

// wantNothingElse wants nothing to have passed that is neither in the document nor a
// heartbeat: above all nothing on the exchange tftp, for which the document defines nothing.
func (r *rig) wantNothingElse(seen map[uint32]*recorder) {
	r.Helper()
	patterns := []string{HeartBeat.Pattern(), "msgbus/#"}
	for _, pass := range r.passes(Graph{}) {
		if p, ok := pass.(told); ok {
			patterns = append(patterns, p.event.Pattern())
		}
	}
	for _, rec := range seen {
		rec.mu.Lock()
		for _, e := range rec.events {
			if !slices.ContainsFunc(patterns, func(p string) bool { return msgbus.MatchTopic(p, e.Topic) }) {
				r.Errorf("%s passes, which is not in the document", e.Topic)
			}
		}
		rec.mu.Unlock()
	}
}

// namesIn is the names of a JSON object's members, or of the first of a list of objects; of
// other JSON it is the text.
func namesIn(raw []byte) string {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && len(list) > 0 {
		raw = list[0]
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return string(raw)
	}
	return strings.Join(slices.Sorted(maps.Keys(object)), " ")
}

func sorted(names string) string {
	all := strings.Fields(names)
	slices.Sort(all)
	return strings.Join(all, " ")
}
