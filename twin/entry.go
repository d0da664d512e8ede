package twin

import "time"

// An entry is what a directory remembers about one twin. The zero entry knows
// nothing. Entries are copied in and out of the cache and changed by
// [Directory.update] only.
type entry struct {
	state   state
	record  Record    // if known; if missing, what it was before, for the log
	learned time.Time // when the source said what state says

	cause   error     // why the last lookup could not know; nil if it could
	retryAt time.Time // not to be asked for before, if cause is set

	asked     time.Time // when the lookup began that has not ended; zero without one
	refetched time.Time // when a signature that did not fit last led to a lookup

	wanted bool // by this side, or by a signature that fitted: the record is worth storing
}

type state byte

const (
	unknown state = iota // the source never said anything
	known                // record is good
	missing              // there is no such twin
)

func (e *entry) learn(rec Record, at time.Time) {
	e.state, e.record, e.learned, e.cause, e.asked = known, rec, at, nil, time.Time{}
}

func (e *entry) learnMissing(at time.Time) {
	e.state, e.learned, e.cause, e.asked = missing, at, nil, time.Time{}
}

func (e *entry) fail(cause error, retryAt time.Time) {
	e.cause, e.retryAt, e.asked = cause, retryAt, time.Time{}
}

// settled reports whether the entry answers without waiting for the source.
func (e entry) settled(now time.Time, o Options) bool {
	return e.state == known && now.Sub(e.learned) < o.Fresh || !e.due(now, o)
}

// due reports whether the source may be asked again, which it is behind a use of
// the entry if that is settled: a record from two thirds of its time on.
func (e entry) due(now time.Time, o Options) bool {
	age := now.Sub(e.learned)
	switch {
	case e.cause != nil && now.Before(e.retryAt):
		return false
	case e.state == known:
		return age >= o.Fresh*2/3
	case e.state == missing:
		return age >= o.Negative
	default:
		return true
	}
}

// asking returns for how long the source has been asked.
func (e entry) asking(now time.Time) time.Duration {
	if e.asked.IsZero() {
		return 0
	}
	return now.Sub(e.asked)
}

// usable reports whether there is a record to go on with while the source is
// unavailable.
func (e entry) usable(now time.Time, o Options) bool {
	return e.state == known && now.Sub(e.learned) < o.Stale
}

// fallback returns the best that is known after the source was asked, or may not
// be asked. "No such twin" does not outlive its time: what was true a minute ago
// must not fail the messages to a twin that was registered since.
func (e entry) fallback(now time.Time, o Options) (Record, error) {
	switch {
	case e.usable(now, o):
		return e.record, nil
	case e.state == missing && now.Sub(e.learned) < o.Negative:
		return Record{}, ErrNotFound
	case e.cause != nil:
		return Record{}, unavailable(e.cause)
	default:
		return Record{}, ErrUnavailable
	}
}
