package twin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sync/singleflight"
)

const (
	// lookupTimeout bounds a shared lookup, whatever the source does: several
	// HTTP sources in turn, each with a time limit of its own, fit in.
	lookupTimeout = 30 * time.Second
	// storeTimeout bounds a call of the record store, which is a help and no more.
	storeTimeout = time.Second
	// patience is how long a caller waits for news when there is an old record to
	// go on with: a resolver that hangs must not hold up messages to known twins.
	patience = time.Second
)

// Options of a [Directory]. The zero value is good.
type Options struct {
	Fresh    time.Duration // how long a record is used without waiting for the source; 1 min if 0
	Negative time.Duration // how long "no such twin" is; 60 s if 0
	Stale    time.Duration // how old a record may get while the source is unavailable; 24 h if 0
	Retry    time.Duration // how long an unavailable source is not asked for the same twin; 5 s if 0
	Refetch  time.Duration // how often, at most, a signature that does not fit asks for the same twin; 1 min if 0
	Size     int           // how many twins are remembered, and a tenth as many that do not exist; 100,000 if 0
	Claims   int           // lookups a second, and at once, for strangers: for made-up twins, and for signatures that do not fit; 10 if 0

	Store RecordStore      // keeps good records over restarts; may be nil
	Now   func() time.Time // the clock; time.Now if nil
	Log   zerolog.Logger

	Observer Observer // is told of each question to the source; may be nil
}

// A RecordStore keeps records where they survive the process, so that a site
// that comes back from a power cut works before its resolver does. Its errors are
// logged at debug level and fail no lookup.
type RecordStore interface {
	// LoadRecord returns a record and when it was saved. It returns an error that
	// wraps ErrNotFound when it has none.
	LoadRecord(ctx context.Context, id uint32) (Record, time.Time, error)
	// SaveRecord keeps a record for 24 hours.
	SaveRecord(ctx context.Context, rec Record) error
}

// A Directory remembers what a [Source] says about twins, and goes on with it
// while the source is unavailable. It is safe for concurrent use, has no
// goroutines of its own and needs no closing.
type Directory struct {
	source Source
	opts   Options

	// The caches are bounded by size only. How long an entry counts depends on whether
	// the source can be reached, which the cache cannot know, so entries carry their
	// times, and otter's loading and expiry (with its goroutine) stay out of use.
	// Numbers that somebody made up have a cache of their own: they must not push
	// out the records of twins that exist.
	known    *otter.Cache[uint32, entry] // entries with a record
	unknown  *otter.Cache[uint32, entry] // the others
	changing sync.Mutex                  // held while an entry is changed
	keys     *verifier

	// What strangers cause is counted, and made-up twins apart from signatures that
	// do not fit: a flood of the one must not hide a key change from the other.
	newcomers, misfits claims

	lookups   singleflight.Group // by twin id
	refetches singleflight.Group // by twin id

	down atomic.Bool // the last lookup found the source unavailable; for the log
}

// NewDirectory returns an empty directory over a source.
func NewDirectory(src Source, opts Options) *Directory {
	opts.Fresh = cmp.Or(opts.Fresh, time.Minute)
	opts.Negative = cmp.Or(opts.Negative, time.Minute)
	opts.Stale = cmp.Or(opts.Stale, 24*time.Hour)
	opts.Retry = cmp.Or(opts.Retry, 5*time.Second)
	opts.Refetch = cmp.Or(opts.Refetch, time.Minute)
	opts.Size = cmp.Or(opts.Size, 100_000)
	opts.Claims = cmp.Or(opts.Claims, 10)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Observer == nil {
		opts.Observer = unobserved{}
	}
	return &Directory{
		source:  src,
		opts:    opts,
		known:   otter.Must(&otter.Options[uint32, entry]{MaximumSize: opts.Size}),
		unknown: otter.Must(&otter.Options[uint32, entry]{MaximumSize: max(1, opts.Size/10)}),
		keys:    newVerifier(),

		newcomers: newClaims(opts.Claims),
		misfits:   newClaims(opts.Claims),
	}
}

