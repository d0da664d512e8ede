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
	var wanted []msgbus.Subscription
	isRead := false
	var events []*arrival
	var topics []string
	for _, a := range arrivals {
		topic, isEvent := topicOf(a.message)
		switch {
		case !isEvent || a.refusal != nil:
			continue
		case topic == "":
			a.refusal = noTopic()
			continue
		}
		if a.message.Command == msgbus.CancelCommand {
			if a.refusal = tooLargeToCancel(a.message); a.refusal != nil {
				continue
			}
		} else if a.message.Source != r.opts.Twin {
			if !isRead {
				var err error
				if wanted, err = r.backlog.Subscribed(ctx); err != nil {
					return err
				}
				isRead = true
			}
			if a.refusal = refuseEvent(a.message, topic, wanted); a.refusal != nil {
				continue
			}
		}
		events, topics = append(events, a), append(topics, topic)
	}
	if len(events) == 0 {
		return nil
	}
	listeners, err := r.backlog.Listeners(ctx, topics)
	if err != nil {
		return err
	}
	for i, a := range events {
		prepareEvent(a, topics[i], listeners[i])
	}
	return nil
}

// tooLargeToCancel refuses what no service needs to know of a cancellation: all keep it in mind.
func tooLargeToCancel(m *msgbus.Message) *msgbus.Refusal {
	if size := len(m.Data) + len(m.Schema); size > msgbus.MaxCancel {
		return msgbus.Refuse(msgbus.TooLarge, "dat and shm of %s have %d bytes, at most %d are allowed", m.Command, size, msgbus.MaxCancel)
	}
	return nil
}

// refuseEvent tells why another twin's event is not taken.
func refuseEvent(m *msgbus.Message, topic string, wanted []msgbus.Subscription) *msgbus.Refusal {
	switch {
	case len(m.Data)+len(m.Schema) > msgbus.MaxEvent:
		return msgbus.Refuse(msgbus.TooLarge, "an event of %d bytes, at most %d are allowed", len(m.Data)+len(m.Schema), msgbus.MaxEvent)
	case !slices.ContainsFunc(wanted, func(s msgbus.Subscription) bool {
		return s.Twin == m.Source && msgbus.MatchTopic(s.Pattern, topic)
	}):
		return msgbus.Refuse(msgbus.NotSubscribed, "nobody here wants events of twin %d about %s", m.Source, topic)
	}
	return nil
}

func prepareEvent(a *arrival, topic string, here msgbus.Listeners) {
	m := a.message
	a.Effect = &msgbus.Effect{Event: string(m.AppendEvent(nil, topic)), Channels: here.Channels}
	if m.Command == msgbus.CancelCommand || m.Ext.Durable {
		a.Effect.Exchange, _ = msgbus.SplitTopic(topic)
	}
	if m.Command == msgbus.EventCommand && m.Ext.Retain {
		a.Effect.Retained = strconv.FormatUint(uint64(m.Source), 10) + " " + topic
		a.Effect.At, a.Effect.Latest, a.Effect.Forget = m.Ext.At, m.Ext.Latest, m.Data == ""
	}
	a.result = encoded(struct {
		Listeners int64 `json:"listeners"`
	}{here.Count})
}

// A wish is what a twin asks for with msgbus.subscribe.
type wish struct {
	Patterns []string `json:"patterns"`
	Lease    int64    `json:"lease"` // seconds; 0: not any more
}

// Limits of a wish.
const (
	patternsMost = 100
	leaseMost    = 24 * time.Hour
)

