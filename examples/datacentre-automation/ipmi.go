package main

import (
	"context"
	"errors"
)

// A Machine answers what its management controller, or its SNMP agent, is asked: readings by
// their names.
type Machine interface {
	Ipmi(ctx context.Context, nodeID, command string) (map[string]string, error)
	Snmp(ctx context.Context, nodeID string, oids []string) (map[string]string, error)
}

// A CommandService asks machines what pollers want to know.
type CommandService struct {
	bus     *Bus
	machine Machine
	ipmi    *Listener[IpmiCommand]
	snmp    *Listener[SnmpCommand]
}

// NewCommandService asks one machine, or what knows all of them.
func NewCommandService(ctx context.Context, b *Bus, m Machine) (*CommandService, error) {
	ipmi, err := listen[IpmiCommand](ctx, b, AskIpmi)
	if err != nil {
		return nil, err
	}
	snmp, err := listen[SnmpCommand](ctx, b, AskSnmp)
	if err != nil {
		return nil, errors.Join(err, ipmi.source.Close())
	}
	return &CommandService{b, m, ipmi, snmp}, nil
}

// Run works until ctx ends.
func (c *CommandService) Run(ctx context.Context) error {
	s := c.bus.newServer()
	for _, command := range []string{"power", "sel", "sdr"} {
		handle(s, CallIpmi, c.askIpmi, command)
	}
	return together(ctx, s.Run,
		func(ctx context.Context) error {
			return c.ipmi.run(ctx, func(ctx context.Context, m IpmiCommand) error {
				_, err := c.askIpmi(ctx, m)
				return err
			})
		},
		func(ctx context.Context) error { return c.snmp.run(ctx, c.askSnmp) })
}

// askIpmi tells the result to all who listen, and returns it to who has called.
func (c *CommandService) askIpmi(ctx context.Context, m IpmiCommand) (IpmiResult, error) {
	readings, err := c.machine.Ipmi(ctx, m.NodeID, m.Command)
	if err != nil {
		return IpmiResult{}, err
	}
	r := IpmiResult{GraphID: m.GraphID, Command: m.Command, NodeID: m.NodeID, Result: readings}
	return r, c.bus.Publish(ctx, IpmiAnswered, r, m.Command, m.GraphID)
}

func (c *CommandService) askSnmp(ctx context.Context, m SnmpCommand) error {
	readings, err := c.machine.Snmp(ctx, m.NodeID, m.Oids)
	if err != nil {
		return err
	}
	return c.bus.Publish(ctx, SnmpAnswered, SnmpResult{GraphID: m.GraphID, NodeID: m.NodeID, Result: readings}, m.GraphID)
}
