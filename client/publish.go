package client

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// How long events live that could not be delivered yet.
const (
	eventLife        = 30 * time.Second
	durableEventLife = 24 * time.Hour
)

// Publish tells of something under a topic: words with dots between them, such as
// `task.finished.17`, in front of which an exchange may stand, as in `task/finished.17`. Who
// listens hears it, on this machine and at the twins that want it. It returns when Redis has
// the event; ctx bounds only that. Nobody need listen: then the event is lost.
//
// The data goes as that of [Client.Call]. [Durable] keeps the event for those who come
// later, and [Retain] as the latest of its topic. It lives for 30 seconds until it is
// delivered, a durable one for a day; [Expire] says otherwise.
func (c *Client) Publish(ctx context.Context, topic string, v any, opts ...CallOption) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, _, err := c.request(ctx, nil, msgbus.EventCommand, v, eventOptions(topic, true, opts))
	if err != nil {
		return err
	}
	return c.push(ctx, m)
}

// PublishCounted is Publish that waits until all twins that want the event have it, and
// says to how many clients it was given: one with many subscriptions to the same pattern
// counts once, and one with several patterns that the topic matches once for each. The error
// of a twin that did not get it, if there is one, comes with the number of the others. That
// nobody listens is no error.
func (c *Client) PublishCounted(ctx context.Context, topic string, v any, opts ...CallOption) (listeners int, err error) {
	x, err := c.begin(ctx, nil, msgbus.EventCommand, v, eventOptions(topic, false, opts))
	if err != nil {
		return 0, err
	}
	defer x.end()
	for reply := range x.all(ctx) {
		var told struct {
			Listeners int `json:"listeners"`
		}
		if failed := reply.Decode(&told); failed != nil && !isNotSubscribed(failed) {
			err = failed
		}
		listeners += told.Listeners
	}
	return listeners, err
}

// isNotSubscribed tells that a twin has ceased to want an event, and the own relay did not
// know yet when it sent it.
func isNotSubscribed(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason() == msgbus.NotSubscribed
}

func eventOptions(topic string, oneway bool, opts []CallOption) callOptions {
	o := callOptions{standard: eventLife, retries: defaultOnewayRetries}
	o.apply(opts)
	if o.durable {
		o.standard = durableEventLife
	}
	o.topic, o.oneway, o.progress, o.group = topic, oneway, nil, ""
	return o
}

// Durable has an event of [Client.Publish] kept for a [Client.Stream] that comes later, at
// each twin that wants it: the latest 10,000 of its exchange. One that cannot be delivered
// is among the dead letters of this machine's relay.
func Durable() CallOption { return func(o *callOptions) { o.durable = true } }

// Retain has an event of [Client.Publish] kept as the latest of its topic, which those get
// first who ask for it with [Retained].
func Retain() CallOption { return func(o *callOptions) { o.retain = true } }

// CallGroup asks all twins of a group the same, and yields their replies as they come, as
// [Client.CallAll] does. A group is a set of twins in Redis,
// `<prefix>.system.group.<name>`; one that is empty is an error.
func (c *Client) CallGroup(ctx context.Context, group, cmd string, in any, opts ...CallOption) iter.Seq[*Reply] {
	return func(yield func(*Reply) bool) {
		o := optionsOf(opts)
		o.group = group
		x, err := c.begin(ctx, nil, cmd, in, o)
		if err != nil {
			yield(&Reply{Err: err})
			return
		}
		defer x.end()
		x.all(ctx)(yield)
	}
}
