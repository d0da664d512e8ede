package main

import (
	"context"
	"fmt"

	"github.com/msgbusd/msgbusd/client"
)

// What every agent answers without a class of its own: its relay does.

// Echo has the relay of an agent say what it is told.
func (c *Caller) Echo(ctx context.Context, agent uint32, said string) (string, error) {
	answer, err := client.Call[string](ctx, c.bus, agent, "msgbus.ping", said)
	if err != nil {
		return "", fmt.Errorf("echo: %w", err)
	}
	return answer, nil
}

// A Greeting is what the relay of an agent says of itself.
type Greeting struct {
	Version string `json:"version"` // of msgbusd
	Twin    uint32 `json:"twin"`
}

// Hello asks the relay of an agent who it is.
func (c *Caller) Hello(ctx context.Context, agent uint32) (Greeting, error) {
	g, err := client.Call[Greeting](ctx, c.bus, agent, "msgbus.version", nil)
	if err != nil {
		return g, fmt.Errorf("hello: %w", err)
	}
	return g, nil
}

// Help returns what is served at an agent's twin now, as `<classname>.<method>@<version>`.
func (c *Caller) Help(ctx context.Context, agent uint32) ([]string, error) {
	type command struct {
		Name string `json:"name"`
	}
	type list struct {
		Commands []command `json:"commands"`
	}
	served, err := client.Call[list](ctx, c.bus, agent, "msgbus.commands", nil)
	if err != nil {
		return nil, fmt.Errorf("help: %w", err)
	}
	var names []string
	for _, cmd := range served.Commands {
		names = append(names, cmd.Name)
	}
	return names, nil
}
