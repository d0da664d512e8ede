package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// A Message is the data of an event or of a question. It is checked before it leaves and
// when it comes. An error says which field is not as it must be.
type Message interface{ Validate() error }

// A Result is the data of an answer. It always has a value, be it null: an answer without
// one is none.
type Result[T any] struct {
	Value T `json:"value"`
}

// Nothing is the data of questions that need none.
type Nothing struct{}

// ConfigurationValue sets a setting.
type ConfigurationValue struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"` // any JSON
}

// ConfigurationKey asks for a setting. Defaults, any JSON, is the answer when it is not set.
type ConfigurationKey struct {
	Key      string          `json:"key"`
	Defaults json.RawMessage `json:"defaults,omitempty"`
}

// TftpSuccess tells that a node has got a file.
type TftpSuccess struct {
	NodeID string `json:"nodeId"`
	File   string `json:"file"`
	Bytes  int    `json:"bytes"`
}

// TftpFailure tells that a node has not got a file, and why.
type TftpFailure struct {
	NodeID string `json:"nodeId"`
	File   string `json:"file"`
	Error  string `json:"error"`
}

// HTTPResponse tells what a node was answered.
type HTTPResponse struct {
	NodeID     string `json:"nodeId"`
	Method     string `json:"method"`
	URL        string `json:"url"`
	StatusCode int    `json:"statusCode"`
}

// A Lease is an address that a node has.
type Lease struct {
	NodeID string `json:"nodeId"`
	IP     string `json:"ip"`
	MAC    string `json:"mac"`
	Pinned bool   `json:"pinned"` // it is not removed
}

// An IPAddress is what a question is about.
type IPAddress struct {
	Value string `json:"value"`
}

// A MACAddress is what a question is about.
type MACAddress struct {
	Value string `json:"value"`
}

// A LogEvent is an entry of a log.
type LogEvent struct {
	Level     Level     `json:"level"`
	Module    string    `json:"module"`  // who writes
	Subject   string    `json:"subject"` // a node, or `server`
	Message   string    `json:"message"`
	Timestamp time.Time `json:"timestamp"`
}

// A NodeQuestion is about a node.
type NodeQuestion struct {
	NodeID string `json:"nodeId"`
}

// A Profile is what a node boots.
type Profile struct {
	Profile string            `json:"profile"`
	Options map[string]string `json:"options,omitempty"`
}

// Commands are what a node is to run.
type Commands struct {
	NodeID   string   `json:"nodeId"`
	Commands []string `json:"commands"`
}

// CommandResults are what the commands that a node has run printed, in their order.
type CommandResults struct {
	NodeID  string   `json:"nodeId"`
	Results []string `json:"results"`
}

// A Heartbeat tells that a process lives.
type Heartbeat struct {
	Name        string    `json:"name"`
	Host        string    `json:"host"`
	PID         int       `json:"pid"`
	MemoryUsage uint64    `json:"memoryUsage"` // bytes
	CPUUsage    float64   `json:"cpuUsage"`    // seconds since the process began
	NextUpdate  time.Time `json:"nextUpdate"`  // when the next one comes
}

// field is one that must not be empty.
type field struct{ name, value string }

func require(fields ...field) error {
	for _, f := range fields {
		if f.value == "" {
			return fmt.Errorf("%s is missing", f.name)
		}
	}
	return nil
}

func (Nothing) Validate() error { return nil }

func (m ConfigurationValue) Validate() error {
	return require(field{"key", m.Key}, field{"value", string(m.Value)})
}

func (m ConfigurationKey) Validate() error { return require(field{"key", m.Key}) }

func (m TftpSuccess) Validate() error {
	return require(field{"nodeId", m.NodeID}, field{"file", m.File})
}

func (m TftpFailure) Validate() error {
	return require(field{"nodeId", m.NodeID}, field{"file", m.File}, field{"error", m.Error})
}

func (m HTTPResponse) Validate() error {
	if m.StatusCode < 100 || m.StatusCode > 599 {
		return fmt.Errorf("statusCode %d is none", m.StatusCode)
	}
	return require(field{"nodeId", m.NodeID}, field{"method", m.Method}, field{"url", m.URL})
}

func (m Lease) Validate() error {
	if err := (IPAddress{m.IP}).Validate(); err != nil {
		return err
	}
	if err := (MACAddress{m.MAC}).Validate(); err != nil {
		return err
	}
	return require(field{"nodeId", m.NodeID})
}

func (m IPAddress) Validate() error {
	if _, err := netip.ParseAddr(m.Value); err != nil {
		return fmt.Errorf("%q is no IP address", m.Value)
	}
	return nil
}

func (m MACAddress) Validate() error {
	if _, err := net.ParseMAC(m.Value); err != nil {
		return fmt.Errorf("%q is no MAC address", m.Value)
	}
	return nil
}

func (m LogEvent) Validate() error {
	if !slices.Contains(Levels(), m.Level) {
		return fmt.Errorf("%q is no level", m.Level)
	}
	return require(field{"module", m.Module}, field{"subject", m.Subject}, field{"message", m.Message})
}

func (m NodeQuestion) Validate() error { return require(field{"nodeId", m.NodeID}) }

func (m CommandResults) Validate() error { return require(field{"nodeId", m.NodeID}) }

func (m Heartbeat) Validate() error {
	if m.PID <= 0 || m.NextUpdate.IsZero() {
		return fmt.Errorf("pid or nextUpdate is missing")
	}
	return require(field{"name", m.Name}, field{"host", m.Host})
}
