package relay

import (
	"context"

	"github.com/msgbusd/msgbusd/msgbus"
)

// handleLocal admits the requests that apps of this machine pushed.
func (r *Relay) handleLocal(ctx context.Context, c *msgbus.Claim) error {
	var admissions []msgbus.Admission
	addresses := r.addressing(ctx)
	destinations := make(map[uint32]struct{})
	for i, raw := range c.Messages {
		if raw == msgbus.DealtWith {
			continue
		}
		m, err := r.read(c, raw, msgbus.Decode)
		if err == nil {
			err = addresses.complete(m, len(raw))
		}
		if err == nil {
			err = r.guard(string(c.Queue), func() error {
				size := len(raw) - len(m.Data)
				m.Data = msgbus.CarriedData(m.Data)
				return r.checkLocal(m, size+len(m.Data)+wireOverhead)
			})
		}
		if err != nil {
			if err := r.refuse(ctx, c, i, m, err); err != nil {
				return err
			}
			continue
		}
		m.Proxied, m.Error, m.Signature, m.Epoch, m.Note, m.TypedError = false, "", "", "", nil, nil
		if m.Ext != nil {
			m.Ext.Status, m.Ext.Sequence = "", 0
		}
		admissions = append(admissions, msgbus.Admission{Message: m, Start: m.Now})
		for _, d := range m.Destinations {
			destinations[d] = struct{}{}
		}
	}
	if len(admissions) == 0 {
		return r.backlog.Drop(ctx, c)
	}
	var uids []string
	err := r.bring(destinations, func(fetch uint32) (batch *msgbus.Batch, err error) {
		uids, batch, err = r.backlog.AdmitAndFetch(ctx, c, admissions, fetch)
		return batch, err
	})
	if err == nil {
		r.observer.MessagesAccepted(msgbus.RequestKind, len(uids))
		r.log.Debug().Int("requests", len(admissions)).Strs("msg_id", uids).Msg("admitted")
	}
	return err
}

// wireOverhead is more than what uid, sig, epoch and ret add to a message on its
// way: what is admitted here must not be too large for the next relay.
const wireOverhead = 1 << 10

// checkLocal tells whether a local request of a size on the wire can be
// admitted.
func (r *Relay) checkLocal(m *msgbus.Message, size int) error {
	m.UniqueDestinations()
	if m.IsOneWay() {
		m.ReturnQueue, m.Ext.Progress = "", ""
	}
	if m.Command == msgbus.EventCommand && size > msgbus.MaxEvent {
		return msgbus.Refuse(msgbus.TooLarge, "received invalid message: an event of %d bytes on the wire, at most %d are carried", size, msgbus.MaxEvent)
	}
	most := r.opts.MaxDestinations
	if m.Ext != nil && m.Ext.Of > 0 { // its app has not named them all
		most = len(m.Destinations)
	}
	if err := m.CheckLocal(most); err != nil {
		return err
	}
	switch {
	case msgbus.ReservedQueue(r.backlog.Prefix(), m.ReturnQueue):
		return msgbus.Refuse(msgbus.ReservedName, "received invalid message: return queue %q belongs to the relay", m.ReturnQueue)
	case m.Ext != nil && msgbus.ReservedQueue(r.backlog.Prefix(), m.Ext.Progress):
		return msgbus.Refuse(msgbus.ReservedName, "received invalid message: progress queue %q belongs to the relay", m.Ext.Progress)
	case size > r.opts.MaxMessage:
		return msgbus.Refuse(msgbus.TooLarge, "received invalid message: %d bytes on the wire, at most %d are carried", size, r.opts.MaxMessage)
	case int64(size)*int64(len(m.Destinations)) > int64(r.opts.MaxFanOut):
		return msgbus.Refuse(msgbus.TooManyDestinations, "received invalid message: %d bytes on the wire for %d destinations, at most %d bytes in all", size, len(m.Destinations), r.opts.MaxFanOut)
	}
	return nil
}
