package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// serveLane sends what waits for one twin, batch by batch, until nothing does,
// the twin cannot be joined, or the relay stops. The first batch may have been
// fetched.
func (r *Relay) serveLane(ctx context.Context, twin uint32, batch *msgbus.Batch) {
	var outage onset
	for !r.lanes.stopping() {
		more := false
		err := r.guard("lane", func() (err error) {
			given := batch
			batch = nil
			batch, more, err = r.serveNext(ctx, twin, given)
			return err
		})
		switch {
		case errors.Is(err, msgbus.ErrFenced):
			return
		case err != nil && ctx.Err() == nil:
			// The lane is ours for a while yet: others would find it later than we do.
			outage.begin(cause(err), func() {
				r.log.Warn().Err(err).Uint32("twin", twin).Msg("cannot serve a lane; trying again")
			})
			if !sleep(ctx, storageRest) {
				return
			}
		case err != nil || !more:
			return
		}
	}
}

// bring has the lanes to some twins served, to which a step of the storage brings
// something. One lane alone, if it is not being served already, begins with what the
// step fetches from it: that saves an exchange with Redis while nothing else waits.
func (r *Relay) bring(twins map[uint32]struct{}, step func(fetch uint32) (*msgbus.Batch, error)) (err error) {
	for twin := range twins {
		if len(twins) == 1 && r.lanes.reserve(twin) {
			var batch *msgbus.Batch
			defer func() { r.lanes.serveReserved(twin, batch) }() // also after a panic
			batch, err = step(twin)
			return err
		}
	}
	if _, err := step(0); err != nil {
		return err
	}
	for twin := range twins {
		r.lanes.wake(twin)
	}
	return nil
}

// serveNext sends a batch of a lane, the next if none was fetched, and writes what
// became of each message. It reports whether the lane may go on, and returns the
// batch to go on with if it has that. An error is the storage's: what it leaves
// unwritten is sent again, under the same uid.
func (r *Relay) serveNext(ctx context.Context, twin uint32, batch *msgbus.Batch) (next *msgbus.Batch, more bool, err error) {
	if batch == nil {
		if batch, err = r.backlog.Fetch(ctx, twin); err != nil {
			return nil, false, err
		}
	}
	if len(batch.Parcels) == 0 {
		if batch.Wait >= 0 {
			r.lanes.resting()
		}
		return nil, false, nil
	}
	if !r.lanes.isAnswered(twin) {
		// A thousand twins that hang with one message each, and one connection, are
		// borne; with a whole batch each they are not.
		batch.Parcels = batch.Parcels[:1]
	}
	l := r.open(twin, batch)
	slow := r.lanes.watch(twin)
	errs := r.send(ctx, twin, l.outgoing)
	slow.Stop()

	// What is known now must be written even if the stop comes in between.
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), handleLimit)
	defer cancel()
	settled, failure, err := r.outcome(own, twin, l, errs)
	goOn := failure == nil && err == nil && ctx.Err() == nil
	next, failed := r.settle(own, twin, settled, goOn)
	switch {
	case failed != nil:
		return nil, false, failed
	case err != nil:
		return nil, false, err
	case ctx.Err() != nil:
		return nil, false, nil // cut off by the stop: a failure would count against nobody's peer
	case failure != nil:
		r.lanes.resting()
		return nil, false, r.laneFailed(own, twin, failure)
	case settled.Answered:
		if r.lanes.succeeded(twin, func(d time.Duration) {
			r.log.Info().Uint32("twin", twin).Dur("took", d).Msg("twin can be joined again")
		}) {
			r.tellOfTwin(own, twinBack, twin)
		}
	}
	return next, true, nil
}

// settle writes what has become of messages on a lane, and fetches the next ones
// when the lane goes on.
func (r *Relay) settle(ctx context.Context, twin uint32, o msgbus.Settlement, goOn bool) (next *msgbus.Batch, err error) {
	switch {
	case len(o.Settled)+len(o.PutOff) == 0:
		return nil, nil
	case goOn && !r.lanes.stopping():
		return r.backlog.SettleAndFetch(ctx, twin, o)
	default:
		return nil, r.backlog.Settle(ctx, twin, o)
	}
}

// A load is a batch opened: position by position a parcel, what is sent, and of
// a request its entry.
type load struct {
	parcels  []msgbus.Parcel
	outgoing []msgbus.Outgoing
	entries  []*msgbus.Entry
	spoilt   []msgbus.Parcel // what cannot be read
	poison   map[int]error   // of spoilt, what made the relay panic, and how
}

