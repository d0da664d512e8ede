package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// serveLane sends what waits for one twin, batch by batch, until nothing does,
// the twin cannot be joined, or the relay stops.
func (r *Relay) serveLane(ctx context.Context, twin uint32) {
	for !r.lanes.stopping() && ctx.Err() == nil {
		batch, err := r.backlog.Fetch(ctx, twin)
		if err != nil {
			r.log.Debug().Err(err).Uint32("twin", twin).Msg("cannot read a lane; it waits")
			return
		}
		if len(batch.Parcels) == 0 {
			if batch.Wait >= 0 {
				r.lanes.resting()
			}
			return
		}
		if !r.serveBatch(ctx, twin, batch) {
			return
		}
	}
}

// serveBatch sends one batch and writes what became of each message. It
// reports whether the lane may go on.
func (r *Relay) serveBatch(ctx context.Context, twin uint32, batch *msgbus.Batch) bool {
	outgoing := make([]msgbus.Outgoing, 0, len(batch.Parcels))
	entries := make([]*msgbus.Entry, 0, len(batch.Parcels))
	parcels := batch.Parcels[:0]
	var spoilt []msgbus.Parcel
	for _, p := range batch.Parcels {
		out, entry, err := r.open(p)
		if err != nil {
			r.log.Error().Err(err).Str("msg_id", p.ID).Uint32("twin", twin).Msg("cannot read what waits on a lane")
			spoilt = append(spoilt, p)
			continue
		}
		parcels = append(parcels, p)
		outgoing = append(outgoing, out)
		entries = append(entries, entry)
	}

	var errs []error
	if twin == r.opts.Twin {
		errs = r.sendToSelf(ctx, outgoing)
	} else if len(outgoing) > 0 {
		errs = r.peers.Send(ctx, twin, outgoing)
	}
	if ctx.Err() != nil {
		return false // cut off by the stop: nothing is known, nothing is counted
	}

	// What is written now must be written even if the stop comes in between.
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), handleLimit)
	defer cancel()
	settled := spoilt
	var failure *msgbus.Failure
	answered := false
	for i, p := range parcels {
		var refusal *msgbus.Refusal
		switch err := errs[i]; {
		case err == nil:
			answered = true
			settled = append(settled, p)
			r.log.Debug().Str("msg_id", p.ID).Uint32("twin", twin).Str("kind", string(p.Kind)).Msg("sent")
		case errors.As(err, &refusal):
			if err := r.refusedByPeer(own, twin, p, entries[i], refusal); err != nil {
				r.log.Warn().Err(err).Str("msg_id", p.ID).Msg("cannot end a refused message; trying again")
				continue
			}
			answered = answered || refusal.Reason == msgbus.RefusedByPeer
			settled = append(settled, p)
		case !errors.As(err, &failure):
			failure = &msgbus.Failure{Reason: msgbus.StorageFailed, Detail: err.Error(), Rest: time.Second}
		}
	}
	if len(settled) > 0 {
		if err := r.backlog.Settle(own, twin, answered, settled); err != nil {
			r.log.Warn().Err(err).Uint32("twin", twin).Msg("cannot note what was sent; it is sent again, under the same uid")
			return false
		}
	}
	if failure != nil {
		r.laneFailed(own, twin, failure)
		r.lanes.resting()
		return false
	}
	if answered {
		r.lanes.succeeded(twin, func(d time.Duration) {
			r.log.Info().Uint32("twin", twin).Dur("took", d).Msg("twin can be joined again")
		})
	}
	return true
}

// open reads a parcel: what is to be sent and, of a request, its entry.
func (r *Relay) open(p msgbus.Parcel) (msgbus.Outgoing, *msgbus.Entry, error) {
	if p.Kind == msgbus.RequestParcel {
		entry, err := r.backlog.ParseEntry(p.Body)
		if err != nil {
			return msgbus.Outgoing{}, nil, err
		}
		return msgbus.Outgoing{Kind: p.Kind, Message: r.requestToPeer(entry)}, entry, nil
	}
	m, err := msgbus.Decode([]byte(p.Body))
	if err != nil {
		return msgbus.Outgoing{}, nil, fmt.Errorf("read a reply: %w", err)
	}
	m.Now = r.backlog.Now().Unix()
	return msgbus.Outgoing{Kind: p.Kind, Message: m}, nil, nil
}

// sendToSelf keeps everything of the way between two relays but HTTP and
// signatures.
func (r *Relay) sendToSelf(ctx context.Context, messages []msgbus.Outgoing) []error {
	errs := make([]error, len(messages))
	for i, o := range messages {
		if o.Kind == msgbus.ReplyParcel {
			errs[i] = r.acceptReply(ctx, o.Message)
			continue
		}
		errs[i] = r.acceptRequest(ctx, o.Message, "")
		var refusal *msgbus.Refusal
		if errors.As(errs[i], &refusal) && refusal.Reason == msgbus.QueueFull {
			errs[i] = &msgbus.Failure{Reason: refusal.Reason, Detail: refusal.Text, Rest: time.Second}
		}
	}
	return errs
}

// refusedByPeer ends a message that will never be taken: a request with an
// error to its app. A reply has nobody left to be told.
func (r *Relay) refusedByPeer(ctx context.Context, twin uint32, p msgbus.Parcel, e *msgbus.Entry, why *msgbus.Refusal) error {
	r.log.Warn().Str("msg_id", p.ID).Str("kind", string(p.Kind)).Uint32("twin", twin).Str("reason", string(why.Reason)).Str("detail", why.Text).Msg("a message cannot be delivered")
	if e == nil {
		return nil
	}
	return r.endWithError(ctx, []*msgbus.Entry{e}, why.Reason, func(*msgbus.Entry) string { return why.Text })
}

// endWithError ends requests with errors of the bus.
func (r *Relay) endWithError(ctx context.Context, entries []*msgbus.Entry, reason msgbus.Reason, text func(*msgbus.Entry) string) error {
	answers := make([]msgbus.Answer, len(entries))
	for i, e := range entries {
		m := e.Message.Clone()
		m.Dialect = e.Dialect
		answers[i] = msgbus.Answer{Entry: e, Failed: true, Position: -1, Body: r.errorToApp(m, m.Destinations[0], text(e))}
	}
	outcomes, err := r.backlog.Answer(ctx, nil, answers)
	if err != nil {
		return err
	}
	for i, e := range entries {
		r.logEnd(e, outcomes[i], reason)
	}
	return nil
}

// laneFailed lets a lane rest and ends the requests whose tries are used up.
func (r *Relay) laneFailed(ctx context.Context, twin uint32, f *msgbus.Failure) {
	r.lanes.failed(twin, f, func() {
		r.log.Warn().Uint32("twin", twin).Str("reason", string(f.Reason)).Str("detail", f.Detail).Msg("twin cannot be joined; its messages wait")
	})
	ended, err := r.backlog.Fail(ctx, twin, *f)
	for err == nil && len(ended) > 0 {
		err = r.endWithError(ctx, ended, msgbus.RetriesExhausted, func(*msgbus.Entry) string {
			return "all retries done: " + f.Error()
		})
		if err == nil {
			ended, err = r.backlog.Exhausted(ctx, twin)
		}
	}
	if err != nil {
		r.log.Warn().Err(err).Uint32("twin", twin).Msg("cannot note a lane's failure")
	}
}