// prepareSubscriptions reads what a twin wants. What is retained of it follows when it is new.
func (r *Relay) prepareSubscriptions(ctx context.Context, arrivals []*arrival) error {
	var before []msgbus.Subscription
	isRead := false
	for _, a := range arrivals {
		if a.refusal != nil || a.Command != msgbus.SubscribeCommand {
			continue
		}
		w, ok := readWish(a.message.Data)
		if !ok {
			a.refusal = msgbus.Refuse(msgbus.BadCommand, `received invalid message: %s wants {"patterns":[…],"lease":…}: at most %d patterns, and seconds up to %d`,
				a.Command, patternsMost, int64(leaseMost.Seconds()))
			continue
		}
		a.Effect = &msgbus.Effect{Patterns: w.Patterns, Lease: w.Lease * 1000}
		a.result = encoded(struct{}{})
		if w.Lease == 0 || a.message.Source == r.opts.Twin { // who is here reads what is retained himself
			continue
		}
		if !isRead {
			var err error
			if before, err = r.backlog.Subscribers(ctx); err != nil {
				return err
			}
			isRead = true
		}
		a.all = w.Patterns
		a.news = slices.DeleteFunc(slices.Clone(w.Patterns), func(p string) bool {
			return slices.Contains(before, msgbus.Subscription{Twin: a.message.Source, Pattern: p})
		})
		if len(a.news) > 0 && !r.newcomers.allow(a.message.Source) {
			a.refusal = msgbus.Refuse(msgbus.QueueFull, "twin %d begins to want too much at once", a.message.Source)
		}
	}
	return nil
}

func readWish(dat string) (w wish, ok bool) {
	data, err := base64.StdEncoding.DecodeString(dat)
	if err == nil {
		err = json.Unmarshal(data, &w)
	}
	ok = err == nil && len(w.Patterns) > 0 && len(w.Patterns) <= patternsMost && w.Lease >= 0 && w.Lease <= int64(leaseMost.Seconds()) &&
		!slices.ContainsFunc(w.Patterns, func(p string) bool { return !msgbus.ValidPattern(p) })
	return w, ok
}

// sendNews sends a twin what is retained of what it has begun to want. A request that comes
// again may have been accepted by a relay that ended before it did this.
func (r *Relay) sendNews(ctx context.Context, twin uint32, arrivals []*arrival) error {
	var patterns []string
	for _, a := range arrivals {
		switch a.outcome {
		case msgbus.Accepted:
			patterns = append(patterns, a.news...)
		case msgbus.Repeated:
			patterns = append(patterns, a.all...)
		}
		a.news, a.all = nil, nil
	}
	if len(patterns) == 0 {
		return nil
	}
	return r.sendRetained(ctx, twin, patterns)
}

// An event as AppendEvent writes it.
type event struct {
	Topic string          `json:"topic"`
	At    int64           `json:"at"`
	Data  string          `json:"dat"`
	Shm   string          `json:"shm"`
	Tag   json.RawMessage `json:"tag,omitempty"`
}

// sendRetained sends a twin the latest events of what it has begun to want, as far as there
// is room for them.
func (r *Relay) sendRetained(ctx context.Context, twin uint32, patterns []string) error {
	rooms, err := r.backlog.EventRoom(ctx, []uint32{twin})
	if err != nil || rooms[0].Lossy <= 0 {
		return err
	}
	events, err := r.backlog.Retained(ctx, patterns)
	if err != nil {
		return err
	}
	var requests [][]byte
	for _, text := range events[:min(len(events), rooms[0].Lossy)] {
		var e event
		if json.Unmarshal([]byte(text), &e) != nil || !msgbus.ValidTopic(e.Topic) {
			continue // some program's of this machine
		}
		m := r.ownRequest(msgbus.EventCommand, e.Data, twin)
		m.Schema, m.Ext.Topic, m.Ext.Retain, m.Ext.Tag, m.Ext.At, m.Ext.Latest = e.Shm, e.Topic, true, e.Tag, e.At, true
		requests = append(requests, m.AppendWire(nil))
	}
	return r.backlog.PushLocal(ctx, requests)
}

// subscriptionLease is how long another twin goes on to send events at least after it was last
// asked for them. Apps with a longer lease than this want them for as long as that.
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
	byLease := make(map[time.Duration][]msgbus.Subscription)
	for _, d := range due {
		lease := min(max(d.Lease, subscriptionLease), leaseMost).Round(time.Second)
		byLease[lease] = append(byLease[lease], d.Subscription)
	}
	requests := r.wishes(ended, 0)
	for lease, subscriptions := range byLease {
		requests = append(requests, r.wishes(subscriptions, lease)...)
	}
	return r.backlog.PushLocal(ctx, requests)
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
			w := wish{Patterns: some, Lease: int64(lease.Seconds())}
			requests = append(requests, r.ownRequest(msgbus.SubscribeCommand, encoded(w), twin).AppendWire(nil))
		}
	}
	return requests
}
