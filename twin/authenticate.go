package twin

import (
	"context"
	"time"
)

// Verify checks that a twin signed a message, by its record of now: anybody can
// claim to be any twin, so a twin that nobody knows is looked up only a few times
// a second for all of them (Options.Claims), and what is remembered, however old,
// is tried before anybody asks.
//
//   - The signature fits a key that is remembered. Its sender has that key, and
//     costs at most a lookup a minute; if the record has another key by now, the
//     signature is refused. So a key that was given up, or stolen, is of no use a
//     minute later, whatever else is going on, while the source answers.
//   - It does not fit. Then the twin may have a new key, and the source is asked,
//     at most once a minute for each twin. Until then nobody knows: whoever used up
//     the one question may be who forged a message in the twin's name.
//
// The error wraps [ErrSignature], [ErrNotFound], [ErrUnavailable], or, if it cannot be
// known for now because of others, [ErrTooMany] or a [*TooSoonError].
func (d *Directory) Verify(ctx context.Context, id uint32, message, signature []byte) error {
	rec, err := d.claimed(ctx, id)
	if err != nil {
		return err
	}
	if misfit := d.keys.verify(rec.PublicKey, message, signature); misfit != nil {
		now, err := d.refetch(ctx, rec)
		switch {
		case err != nil:
			return err
		case now.PublicKey == rec.PublicKey:
			return misfit
		}
		if misfit = d.keys.verify(now.PublicKey, message, signature); misfit == nil {
			d.want(ctx, id)
		}
		return misfit
	}
	now, err := d.Twin(ctx, id)
	switch {
	case err != nil:
		return err
	case now.PublicKey == rec.PublicKey:
		return nil
	}
	return d.keys.verify(now.PublicKey, message, signature)
}

// claimed returns the record of the twin that a message claims to be from, before
// its signature was checked. What is in memory, or is being looked up already,
// costs nothing.
func (d *Directory) claimed(ctx context.Context, id uint32) (Record, error) {
	if e := d.entry(id); e.usable(d.opts.Now(), d.opts) {
		return e.record, nil
	}
	return d.lookUp(ctx, id, true)
}

// refetch is for a signature that does not fit the record that is passed: it asks
// the source past the cache and returns the record to go by. With an error it is
// not known whether the key is still good.
func (d *Directory) refetch(ctx context.Context, failed Record) (Record, error) {
	id := failed.ID
	if e := d.entry(id); e.state == known && e.record.PublicKey != failed.PublicKey {
		return e.record, nil // another caller was faster
	}
	type outcome struct {
		entry
		wait time.Duration // until the source may be asked again; 0 when it was asked
	}
	found := d.refetches.DoChan(key(id), func() (any, error) {
		e := d.entry(id)
		if wait := d.opts.Refetch - d.opts.Now().Sub(e.refetched); !e.refetched.IsZero() && wait > 0 {
			return outcome{e, wait}, nil
		}
		e, err := d.askForStranger(ctx, id, d.misfits)
		if err == nil {
			e = d.update(id, func(e *entry) { e.refetched = d.opts.Now() })
		}
		return outcome{e, 0}, err
	})
	select {
	case r := <-found:
		if r.Err != nil {
			return failed, wrapTwin(id, r.Err)
		}
		e := r.Val.(outcome)
		if e.cause != nil {
			return failed, wrapTwin(id, unavailable(e.cause))
		}
		rec, err := e.fallback(d.opts.Now(), d.opts)
		if err != nil {
			return failed, wrapTwin(id, err)
		}
		if rec.PublicKey == failed.PublicKey && e.wait > 0 {
			return failed, wrapTwin(id, &TooSoonError{e.wait})
		}
		return rec, nil
	case <-ctx.Done():
		return failed, wrapTwin(id, unavailable(ctx.Err()))
	}
}
