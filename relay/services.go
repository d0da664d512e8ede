package relay

import (
	"context"

	"github.com/msgbusd/msgbusd/msgbus"
)

// What the relay does about services that end, and about requests that do not want to
// wait for one.

// giveBackSteps bounds what one look at the services may take: the next second goes on.
const giveBackSteps = 64

// giveBack puts requests back into their queues that services had taken that have ended,
// and tells the sources of those that end there.
func (r *Relay) giveBack(ctx context.Context) error {
	for range giveBackSteps {
		given, err := r.backlog.GiveBack(ctx, r.serviceGone)
		if err != nil {
			return err
		}
		if given.Returned > 0 {
			r.refusal.Warn().Int("requests", given.Returned).Msg("services ended, or were silent for too long, and what they had taken goes to others")
		}
		for _, b := range given.Buried {
			r.refusal.Error().Str("queue", "taken").Str("reason", string(b.Why.Reason)).Str("detail", b.Why.Text).Msg("buried a message")
			if err := r.guard("burial", func() error { return r.tellSource(ctx, b) }); err != nil {
				r.refusal.Warn().Err(err).Msg("could not answer a request that was buried; it ends at its deadline")
			}
		}
		if !given.More {
			return nil
		}
	}
	return nil
}

// tellSource answers a request that was buried with an error, if it is still open. It is
// as its service had it, in either dialect, and a program of this machine may have
// written it.
func (r *Relay) tellSource(ctx context.Context, b msgbus.Buried) error {
	m, err := decodeReply(b.Message) // a reply names its request as this is named
	if err != nil {
		return nil // nobody knows whose it was
	}
	opens, err := r.backlog.Opens(ctx, []string{m.UID})
	if err != nil {
		return err
	}
	var fits []msgbus.Open
	for _, o := range opens[0] {
		if o.Source == m.Source && (m.Epoch == "" || m.Epoch == o.Epoch) {
			fits = append(fits, o)
		}
	}
	switch len(fits) {
	case 0:
		return r.failOwn(ctx, m, b.Why)
	case 1:
		return r.departFailed(ctx, m, &fits[0], b.Why)
	}
	return nil // nobody knows which it was; all of them have deadlines
}

// departFailed sends an error to the twin that asked, in place of a service's reply.
func (r *Relay) departFailed(ctx context.Context, m *msgbus.Message, open *msgbus.Open, why *msgbus.Refusal) error {
	asked := m.Clone()
	asked.Epoch, asked.Command, asked.Source = open.Epoch, open.Command, open.Source
	departures := []msgbus.Departure{{Open: open, Body: r.errorToPeer(asked, why)}}
	return r.bring(map[uint32]struct{}{open.Source: {}}, func(fetch uint32) (*msgbus.Batch, error) {
		outcomes, batch, err := r.backlog.DepartAndFetch(ctx, nil, departures, fetch)
		if err == nil && outcomes[0] == msgbus.Sent {
			r.observer.MessagesFinished(msgbus.ArrivalKind, msgbus.EndBuried, why.Reason, 1)
			r.observer.MessagesAccepted(msgbus.ReplyKind, 1)
		}
		return batch, err
	})
}

// failOwn ends a request of this relay's own backlog: one from `/zbus-cmd`, which has no
// other record.
func (r *Relay) failOwn(ctx context.Context, m *msgbus.Message, why *msgbus.Refusal) error {
	raws, err := r.backlog.Entries(ctx, []string{m.UID})
	if err != nil || raws[0] == "" {
		return err
	}
	entry, err := r.backlog.ParseEntry(raws[0])
	if err != nil || entry.Message.Source != m.Source || entry.Message.Destinations[0] != r.opts.Twin {
		return err
	}
	return r.endWithError(ctx, []*msgbus.Entry{entry}, why.Reason, func(*msgbus.Entry) string { return why.Text })
}

// wantsService tells whether a request is to be answered at once when nobody serves it.
func wantsService(m *msgbus.Message) bool {
	return m.Ext != nil && m.Ext.Mandatory && !msgbus.IsBuiltin(m.Command)
}

// refuseUnserved finds out whether requests that insist on a service have one, by one
// question to the storage for all of them, and refuses those that have none.
func (r *Relay) refuseUnserved(ctx context.Context, arrivals []*arrival) error {
	var insisting []*arrival
	var commands []string
	for _, a := range arrivals {
		if a.refusal == nil && wantsService(a.message) {
			insisting, commands = append(insisting, a), append(commands, a.Command)
		}
	}
	if len(insisting) == 0 {
		return nil
	}
	services, err := r.backlog.Serving(ctx, commands)
	if err != nil {
		return err
	}
	for i, a := range insisting {
		if !services[i].Serves() {
			a.refusal = msgbus.Refuse(msgbus.NoService, "nobody serves command %q", a.Command)
		}
	}
	return nil
}