// Twin returns the record of a twin, from memory where that is recent enough.
// The error wraps [ErrNotFound] when there definitively is no such twin, and else
// [ErrUnavailable]: also when ctx ends first, which ends the caller's wait and not
// the lookup that others share.
func (d *Directory) Twin(ctx context.Context, id uint32) (Record, error) {
	d.want(ctx, id)
	return d.lookUp(ctx, id, false)
}

// want has the record of a twin stored from now on, also the one that is there.
// Lookups alone do not: anybody can have every twin that there is looked up, by
// messages in their names, and must not fill the store with them.
func (d *Directory) want(ctx context.Context, id uint32) {
	if d.entry(id).wanted {
		return
	}
	if e := d.update(id, func(e *entry) { e.wanted = true }); e.state == known {
		d.save(ctx, e.record)
	}
}

func (d *Directory) lookUp(ctx context.Context, id uint32, claimed bool) (Record, error) {
	e := d.entry(id)
	now := d.opts.Now()
	if e.settled(now, d.opts) {
		if e.due(now, d.opts) { // soon it will not be: nobody is to wait for the news then
			d.begin(ctx, id, claimed)
		}
		rec, err := e.fallback(now, d.opts)
		return rec, wrapTwin(id, err)
	}
	var enough <-chan time.Time
	if e.usable(now, d.opts) {
		timer := time.NewTimer(max(0, patience-e.asking(now)))
		defer timer.Stop()
		enough = timer.C
	}
	for {
		select {
		case r := <-d.begin(ctx, id, claimed):
			if r.Err != nil {
				if !claimed { // we joined a lookup that was not allowed to ask; we are
					continue
				}
				return Record{}, wrapTwin(id, r.Err)
			}
			rec, err := r.Val.(entry).fallback(d.opts.Now(), d.opts)
			return rec, wrapTwin(id, err)
		case <-enough:
			return e.record, nil
		case <-ctx.Done():
			return Record{}, wrapTwin(id, unavailable(ctx.Err()))
		}
	}
}

// begin joins the lookup of a twin, or starts it. Its outcome is an entry, or
// ErrTooMany for a claim.
func (d *Directory) begin(ctx context.Context, id uint32, claimed bool) <-chan singleflight.Result {
	return d.lookups.DoChan(key(id), func() (any, error) {
		// Whoever had the lookup before us may have finished since we looked.
		if e := d.entry(id); !e.due(d.opts.Now(), d.opts) {
			return e, nil
		}
		if claimed {
			return d.askForStranger(ctx, id, d.newcomers)
		}
		return d.ask(ctx, id), nil
	})
}

// ByAccount returns the record of the twin that an account belongs to, always
// from the source: it is asked once, when a relay finds out its own number. The
// error wraps [ErrAccount], [ErrNotFound], [ErrUnavailable] or [ErrUnsupported].
func (d *Directory) ByAccount(ctx context.Context, account string) (Record, error) {
	if _, err := ParseAccount(account); err != nil {
		return Record{}, err
	}
	rec, err := d.source.TwinByAccount(ctx, account)
	d.opts.Observer.ResolverAsked(resultOf(err))
	switch {
	case err == nil:
		d.learn(ctx, rec, d.opts.Now())
		d.want(ctx, rec.ID)
		return rec, nil
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrUnsupported):
	default:
		err = unavailable(err)
	}
	return Record{}, fmt.Errorf("resolve account %s: %w", account, err)
}

// ask asks the source and keeps what it says. The lookup belongs to all who wait
// for it, so it does not end with the context of the one who began it.
func (d *Directory) ask(ctx context.Context, id uint32) entry {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout)
	defer cancel()
	began := d.opts.Now()
	before := d.update(id, func(e *entry) { e.asked = began })
	rec, err := d.source.Twin(ctx, id)
	d.opts.Observer.ResolverAsked(resultOf(err))
	now := d.opts.Now()
	d.report(id, before.cause, err, now.Sub(began))
	switch {
	case err == nil:
		return d.learn(ctx, rec, now)
	case errors.Is(err, ErrNotFound):
		return d.update(id, func(e *entry) { e.learnMissing(now) })
	}
	var stored Record
	var saved time.Time
	if before.state == unknown {
		stored, saved = d.load(ctx, id)
	}
	return d.update(id, func(e *entry) {
		if e.state == unknown && stored.ID == id {
			e.learn(stored, saved)
			e.wanted = true // it was: to store it once more would make it younger than it is
		}
		e.fail(err, now.Add(d.opts.Retry))
	})
}

