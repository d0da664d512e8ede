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

// ownEvent is an event that the relay itself publishes, or nil if the topic is none: names may
// be some program's of this machine. Without twins it goes to all that want it.
func (r *Relay) ownEvent(topic, data string, twins ...uint32) []byte {
	if !msgbus.ValidTopic(topic) {
		return nil
	}
	m := r.ownRequest(msgbus.EventCommand, data, twins...)
	m.Ext.Topic = topic
	return m.AppendWire(nil)
}

// tellWhoHasGone publishes which apps have ended without saying so.
func (r *Relay) tellWhoHasGone(ctx context.Context) error {
	_, err := r.backlog.Gone(ctx, func(name string) []byte { return r.ownEvent(presenceDown+name, "") })
	return err
}

// serviceGone is the event that tells that a service has ended without saying so.
func (r *Relay) serviceGone(consumer, cmd string) []byte {
	return r.ownEvent(serviceDown+cmd, encoded(map[string]string{"consumer": consumer}))
}

// tellOfTwin publishes on this machine that a twin cannot be joined, or can again. Twins
// come and go in thousands: without a listener it is not even asked for.
func (r *Relay) tellOfTwin(ctx context.Context, what string, twin uint32) {
	topic := what + strconv.FormatUint(uint64(twin), 10)
	here, err := r.backlog.Listeners(ctx, []string{topic})
	if err == nil && here[0].Count > 0 {
		err = r.backlog.PushLocal(ctx, [][]byte{r.ownEvent(topic, "", r.opts.Twin)})
	}
	if err != nil {
		r.log.Debug().Err(err).Uint32("twin", twin).Msg("could not tell of a twin")
	}
}
