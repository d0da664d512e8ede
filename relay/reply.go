package relay

import (
	"context"
	"errors"

	"github.com/msgbusd/msgbusd/msgbus"
)

// handleReplies matches the replies of this machine's services with the
// requests that they answer, and sends them on. What it remembers of requests it does
// not read, unless that turns out to be wrong.
func (r *Relay) handleReplies(ctx context.Context, c *msgbus.Claim) error {
	err := r.sendReplies(ctx, c, r.backlog.RememberedOpen)
	if errors.Is(err, msgbus.ErrStale) {
		return r.sendReplies(ctx, c, func(string) (msgbus.Open, bool) { return msgbus.Open{}, false })
	}
	return err
}

func (r *Relay) sendReplies(ctx context.Context, c *msgbus.Claim, remembered func(uid string) (msgbus.Open, bool)) error {
	replies := make([]*msgbus.Message, len(c.Messages))
	for i, raw := range c.Messages {
		if raw == msgbus.DealtWith {
			continue
		}
		m, err := r.read(c, raw, decodeReply)
		if err != nil {
			if err := r.refuse(ctx, c, i, m, err); err != nil {
				return err
			}
			continue
		}
		replies[i] = m
	}
	opens, err := r.opens(ctx, replies, remembered)
	if err != nil {
		return err
	}

	var departures []msgbus.Departure
	taken := make(map[string]bool) // records answered earlier in this claim
	for i, m := range replies {
		if m == nil {
			continue
		}
		err := r.guard(string(c.Queue), func() error {
			open, refusal := r.match(m, untaken(opens[i], taken))
			isKnown := open != nil && open.Record != ""
			switch {
			case m.IsOneWay() && !isKnown, m.IsInterim() && !(isKnown && open.Epoch != ""):
				r.late(m)
				return nil
			case refusal != nil:
				return refusal
			case open == nil:
				return r.answerOwn(ctx, c, i, m)
			}
			departures = append(departures, r.departure(m, open))
			taken[open.UID+" "+open.Record] = isKnown && !m.IsInterim()
			return nil
		})
		if refusal := (*msgbus.Refusal)(nil); errors.As(err, &refusal) {
			m.ReturnQueue = "" // it was the service's, not an app's
			err = r.refuse(ctx, c, i, m, err)
		}
		if err != nil {
			return err
		}
	}
	if len(departures) == 0 {
		return r.backlog.Drop(ctx, c)
	}
	return r.depart(ctx, c, departures)
}

// opens returns, position by position, the records of the requests that replies may
// answer. One that is remembered and fits is all that there is, or DepartAndFetch tells
// so; what else there may be is read.
func (r *Relay) opens(ctx context.Context, replies []*msgbus.Message, remembered func(uid string) (msgbus.Open, bool)) ([][]msgbus.Open, error) {
	opens := make([][]msgbus.Open, len(replies))
	var uids []string
	var unknown []int
	for i, m := range replies {
		if m == nil {
			continue
		}
		if open, ok := remembered(m.UID); ok {
			if match, _ := r.match(m, []msgbus.Open{open}); match != nil && match.Record == open.Record {
				opens[i] = []msgbus.Open{open}
				continue
			}
		}
		uids, unknown = append(uids, m.UID), append(unknown, i)
	}
	read, err := r.backlog.Opens(ctx, uids)
	if err != nil {
		return nil, err
	}
	for n, i := range unknown {
		opens[i] = read[n]
	}
	return opens, nil
}

// decodeReply reads a service's reply. Services of the Ref dialect name the
// request in ref.
func decodeReply(raw string) (*msgbus.Message, error) {
	m, err := msgbus.Decode(raw)
	m.Note = nil
	if err != nil {
		return m, err
	}
	m.TypedError = m.TypedError.OfService()
	if m.UID == "" {
		m.UID = m.Ref
	}
	if m.UID == "" {
		return m, msgbus.Refuse(msgbus.Malformed, "a reply needs the uid of its request")
	}
	return m, nil
}

func untaken(opens []msgbus.Open, taken map[string]bool) []msgbus.Open {
	var left []msgbus.Open
	for _, o := range opens {
		if !taken[o.UID+" "+o.Record] {
			left = append(left, o)
		}
	}
	return left
}

