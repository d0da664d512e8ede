package relay

import (
	"context"
	"slices"

	"github.com/msgbusd/msgbusd/msgbus"
)

// An addressing says to which twins the requests of a claim go whose apps have not named
// them: the members of a group, or those that want an event. What it has to read of the
// storage for that it reads once.
type addressing struct {
	relay       *Relay
	ctx         context.Context // of the one claim
	subscribers []msgbus.Subscription
	isRead      bool // subscribers are
	groups      map[string][]uint32
}

func (r *Relay) addressing(ctx context.Context) *addressing {
	return &addressing{relay: r, ctx: ctx, groups: make(map[string][]uint32)}
}

// complete adds the destinations of a request. An error is a *msgbus.Refusal or tells of the
// storage.
func (a *addressing) complete(m *msgbus.Message) error {
	named := len(m.Destinations)
	switch {
	case m.Command == msgbus.EventCommand && (m.Ext == nil || m.Ext.Topic == ""):
		return noTopic()
	case m.Ext == nil:
		return nil
	case m.Ext.Group != "":
		if err := a.addGroup(m); err != nil {
			return err
		}
	case m.Command == msgbus.EventCommand && named == 0:
		if err := a.addSubscribers(m); err != nil {
			return err
		}
	}
	m.UniqueDestinations()
	if m.Ext.Of = 0; len(m.Destinations) > named {
		m.Ext.Of = len(m.Destinations)
	}
	return nil
}

func (a *addressing) addGroup(m *msgbus.Message) (err error) {
	members, known := a.groups[m.Ext.Group]
	if !known {
		if members, err = a.relay.backlog.Group(a.ctx, m.Ext.Group); err != nil {
			return err
		}
		a.groups[m.Ext.Group] = members
	}
	if len(members) == 0 {
		return msgbus.Refuse(msgbus.MissingDestination, "received invalid message: group %q has no twins", m.Ext.Group)
	}
	m.Destinations = append(m.Destinations, members...)
	return nil
}

// addSubscribers has an event go to its own twin, and to those that want it.
func (a *addressing) addSubscribers(m *msgbus.Message) (err error) {
	if !a.isRead {
		if a.subscribers, err = a.relay.backlog.Subscribers(a.ctx); err != nil {
			return err
		}
		a.isRead = true
	}
	m.Destinations = []uint32{a.relay.opts.Twin}
	for _, s := range a.subscribers {
		if msgbus.MatchTopic(s.Pattern, m.Ext.Topic) && a.relay.AdmitsTwin(s.Twin) && !slices.Contains(m.Destinations, s.Twin) {
			m.Destinations = append(m.Destinations, s.Twin)
		}
	}
	return nil
}
