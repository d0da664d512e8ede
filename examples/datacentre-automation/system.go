package main

import (
	"context"
	"net/netip"
	"time"
)

// A System is all roles on two machines: those that decide are on the control machine, those
// that touch the nodes on the rack's.
type System struct {
	Control, Rack *Bus

	Configuration *ConfigurationService // control
	Graphs        *GraphRunner          // control
	Schedulers    []*Scheduler          // control
	SKU           *SKUService           // control
	DHCP          *DHCPService          // rack, as all that follow
	TFTP          *TFTPService
	HTTP          *HTTPService
	Runners       []*TaskRunner
	Commands      *CommandService

	hearts []*Heart
}

// SystemOptions are what a system works with.
type SystemOptions struct {
	Jobs           map[string]Job // by names of tasks
	Machine        Machine
	DiscoveryGraph string        // after which a node is of a kind
	Heartbeat      time.Duration // 0: HeartbeatEvery
}

// NewSystem has two schedulers, and two runners that share the tasks. What it has heard of by
// then its roles deal with once Run is called.
func NewSystem(ctx context.Context, control, rack *Bus, o SystemOptions) (*System, error) {
	s := &System{
		Control: control, Rack: rack,
		Configuration: NewConfigurationService(control),
		DHCP:          NewDHCPService(rack, netip.MustParseAddr("10.1.1.10"), netip.MustParseAddr("10.1.1.99")),
		TFTP:          NewTFTPService(rack, map[string][]byte{"undionly.kpxe": make([]byte, 1024)}),
		HTTP:          NewHTTPService(rack),
		hearts:        []*Heart{NewHeart(control, "control", o.Heartbeat), NewHeart(rack, "rack", o.Heartbeat)},
	}
	var err error
	if s.Graphs, err = NewGraphRunner(ctx, control); err != nil {
		return nil, err
	}
	rule := func(string) string { return "2U-storage" }
	if s.SKU, err = NewSKUService(ctx, control, o.DiscoveryGraph, rule); err != nil {
		return nil, err
	}
	if s.Commands, err = NewCommandService(ctx, rack, o.Machine); err != nil {
		return nil, err
	}
	for _, name := range []string{"one", "two"} {
		scheduler, err := NewScheduler(ctx, control, Domain, "scheduler-"+name)
		if err != nil {
			return nil, err
		}
		runner, err := NewTaskRunner(ctx, rack, Domain, "runner-"+name, o.Jobs)
		if err != nil {
			return nil, err
		}
		s.Schedulers, s.Runners = append(s.Schedulers, scheduler), append(s.Runners, runner)
	}
	return s, nil
}

// Run has all roles work until ctx ends.
func (s *System) Run(ctx context.Context) error {
	loops := []func(context.Context) error{s.Configuration.Run, s.Graphs.Run, s.SKU.Run, s.DHCP.Run, s.Commands.Run}
	for _, r := range s.Schedulers {
		loops = append(loops, r.Run)
	}
	for _, r := range s.Runners {
		loops = append(loops, r.Run)
	}
	for _, h := range s.hearts {
		loops = append(loops, h.Run)
	}
	return together(ctx, loops...)
}

// Await waits until all methods are served that are served all the time.
func (s *System) Await(ctx context.Context) error {
	return s.Control.awaitMethods(ctx,
		SetConfiguration.Command(), GetConfiguration.Command(),
		LookupIPLease.Command(), UnpinIP.Command(),
		DefineTask.Command(), RunTaskGraph.Command(), ResumeTaskGraph.Command(), GetTaskGraphProperties.Command(),
		CallIpmi.Command("power"), CallIpmi.Command("sel"), CallIpmi.Command("sdr"))
}
