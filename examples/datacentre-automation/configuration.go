package main

import (
	"context"
	"encoding/json"
	"sync"
)

// A ConfigurationService keeps the system's settings while it runs.
type ConfigurationService struct {
	bus *Bus

	mu       sync.Mutex
	settings map[string]json.RawMessage // guarded by mu
}

// NewConfigurationService returns a service without settings.
func NewConfigurationService(b *Bus) *ConfigurationService {
	return &ConfigurationService{bus: b, settings: make(map[string]json.RawMessage)}
}

// Run serves until ctx ends.
func (c *ConfigurationService) Run(ctx context.Context) error {
	s := c.bus.newServer()
	handle(s, SetConfiguration, c.set)
	handle(s, GetConfiguration, c.get)
	return s.Run(ctx)
}

// set answers the setting.
func (c *ConfigurationService) set(_ context.Context, m ConfigurationValue) (ConfigurationValue, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings[m.Key] = m.Value
	return m, nil
}

// get answers the setting, or what was given in its place.
func (c *ConfigurationService) get(_ context.Context, m ConfigurationKey) (ConfigurationValue, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, ok := c.settings[m.Key]
	if !ok {
		value = m.Defaults
	}
	if value == nil {
		return ConfigurationValue{}, notFound("there is no setting %s", m.Key)
	}
	return ConfigurationValue{Key: m.Key, Value: value}, nil
}
