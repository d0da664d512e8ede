package relay

import (
	"context"
	"strconv"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Topics of what the relay itself publishes about who is there. What they are about follows.
const (
	presenceDown = "msgbus/presence.down." // an app's name
	serviceDown  = "msgbus/service.down."  // a command
	twinAway     = "msgbus/twin.away."     // a twin
	twinBack     = "msgbus/twin.back."     // a twin
)

// ownEvent is an event that the relay itself publishes, and whether it can be one: names may
// be some program's of this machine. Without twins it goes to all that want it.
func (r *Relay) ownEvent(topic, data string, twins ...uint32) (request []byte, ok bool) {
	if !msgbus.ValidTopic(topic) {
		return nil, false
	}
	m := r.ownRequest(msgbus.EventCommand, data, twins...)
	m.Ext.Topic = topic
	return m.AppendWire(nil), true
}

// tellWhoHasGone publishes which apps have ended without saying so.
func (r *Relay) tellWhoHasGone(ctx context.Context) error {
	names, err := r.backlog.Gone(ctx)
	if err != nil {
		return err
	}
	var requests [][]byte
	for _, name := range names {
		if event, ok := r.ownEvent(presenceDown+name, ""); ok {
			requests = append(requests, event)
		}
	}
	return r.backlog.PushLocal(ctx, requests)
}

// tellServicesGone publishes which services have ended without saying so.
func (r *Relay) tellServicesGone(ctx context.Context, gone []msgbus.Consumer) error {
	var requests [][]byte
	for _, c := range gone {
		data := encoded(map[string]string{"consumer": c.Name})
		if event, ok := r.ownEvent(serviceDown+c.Command, data); ok {
			requests = append(requests, event)
		}
	}
	return r.backlog.PushLocal(ctx, requests)
}

// tellOfTwin publishes on this machine that a twin cannot be joined, or can again. Twins
// come and go in thousands: without a listener it is not even asked for.
func (r *Relay) tellOfTwin(ctx context.Context, what string, twin uint32) {
	topic := what + strconv.FormatUint(uint64(twin), 10)
	here, err := r.backlog.Listeners(ctx, []string{topic})
	if err == nil && here[0].Count > 0 {
		event, _ := r.ownEvent(topic, "", r.opts.Twin)
		err = r.backlog.PushLocal(ctx, [][]byte{event})
	}
	if err != nil {
		r.log.Debug().Err(err).Uint32("twin", twin).Msg("could not tell of a twin")
	}
}