func (r *Relay) open(twin uint32, batch *msgbus.Batch) *load {
	l := &load{poison: make(map[int]error)}
	for _, p := range batch.Parcels {
		var out msgbus.Outgoing
		var entry *msgbus.Entry
		err := msgbus.Guard(func() (err error) {
			out, entry, err = r.openParcel(p)
			return err
		})
		if isPoison(err) {
			l.poison[len(l.spoilt)] = err
			l.spoilt = append(l.spoilt, p)
			continue
		}
		if err != nil {
			r.log.Error().Err(err).Str("msg_id", p.ID).Uint32("twin", twin).Msg("cannot read what waits on a lane")
			l.spoilt = append(l.spoilt, p)
			continue
		}
		l.parcels = append(l.parcels, p)
		l.outgoing = append(l.outgoing, out)
		l.entries = append(l.entries, entry)
	}
	return l
}

func (r *Relay) send(ctx context.Context, twin uint32, messages []msgbus.Outgoing) []error {
	switch {
	case len(messages) == 0:
		return nil
	case !r.deals(twin):
		// It would act on the request, and its reply would be refused.
		errs := make([]error, len(messages))
		for i := range errs {
			errs[i] = notAllowed(twin)
		}
		return errs
	case twin == r.opts.Twin:
		return r.sendToSelf(ctx, messages)
	default:
		began := time.Now()
		errs := r.sendToPeer(ctx, twin, messages)
		r.observeAttempt(ctx, errs, time.Since(began))
		return errs
	}
}

// sendToPeer sends one by one what makes the client panic together: messages may
// be sent twice, under the same uid, but only one is to blame.
func (r *Relay) sendToPeer(ctx context.Context, twin uint32, messages []msgbus.Outgoing) (errs []error) {
	err := msgbus.Guard(func() error {
		errs = r.peers.Send(ctx, twin, messages)
		return nil
	})
	if err == nil {
		return errs
	}
	if len(messages) == 1 {
		return []error{err}
	}
	r.tellPanic("lane", err)
	errs = nil
	for i := range messages {
		errs = append(errs, r.sendToPeer(ctx, twin, messages[i:i+1])...)
	}
	return errs
}

// outcome tells what is to be taken off the lane, since its outcome is known, and
// what is to be put off, since the peer takes it later. It returns the failure of the
// attempt, if any.
func (r *Relay) outcome(ctx context.Context, twin uint32, l *load, errs []error) (o msgbus.Settlement, failure *msgbus.Failure, err error) {
	var delivered []msgbus.Parcel // that nobody waits for
	var ended []*msgbus.Entry     // of those
	bury := func(p msgbus.Parcel, why error) {
		if failed := r.buryParcel(ctx, twin, p, why); failed != nil {
			err = failed
			return
		}
		o.Settled = append(o.Settled, p)
	}
	for i, p := range l.spoilt {
		if why := l.poison[i]; why != nil {
			bury(p, why)
			continue
		}
		if p.Kind == msgbus.ReplyParcel { // a request's entry waits for its deadline
			r.observer.MessagesFinished(msgbus.ReplyKind, msgbus.EndFailed, msgbus.Malformed, 1)
		}
		o.Settled = append(o.Settled, p)
	}
	for i, p := range l.parcels {
		var refusal *msgbus.Refusal
		var later *msgbus.Deferral
		switch sent := errs[i]; {
		case sent == nil:
			o.Answered = true
			if e := l.entries[i]; e != nil && e.Message.IsOneWay() {
				delivered, ended = append(delivered, p), append(ended, e)
				continue
			}
			o.Settled = append(o.Settled, p)
			if p.Kind == msgbus.ReplyParcel {
				r.observer.MessagesFinished(msgbus.ReplyKind, msgbus.EndDelivered, "", 1)
			}
			r.log.Debug().Str("msg_id", l.outgoing[i].Message.UID).Uint32("twin", twin).Str("kind", string(p.Kind)).Msg("sent")
		case isPoison(sent):
			bury(p, sent)
		case errors.As(sent, &refusal):
			o.Answered = o.Answered || refusal.Reason == msgbus.RefusedByPeer
			if failed := r.refusedByPeer(ctx, twin, l.outgoing[i], l.entries[i], refusal); failed != nil {
				err = failed
				continue
			}
			o.Settled = append(o.Settled, p)
		case errors.As(sent, &later) && p.Kind == msgbus.RequestParcel:
			o.Answered = true
			putOff(&o, p, later)
			r.log.Debug().Str("msg_id", l.outgoing[i].Message.UID).Uint32("twin", twin).Str("reason", string(later.Reason)).Msg("put off")
		case later != nil: // no peer puts off a reply: it frees memory there
			failure = &msgbus.Failure{Reason: later.Reason, Detail: later.Error(), Rest: max(later.After, time.Second)}
		case !errors.As(sent, &failure):
			failure = &msgbus.Failure{Reason: msgbus.StorageFailed, Detail: sent.Error(), Rest: time.Second}
		}
	}
	if failed := r.endDelivered(ctx, ended); failed != nil {
		return o, failure, failed
	}
	o.Settled = append(o.Settled, delivered...)
	return o, failure, err
}