// match finds the request that a reply answers. Of several twins that used the
// same uid it is the one that the reply is addressed to. An old service
// addresses its errors to itself: an error for this twin can only be told when
// there is one request. No request and no refusal mean one of this relay's own.
func (r *Relay) match(m *msgbus.Message, opens []msgbus.Open) (*msgbus.Open, *msgbus.Refusal) {
	var to uint32
	if len(m.Destinations) > 0 {
		to = m.Destinations[0]
	}
	toSelf := to == r.opts.Twin
	var fits, named []msgbus.Open
	for _, o := range opens {
		if m.Epoch != "" && o.Epoch != m.Epoch {
			continue
		}
		fits = append(fits, o)
		if o.Source == to {
			named = append(named, o)
		}
	}
	if anybody := to == 0 || toSelf && (m.Error != "" || len(named) == 0); !anybody {
		fits = named
	}
	switch {
	case len(fits) == 1:
		return &fits[0], nil
	case len(fits) > 1:
		return nil, msgbus.Refuse(msgbus.Ambiguous, "%d open requests have uid %s", len(fits), m.UID)
	case to == 0 || toSelf || !isRequestUID(m.UID, r.opts.Twin):
		return nil, nil
	default:
		// Redis lost the record; the reply itself says where it belongs.
		return &msgbus.Open{UID: m.UID, Source: to, Epoch: m.Epoch}, nil
	}
}

// isRequestUID tells whether another twin's relay can have given uid to a
// request to this twin.
func isRequestUID(uid string, self uint32) bool {
	dst, _, ok := msgbus.ParseUID(uid)
	return ok && dst == self
}

// answerOwn answers a request of this relay's own backlog: one from
// `/zbus-cmd`, or one to the own twin whose record is lost.
func (r *Relay) answerOwn(ctx context.Context, c *msgbus.Claim, position int, m *msgbus.Message) error {
	entry, err := r.backlog.Entry(ctx, m.UID)
	if errors.Is(err, msgbus.ErrNotFound) {
		r.late(m)
		c.Messages[position] = msgbus.DealtWith
		return nil
	}
	if err != nil {
		return err
	}
	if entry.Message.Destinations[0] != r.opts.Twin {
		return msgbus.Refuse(msgbus.WrongSource, "request %s went to another twin", m.UID)
	}
	return r.answer(ctx, c, position, entry, m)
}

// departure is a reply as it leaves. One that no relay would carry becomes an
// error: silence would make the app wait for its deadline.
func (r *Relay) departure(m *msgbus.Message, open *msgbus.Open) msgbus.Departure {
	out := r.replyToPeer(m, open)
	out.Note = msgbus.Stay{Accepted: open.Accepted, Left: r.backlog.Now()}.AppendNote(nil)
	body := out.AppendNoted(nil)
	if len(body)+wireOverhead > r.opts.MaxMessage {
		out.Data, out.Error, out.TypedError = "", "the service's answer is too large", nil
		body = out.AppendNoted(nil)
	}
	d := msgbus.Departure{Open: open, Body: body, Trace: m.Trace}
	if m.IsInterim() {
		d.Interim, d.Sequence = true, m.Ext.Sequence
	}
	return d
}

// depart sends replies on. With them all of their claim has been dealt with.
func (r *Relay) depart(ctx context.Context, c *msgbus.Claim, departures []msgbus.Departure) error {
	twins := make(map[uint32]struct{})
	for _, d := range departures {
		twins[d.Open.Source] = struct{}{}
	}
	return r.bring(twins, func(fetch uint32) (*msgbus.Batch, error) {
		outcomes, batch, err := r.backlog.DepartAndFetch(ctx, c, departures, fetch)
		if err != nil {
			return nil, err
		}
		for i, d := range departures {
			r.observeDeparture(d, outcomes[i])
			r.log.Debug().Str("msg_id", d.Open.UID).Uint32("twin", d.Open.Source).Str("outcome", string(outcomes[i])).Msg("reply leaves")
		}
		return batch, nil
	})
}