// learn keeps what a source says of a twin. A key that is another one than
// before, also than before a restart, is told: it may be the twin's owner who has
// changed it, or whoever has taken over its account, or the resolver.
func (d *Directory) learn(ctx context.Context, rec Record, at time.Time) entry {
	var before Record
	e := d.update(rec.ID, func(e *entry) {
		before = e.record
		e.learn(rec, at)
	})
	if before.ID == 0 {
		before, _ = d.load(ctx, rec.ID)
	}
	if before.ID == rec.ID && before.PublicKey != rec.PublicKey {
		d.opts.Log.Warn().Uint32("twin", rec.ID).Str("account", rec.Account).Str("was", before.Account).Msg("twin has a new key")
	}
	if e.wanted {
		d.save(ctx, rec)
	}
	return e
}

// askForStranger is ask within a bound.
func (d *Directory) askForStranger(ctx context.Context, id uint32, bound claims) (entry, error) {
	done, ok := bound.begin(d.opts.Now())
	if !ok {
		return entry{}, ErrTooMany
	}
	defer done()
	return d.ask(ctx, id), nil
}

// update changes the entry of a twin in one step, and returns it.
func (d *Directory) update(id uint32, change func(*entry)) entry {
	d.changing.Lock()
	defer d.changing.Unlock()
	e := d.entry(id)
	change(&e)
	to, from := d.unknown, d.known
	if e.state == known {
		to, from = from, to
	}
	to.Set(id, e)
	from.Invalidate(id)
	return e
}

// entry returns what is remembered of a twin.
func (d *Directory) entry(id uint32) entry {
	e, found := d.known.GetIfPresent(id)
	if !found {
		e, _ = d.unknown.GetIfPresent(id)
	}
	return e
}

// load returns a stored record with the time it was saved, or the zero Record. A
// record from the future counts from now: clocks step back.
func (d *Directory) load(ctx context.Context, id uint32) (Record, time.Time) {
	if d.opts.Store == nil {
		return Record{}, time.Time{}
	}
	// The lookup's own time may be used up: that can be why we are here.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	rec, saved, err := d.opts.Store.LoadRecord(ctx, id)
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			d.opts.Log.Debug().Uint32("twin", id).Err(err).Msg("load stored twin record")
		}
		return Record{}, time.Time{}
	}
	if now := d.opts.Now(); saved.After(now) {
		saved = now
	}
	return rec, saved
}

func (d *Directory) save(ctx context.Context, rec Record) {
	if d.opts.Store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := d.opts.Store.SaveRecord(ctx, rec); err != nil {
		d.opts.Log.Debug().Uint32("twin", rec.ID).Err(err).Msg("store twin record")
	}
}

// report logs when the source becomes unavailable and when it is back, not each
// lookup between. A lie is about one twin and says nothing about the others, so
// it is logged when it is the first for that twin.
func (d *Directory) report(id uint32, before, err error, took time.Duration) {
	switch {
	case errors.Is(err, ErrLying):
		if errors.Is(before, ErrLying) {
			return
		}
		d.opts.Log.Warn().Uint32("twin", id).Dur("took", took).Err(err).Msg("twin resolver's answer refused")
	case err == nil, errors.Is(err, ErrNotFound):
		if d.down.CompareAndSwap(true, false) {
			d.opts.Log.Info().Dur("took", took).Msg("twin resolver is back")
		}
	default:
		if d.down.CompareAndSwap(false, true) {
			d.opts.Log.Warn().Uint32("twin", id).Dur("took", took).Err(err).Msg("twin resolver unavailable, going on with known records")
		}
	}
}

func key(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

func wrapTwin(id uint32, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("resolve twin %d: %w", id, err)
}
