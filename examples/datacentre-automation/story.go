package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The node of the story, and what is done with it.
const (
	node           = "node-42"
	mac            = "52:54:00:be:ef:01"
	discoveryGraph = "Graph.Discovery"
	burnInGraph    = "Graph.BurnIn"
)

// tell runs all roles on two machines and has things happen to a node.
func tell(ctx context.Context, redisA, redisB string, w io.Writer) (err error) {
	control, err := OpenBus(Options{Redis: redisA, Twin: 1001, Others: []uint32{1002}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	rack, err := OpenBus(Options{Redis: redisB, Twin: 1002, Others: []uint32{1001}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rack.Close()) }()

	n, err := NewNarrator(ctx, control, w)
	if err != nil {
		return err
	}
	system, err := NewSystem(ctx, control, rack, SystemOptions{
		Jobs: map[string]Job{
			"Task.Catalog":  CommandsJob("lshw -json", "dmidecode"),
			"Task.Firmware": func(context.Context, *Bus, RunTask) error { return nil },
			"Task.Stress":   untilCancelled,
		},
		Machine: warmMachine{}, DiscoveryGraph: discoveryGraph,
	})
	if err != nil {
		return errors.Join(err, n.everything.Close())
	}
	s := &story{Narrator: n, system: system}
	over := errors.New("the story is over") // which ends the roles, too
	err = together(ctx, n.Run, system.Run, func(ctx context.Context) error {
		if err := s.tell(ctx); err != nil {
			return err
		}
		return over
	})
	if err == nil {
		err = context.Cause(ctx) // before the end
	}
	if errors.Is(err, over) {
		n.say("\nThe end.")
		return nil
	}
	return err
}

// A story is told chapter by chapter. What is asked is asked of the bus, which finds the
// service.
type story struct {
	*Narrator
	system *System
}

func (s *story) tell(ctx context.Context) error {
	if err := s.system.Await(ctx); err != nil {
		return err
	}
	for _, chapter := range []func(context.Context) error{s.configure, s.boot, s.discover, s.poll, s.burnIn, s.log} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ask asks over a bus and tells the answer.
func ask[Out any](ctx context.Context, s *story, b *Bus, m Method, in Message, words ...string) (Out, error) {
	out, err := request[Out](ctx, b, m, in, words...)
	s.Answer(m, out, err)
	return out, err
}

func (s *story) configure(ctx context.Context) error {
	s.Chapter("An operator sets a name server, and the rack asks for it.")
	set := ConfigurationValue{Key: "dns", Value: json.RawMessage(`"10.1.1.1"`)}
	if _, err := ask[ConfigurationValue](ctx, s, s.system.Control, SetConfiguration, set); err != nil {
		return err
	}
	_, err := ask[ConfigurationValue](ctx, s, s.system.Rack, GetConfiguration, ConfigurationKey{Key: "dns"})
	return err
}

func (s *story) boot(ctx context.Context) error {
	s.Chapter("A node wakes up: it gets an address and a file, and not the one that nobody has.")
	lease, err := s.system.DHCP.Bind(ctx, node, mac)
	if err != nil {
		return err
	}
	if _, err := s.system.TFTP.Get(ctx, node, "undionly.kpxe"); err != nil {
		return err
	}
	if _, err := s.system.TFTP.Get(ctx, node, "windows.exe"); err == nil {
		return errors.New("a file was found that is not there")
	}
	if _, err := ask[Lease](ctx, s, s.system.Control, PinMAC, MACAddress{mac}); err != nil {
		return err
	}
	_, err = ask[Lease](ctx, s, s.system.Control, RemoveLeaseByIP, IPAddress{lease.IP})
	if err == nil {
		return errors.New("a pinned lease was removed")
	}
	return nil
}

func (s *story) discover(ctx context.Context) error {
	s.Chapter("An operator has the node discovered. The node asks what to boot and what to run.")
	for _, task := range []string{"Task.Catalog", "Task.Firmware", "Task.Stress"} {
		if _, err := ask[string](ctx, s, s.system.Rack, DefineTask, ATask{TaskDefinition{InjectableName: task, FriendlyName: task}}); err != nil {
			return err
		}
	}
	graph := GraphDefinition{InjectableName: discoveryGraph, FriendlyName: "Discovery", Tasks: []GraphTask{
		{Label: "catalog", TaskName: "Task.Catalog"},
		{Label: "firmware", TaskName: "Task.Firmware", WaitOn: []string{"catalog"}},
	}}
	if _, err := ask[string](ctx, s, s.system.Rack, DefineTaskGraph, AGraph{graph}); err != nil {
		return err
	}
	if _, err := request[Graph](ctx, s.system.Rack, RunTaskGraph, RunGraph{Name: discoveryGraph, Target: node}); err != nil {
		return err
	}
	// The node has the time to boot until a runner works on it.
	if err := s.system.Rack.awaitMethods(ctx, RequestProfile.Command(node), RequestCommands.Command(node), RespondCommands.Command(node)); err != nil {
		return err
	}
	if _, err := s.system.HTTP.Profile(ctx, node); err != nil {
		return err
	}
	commands, err := s.system.HTTP.Commands(ctx, node)
	if err != nil {
		return err
	}
	results := CommandResults{NodeID: node}
	for _, c := range commands.Commands {
		results.Results = append(results.Results, "output of "+c)
	}
	if err := s.system.HTTP.Respond(ctx, results); err != nil {
		return err
	}
	return s.Await(ctx, SkuWasAssigned.Topic(node))
}

func (s *story) poll(ctx context.Context) error {
	s.Chapter("A poller asks the node's management controller and its SNMP agent, and finds it too warm.")
	poller, err := NewPoller(ctx, s.system.Control, Poll{
		GraphID: "poll-42", NodeID: node, Commands: []string{"power", "sel", "sdr"}, Oids: []string{"sysUpTime"},
		Alert: func(reading, value string) string {
			if reading == "inlet" && value > "40" {
				return "above 40"
			}
			return ""
		},
	})
	if err != nil {
		return err
	}
	polling, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- poller.Run(polling) }()
	err = s.askPoller(ctx)
	stop()
	return errors.Join(err, <-ended)
}

func (s *story) askPoller(ctx context.Context) error {
	if err := s.Await(ctx, PollerAlerts.Topic("poll-42")); err != nil {
		return err
	}
	if err := s.system.Rack.awaitMethods(ctx, RequestPollerCache.Command()); err != nil {
		return err
	}
	if _, err := ask[Readings](ctx, s, s.system.Rack, RequestPollerCache, CacheQuestion{"poll-42"}); err != nil {
		return err
	}
	power := IpmiCommand{GraphID: "poll-42", Command: "power", NodeID: node}
	_, err := ask[IpmiResult](ctx, s, s.system.Control, CallIpmi, power, power.Command)
	return err
}

func (s *story) burnIn(ctx context.Context) error {
	s.Chapter("An operator has the node burnt in, pauses that, lets it go on, and has enough of it.")
	graph := GraphDefinition{InjectableName: burnInGraph, FriendlyName: "Burn-in", Tasks: []GraphTask{
		{Label: "stress", TaskName: "Task.Stress"},
	}}
	if _, err := ask[string](ctx, s, s.system.Rack, DefineTaskGraph, AGraph{graph}); err != nil {
		return err
	}
	running, err := request[Graph](ctx, s.system.Rack, RunTaskGraph, RunGraph{Name: burnInGraph, Target: node})
	if err != nil {
		return err
	}
	if _, err := request[Graph](ctx, s.system.Rack, RunTaskGraph, RunGraph{Name: burnInGraph, Target: node}); err == nil {
		return errors.New("a second graph runs on the node")
	}
	for _, m := range []Method{PauseTaskGraph, ResumeTaskGraph, CancelTaskGraph} {
		g, err := request[Graph](ctx, s.system.Rack, m, Filtered{Filter{Target: node}})
		s.Answer(m, g.Status, err)
		if err != nil {
			return err
		}
	}
	if err := s.Await(ctx, TaskHasFinished.Topic(running.Tasks["stress"].TaskID)); err != nil {
		return err
	}
	return s.Await(ctx, GraphHasEnded.Topic(running.GraphID))
}

func (s *story) log(ctx context.Context) error {
	s.Chapter("The services of the rack write to the log, which is kept.")
	logger := NewLogger(s.system.Rack, "dhcp")
	for _, level := range Levels() {
		if err := logger.Log(ctx, level, node, fmt.Sprintf("this is of level %s", level)); err != nil {
			return err
		}
	}
	for _, level := range Levels() {
		if err := s.Await(ctx, LogEntries(level).Topic()); err != nil {
			return err
		}
	}
	return nil
}

// untilCancelled is a job without an end of its own.
func untilCancelled(ctx context.Context, _ *Bus, _ RunTask) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// A warmMachine is too warm.
type warmMachine struct{}

func (warmMachine) Ipmi(_ context.Context, _, command string) (map[string]string, error) {
	return map[string]map[string]string{
		"power": {"state": "on"}, "sel": {"entries": "0"}, "sdr": {"inlet": "43"},
	}[command], nil
}

func (warmMachine) Snmp(_ context.Context, _ string, oids []string) (map[string]string, error) {
	values := make(map[string]string)
	for _, oid := range oids {
		values[oid] = "86400"
	}
	return values, nil
}
