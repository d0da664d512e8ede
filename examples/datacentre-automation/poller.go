package main

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"
)

// PollEvery is how often a poller asks.
const PollEvery = 10 * time.Second

// A Poll is what a poller asks again and again.
type Poll struct {
	GraphID  string
	NodeID   string
	Commands []string                                 // of IPMI: power, sel, sdr
	Oids     []string                                 // of SNMP
	Every    time.Duration                            // 0: PollEvery
	Alert    func(reading, value string) (why string) // "" if the reading is as it should be
}

// A Poller asks about a node, keeps what it hears last, and alerts.
type Poller struct {
	bus  *Bus
	poll Poll
	ipmi *Listener[IpmiResult]
	snmp *Listener[SnmpResult]

	mu       sync.Mutex
	readings Readings          // guarded by mu
	alerted  map[string]string // why, by reading: an alert is not repeated; guarded by mu
}

// NewPoller returns one that hears answers from now on.
func NewPoller(ctx context.Context, b *Bus, p Poll) (*Poller, error) {
	if p.Every <= 0 {
		p.Every = PollEvery
	}
	ipmi, err := listen[IpmiResult](ctx, b, IpmiAnswered, "*", p.GraphID)
	if err != nil {
		return nil, err
	}
	snmp, err := listen[SnmpResult](ctx, b, SnmpAnswered, p.GraphID)
	if err != nil {
		return nil, errors.Join(err, ipmi.source.Close())
	}
	return &Poller{bus: b, poll: p, ipmi: ipmi, snmp: snmp, readings: make(Readings), alerted: make(map[string]string)}, nil
}

// Run polls until ctx ends, at once first.
func (p *Poller) Run(ctx context.Context) error {
	s := p.bus.newServer()
	handle(s, RequestPollerCache, p.requestPollerCache)
	return together(ctx, s.Run, p.ask,
		func(ctx context.Context) error {
			return p.ipmi.run(ctx, func(ctx context.Context, m IpmiResult) error { return p.heard(ctx, "ipmi."+m.Command, m.Result) })
		},
		func(ctx context.Context) error {
			return p.snmp.run(ctx, func(ctx context.Context, m SnmpResult) error { return p.heard(ctx, "snmp", m.Result) })
		})
}

func (p *Poller) ask(ctx context.Context) error {
	next := time.NewTicker(p.poll.Every)
	defer next.Stop()
	for {
		if err := p.askOnce(ctx); err != nil && ctx.Err() == nil {
			p.bus.log.Warn("a poll is lost; the next one follows", "graph", p.poll.GraphID, "err", err)
		}
		select {
		case <-next.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *Poller) askOnce(ctx context.Context) error {
	for _, c := range p.poll.Commands {
		m := IpmiCommand{GraphID: p.poll.GraphID, Command: c, NodeID: p.poll.NodeID}
		if err := p.bus.Publish(ctx, AskIpmi, m, c, p.poll.GraphID); err != nil {
			return err
		}
	}
	if len(p.poll.Oids) == 0 {
		return nil
	}
	return p.bus.Publish(ctx, AskSnmp, SnmpCommand{GraphID: p.poll.GraphID, NodeID: p.poll.NodeID, Oids: p.poll.Oids}, p.poll.GraphID)
}

// heard keeps readings, and alerts when one begins to be, or is in another way, not as it
// should be.
func (p *Poller) heard(ctx context.Context, source string, readings map[string]string) error {
	p.mu.Lock()
	p.readings[source] = readings
	var alerts []PollerAlert
	for name, value := range readings {
		reading := source + "." + name
		why := ""
		if p.poll.Alert != nil {
			why = p.poll.Alert(name, value)
		}
		if why != "" && p.alerted[reading] != why {
			alerts = append(alerts, PollerAlert{GraphID: p.poll.GraphID, NodeID: p.poll.NodeID, Reading: reading, Value: value, Reason: why})
		}
		p.alerted[reading] = why
	}
	p.mu.Unlock()
	var errs []error
	for _, a := range alerts {
		errs = append(errs, p.bus.Publish(ctx, PollerAlerts, a, p.poll.GraphID))
	}
	return errors.Join(errs...)
}

func (p *Poller) requestPollerCache(_ context.Context, m CacheQuestion) (Readings, error) {
	if m.Value != p.poll.GraphID {
		return nil, notFound("nobody polls for graph %s here", m.Value)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.readings), nil
}
