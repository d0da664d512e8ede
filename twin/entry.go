package twin

import "time"

// An entry is what a directory remembers about one twin. The zero entry knows
// nothing. Entries are copied in and out of the cache and changed by
// [Directory.update] only.
type entry struct {
	state   state
	record  Record    // if known
	learned time.Time // when the source said what state says

	cause   error     // why the last lookup could not know; nil if it could
	retryAt time.Time // not to be asked for before, if cause is set

	refetched time.Time // when Refetch last asked
}

type state byte

const (
	unknown state = iota // the source never said anything
	known                // record is good
	missing              // there is no such twin
)

func (e *entry) learn(rec Record, at time.Time) {
	e.state, e.record, e.learned, e.cause = known, rec, at, nil
}

func (e *entry) learnMissing(at time.Time) {
	e.state, e.record, e.learned, e.cause = missing, Record{}, at, nil
}

func (e *entry) fail(cause error, retryAt time.Time) {
	e.cause, e.retryAt = cause, retryAt
}

// settled reports whether the entry answers without the source being asked.
func (e entry) settled(now time.Time, o Options) bool {
	age := now.Sub(e.learned)
	switch {
	case e.state == known && age < o.Fresh:
		return true
	case e.state == missing && age < o.Negative:
		return true
	default:
		return e.cause != nil && now.Before(e.retryAt)
	}
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
