package relay

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Events are one-way requests to a command of the relay itself: their way to other twins,
// their order and that each arrives once is that of all requests. An app that publishes one
// names a topic and no twin; its relay knows who wants it.

func noTopic() *msgbus.Refusal {
	return msgbus.Refuse(msgbus.BadCommand, "received invalid message: an event needs a topic in ext")
}

// topicOf returns the topic of the event that a request is to this machine's apps, if it is
// one: services hear of a cancellation as of any event.
func topicOf(m *msgbus.Message) (topic string, isEvent bool) {
	switch m.Command {
	case msgbus.EventCommand:
		if m.Ext != nil {
			topic = m.Ext.Topic
		}
		return topic, true
	case msgbus.CancelCommand:
		return msgbus.CancelTopic, true
	}
	return "", false
}

// prepareEvents says of events that arrive who gets them here. Another twin's must be
// wanted: its relay sends none that are not.
func (r *Relay) prepareEvents(ctx context.Context, arrivals []*arrival) error {
	var events []*arrival
	var topics []string
	isForeign := false
	for _, a := range arrivals {
		topic, isEvent := topicOf(a.message)
		switch {
		case !isEvent || a.refusal != nil:
			continue
		case topic == "":
			a.refusal = noTopic()
			continue
		}
		isForeign = isForeign || a.message.Source != r.opts.Twin
		events, topics = append(events, a), append(topics, topic)
	}
	if len(events) == 0 {
		return nil
	}
	var wanted []msgbus.Subscription
	var err error
	if isForeign {
		if wanted, err = r.backlog.Subscribed(ctx); err != nil {
			return err
		}
	}
	listeners, err := r.backlog.Listeners(ctx, topics)
	if err != nil {
		return err
	}
	for i, a := range events {
		r.prepareEvent(a, topics[i], listeners[i], wanted)
	}
	return nil
}

func (r *Relay) prepareEvent(a *arrival, topic string, here msgbus.Listeners, wanted []msgbus.Subscription) {
	m := a.message
	isWanted := m.Source == r.opts.Twin || m.Command == msgbus.CancelCommand || slices.ContainsFunc(wanted, func(s msgbus.Subscription) bool {
		return s.Twin == m.Source && msgbus.MatchTopic(s.Pattern, topic)
	})
	if !isWanted {
		a.refusal = msgbus.Refuse(msgbus.NotSubscribed, "nobody here wants events of twin %d about %s", m.Source, topic)
		return
	}
	a.Effect = &msgbus.Effect{Event: string(m.AppendEvent(nil, topic)), Channels: here.Channels}
	if m.Command == msgbus.CancelCommand || m.Ext.Durable {
		a.Effect.Exchange, _ = msgbus.SplitTopic(topic)
	}
	if m.Command == msgbus.EventCommand && m.Ext.Retain {
		a.Effect.Retained = strconv.FormatUint(uint64(m.Source), 10) + " " + topic
	}
	a.result = encoded(struct {
		Listeners int64 `json:"listeners"`
	}{here.Count})
}

// A wish is what a twin asks for with msgbus.subscribe.
type wish struct {
	Patterns []string `json:"patterns"`
	Lease    int64    `json:"lease"`           // seconds; 0: not any more
	Renew    bool     `json:"renew,omitempty"` // it has asked before
}

// Limits of a wish.
const (
	patternsMost = 100
	leaseMost    = 24 * time.Hour
)