// endDelivered ends requests that nobody waits for, which their twin has. What it cannot
// end is sent again, under the same uid.
func (r *Relay) endDelivered(ctx context.Context, entries []*msgbus.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	answers := make([]msgbus.Answer, len(entries))
	for i, e := range entries {
		answers[i] = msgbus.Answer{Entry: e, Position: -1}
	}
	_, err := r.endWith(ctx, answers)
	return err
}

// putOff adds a request to what is put off, for the longest time that the peer
// asks for any of it.
func putOff(o *msgbus.Settlement, p msgbus.Parcel, why *msgbus.Deferral) {
	o.PutOff = append(o.PutOff, p)
	after := max(o.Why.After, why.After)
	o.Why = *why
	o.Why.After = after
}

// openParcel returns what is to be sent and, of a request, its entry.
func (r *Relay) openParcel(p msgbus.Parcel) (msgbus.Outgoing, *msgbus.Entry, error) {
	if p.Kind == msgbus.RequestParcel {
		entry, err := r.backlog.ParseEntry(p.Body)
		if err != nil {
			return msgbus.Outgoing{}, nil, err
		}
		r.sent.remember(entry, len(p.Body))
		return msgbus.Outgoing{Kind: p.Kind, Message: r.requestToPeer(entry)}, entry, nil
	}
	m, err := msgbus.Decode(p.Body)
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
		errs[i] = msgbus.Guard(func() error {
			if o.Kind == msgbus.ReplyParcel {
				return r.acceptReply(ctx, o.Message)
			}
			return r.acceptRequest(ctx, nil, 0, o.Message, "")
		})
	}
	return errs
}

// refusedByPeer ends a message that will never be taken: a request with an
// error to its app. A reply has nobody left to be told.
func (r *Relay) refusedByPeer(ctx context.Context, twin uint32, o msgbus.Outgoing, e *msgbus.Entry, why *msgbus.Refusal) error {
	r.log.Warn().Str("msg_id", o.Message.UID).Str("kind", string(o.Kind)).Uint32("twin", twin).Str("reason", string(why.Reason)).Str("detail", why.Text).Msg("a message cannot be delivered")
	if e == nil {
		r.observer.MessagesFinished(msgbus.ReplyKind, msgbus.EndFailed, why.Reason, 1)
		return nil
	}
	return r.endWithError(ctx, []*msgbus.Entry{e}, why.Reason, func(*msgbus.Entry) string { return why.Text })
}

// endWithError ends requests with errors of the bus.
func (r *Relay) endWithError(ctx context.Context, entries []*msgbus.Entry, reason msgbus.Reason, text func(*msgbus.Entry) string) error {
	_, err := r.endAll(ctx, entries, reason, text)
	return err
}

// endAll is endWithError for those who want to know what became of each.
func (r *Relay) endAll(ctx context.Context, entries []*msgbus.Entry, reason msgbus.Reason, text func(*msgbus.Entry) string) ([]msgbus.Outcome, error) {
	answers := make([]msgbus.Answer, len(entries))
	for i, e := range entries {
		m := e.Message.Clone()
		m.Dialect = e.Dialect
		a := msgbus.Answer{Entry: e, Failed: true, Reason: reason, Detail: text(e), Position: -1}
		switch {
		case !m.IsOneWay():
			a.Body = r.errorToApp(m, m.Destinations[0], &msgbus.Refusal{Reason: reason, Text: a.Detail})
		case !m.IsFleeting():
			a.Body = askAgain(m)
		}
		answers[i] = a
	}
	return r.endWith(ctx, answers)
}

func (r *Relay) endWith(ctx context.Context, answers []msgbus.Answer) ([]msgbus.Outcome, error) {
	outcomes, err := r.backlog.Answer(ctx, nil, answers)
	if err != nil {
		return nil, err
	}
	for i, a := range answers {
		r.logEnd(a.Entry, outcomes[i], a.Reason)
	}
	return outcomes, nil
}

// laneFailed lets a lane rest and ends the requests whose tries are used up.
func (r *Relay) laneFailed(ctx context.Context, twin uint32, f *msgbus.Failure) error {
	if r.lanes.failed(twin, f, func() {
		r.log.Warn().Uint32("twin", twin).Str("reason", string(f.Reason)).Str("detail", f.Detail).Msg("twin cannot be joined; its messages wait")
	}) {
		r.tellOfTwin(ctx, twinAway, twin)
	}
	ended, err := r.backlog.Fail(ctx, twin, *f)
	for len(ended) > 0 {
		failed := r.endWithError(ctx, ended, msgbus.RetriesExhausted, func(*msgbus.Entry) string {
			return "all retries done: " + f.Error()
		})
		if failed != nil {
			return failed
		}
		ended, err = r.backlog.Exhausted(ctx, twin)
	}
	return err
}
