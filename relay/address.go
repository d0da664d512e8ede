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
	rooms       map[uint32]*msgbus.EventRoom // of the twins that events of the claim go to
}

func (r *Relay) addressing(ctx context.Context) *addressing {
	return &addressing{relay: r, ctx: ctx, groups: make(map[string][]uint32), rooms: make(map[uint32]*msgbus.EventRoom)}
}

// complete adds the destinations of a request, of which an app has written so many bytes. An
// error is a *msgbus.Refusal or tells of the storage.
func (a *addressing) complete(m *msgbus.Message, size int) error {
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
		m.Ext.At, m.Ext.Latest = 0, false
		if m.Ext.Retain {
			m.Ext.At = a.relay.backlog.Now().UnixMilli()
		}
		if err := a.addSubscribers(m, size); err != nil {
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

// addSubscribers has an event go to its own twin, and to those that want it, may have it and
// have room for it.
func (a *addressing) addSubscribers(m *msgbus.Message, size int) (err error) {
	if !a.isRead {
		if a.subscribers, err = a.relay.backlog.Subscribers(a.ctx); err != nil {
			return err
		}
		a.isRead = true
	}
	var wanting []uint32
	for _, s := range a.subscribers {
		if msgbus.MatchTopic(s.Pattern, m.Ext.Topic) && a.relay.refuseCommand(s.Twin, msgbus.SubscribeCommand) == nil && !slices.Contains(wanting, s.Twin) {
			wanting = append(wanting, s.Twin)
		}
	}
	if most := max(1, a.relay.opts.MaxFanOut/(size+wireOverhead)) - 1; len(wanting) > most {
		why := msgbus.Refuse(msgbus.TooManyDestinations, "%d twins want it, at most %d get so large a one", len(wanting), most)
		if err := a.relay.leaveOut(a.ctx, m, wanting[most:], why); err != nil {
			return err
		}
		wanting = wanting[:most]
	}
	fitting, err := a.withRoom(m, wanting)
	m.Destinations = append([]uint32{a.relay.opts.Twin}, fitting...)
	return err
}

// withRoom returns those twins for which not too much waits. A twin that is away costs the
// others nothing: of more it hears nothing, and what is durable is among the dead letters.
func (a *addressing) withRoom(m *msgbus.Message, twins []uint32) ([]uint32, error) {
	if err := a.readRooms(twins); err != nil {
		return nil, err
	}
	var fitting, full []uint32
	for _, twin := range twins {
		room := a.rooms[twin]
		if m.Ext.Durable && room.Durable <= 0 || !m.Ext.Durable && room.Lossy <= 0 {
			full = append(full, twin)
			continue
		}
		room.Durable, room.Lossy = room.Durable-1, room.Lossy-1
		fitting = append(fitting, twin)
	}
	if len(full) == 0 {
		return fitting, nil
	}
	why := msgbus.Refuse(msgbus.QueueFull, "too much waits for the twin")
	return fitting, a.relay.leaveOut(a.ctx, m, full, why)
}

func (a *addressing) readRooms(twins []uint32) error {
	var unknown []uint32
	for _, twin := range twins {
		if a.rooms[twin] == nil {
			unknown = append(unknown, twin)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	rooms, err := a.relay.backlog.EventRoom(a.ctx, unknown)
	if err != nil {
		return err
	}
	for i, twin := range unknown {
		a.rooms[twin] = &rooms[i]
	}
	return nil
}

// leaveOut tells that twins do not get an event, and keeps one that is durable.
func (r *Relay) leaveOut(ctx context.Context, m *msgbus.Message, twins []uint32, why *msgbus.Refusal) error {
	r.refusal.Warn().Str("topic", m.Ext.Topic).Uints32("twins", twins).Str("reason", string(why.Reason)).Str("detail", why.Text).Msg("an event does not go to some who want it")
	var letters [][]byte
	for _, twin := range twins {
		if m.Ext.Durable {
			letter := m.Clone()
			letter.Destinations = []uint32{twin}
			letters = append(letters, askAgain(letter))
		}
	}
	if err := r.backlog.BuryRequests(ctx, why, letters); err != nil {
		return err
	}
	r.observer.MessagesFinished(msgbus.RequestKind, msgbus.EndRefused, why.Reason, len(twins))
	return nil
}