// prepareSubscription reads what a twin wants. What is retained of it follows when it is new.
func (r *Relay) prepareSubscription(ctx context.Context, a *arrival) error {
	var w wish
	data, err := base64.StdEncoding.DecodeString(a.message.Data)
	if err == nil {
		err = json.Unmarshal(data, &w)
	}
	if err != nil || len(w.Patterns) == 0 || len(w.Patterns) > patternsMost || w.Lease < 0 || w.Lease > int64(leaseMost.Seconds()) ||
		slices.ContainsFunc(w.Patterns, func(p string) bool { return !msgbus.ValidPattern(p) }) {
		a.refusal = msgbus.Refuse(msgbus.BadCommand, `received invalid message: %s wants {"patterns":[…],"lease":…}: at most %d patterns, and seconds up to %d`,
			a.Command, patternsMost, int64(leaseMost.Seconds()))
		return nil
	}
	a.Effect = &msgbus.Effect{Patterns: w.Patterns, Lease: w.Lease * 1000}
	a.result = encoded(struct{}{})
	if w.Lease == 0 {
		return nil
	}
	a.news = w.Patterns
	if w.Renew {
		before, err := r.backlog.Subscribers(ctx)
		if err != nil {
			return err
		}
		a.news = slices.DeleteFunc(slices.Clone(w.Patterns), func(p string) bool {
			return slices.Contains(before, msgbus.Subscription{Twin: a.message.Source, Pattern: p})
		})
	}
	return nil
}

// sendNews sends a twin what is retained of what it has begun to want.
func (r *Relay) sendNews(ctx context.Context, twin uint32, arrivals []*arrival) error {
	for _, a := range arrivals {
		if !a.isHere || len(a.news) == 0 {
			continue
		}
		if err := r.sendRetained(ctx, twin, a.news); err != nil {
			return err
		}
		a.news = nil
	}
	return nil
}

// An event as AppendEvent writes it.
type event struct {
	Topic string          `json:"topic"`
	Data  string          `json:"dat"`
	Shm   string          `json:"shm"`
	Tag   json.RawMessage `json:"tag,omitempty"`
}

// sendRetained sends a twin the latest events of what it has begun to want.
func (r *Relay) sendRetained(ctx context.Context, twin uint32, patterns []string) error {
	if twin == r.opts.Twin { // who is here reads them himself
		return nil
	}
	events, err := r.backlog.Retained(ctx, patterns)
	if err != nil {
		return err
	}
	var requests [][]byte
	for _, text := range events {
		var e event
		if json.Unmarshal([]byte(text), &e) != nil || !msgbus.ValidTopic(e.Topic) {
			continue // some program's of this machine
		}
		m := r.ownRequest(msgbus.EventCommand, e.Data, twin)
		m.Schema, m.Ext.Topic, m.Ext.Retain, m.Ext.Tag = e.Shm, e.Topic, true, e.Tag
		requests = append(requests, m.AppendWire(nil))
	}
	return r.backlog.PushLocal(ctx, requests)
}

// subscriptionLease is how long another twin goes on to send events after it was last asked
// for them.
const subscriptionLease = time.Minute

// ownRequest is a request that the relay itself makes, of which it wants to know nothing.
func (r *Relay) ownRequest(cmd, data string, twins ...uint32) *msgbus.Message {
	return &msgbus.Message{
		Version: msgbus.Version, Command: cmd, Data: data, Destinations: twins, Retry: math.MaxInt16,
		Expiration: int64(subscriptionLease.Seconds()), Ext: &msgbus.Ext{OneWay: true},
	}
}

// renewSubscriptions asks other twins again for what this machine's apps want.
func (r *Relay) renewSubscriptions(ctx context.Context) error {
	due, ended, err := r.backlog.DueSubscriptions(ctx)
	if err != nil {
		return err
	}
	requests := r.wishes(due, subscriptionLease)
	return r.backlog.PushLocal(ctx, append(requests, r.wishes(ended, 0)...))
}

func (r *Relay) wishes(subscriptions []msgbus.Subscription, lease time.Duration) (requests [][]byte) {
	byTwin := make(map[uint32][]string)
	for _, s := range subscriptions {
		if s.Twin != r.opts.Twin {
			byTwin[s.Twin] = append(byTwin[s.Twin], s.Pattern)
		}
	}
	for twin, patterns := range byTwin {
		for some := range slices.Chunk(patterns, patternsMost) {
			w := wish{Patterns: some, Lease: int64(lease.Seconds()), Renew: true}
			requests = append(requests, r.ownRequest(msgbus.SubscribeCommand, encoded(w), twin).AppendWire(nil))
		}
	}
	return requests
}
