package twin

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Source knows twins: a resolver, a registry, or several in turn. Its answers
// are of three kinds, and the difference between the last two decides whether a
// message fails or waits:
//
//   - a record, nil
//   - an error that wraps [ErrNotFound]: there is no such twin, definitively
//   - an error that wraps [ErrUnavailable]: this cannot be known now
//
// TwinByAccount may also fail with [ErrUnsupported]. A Source is safe for
// concurrent use and ends soon after its context.
type Source interface {
	Twin(ctx context.Context, id uint32) (Record, error)
	TwinByAccount(ctx context.Context, account string) (Record, error)
}

var (
	// ErrNotFound says that there is no such twin.
	ErrNotFound = errors.New("no such twin")
	// ErrUnavailable says that the source cannot be asked now, or talks nonsense.
	ErrUnavailable = errors.New("twin resolver unavailable")
	// ErrTooMany says that a directory has asked its source as often for strangers
	// as it may; see [Directory.Claimed].
	ErrTooMany = errors.New("too many twin lookups for strangers")
	// ErrUnsupported says that the source cannot look twins up by account.
	ErrUnsupported = errors.New("resolver has no lookup by account")
	// ErrLying says that the source answered with something else than it was
	// asked for. It comes wrapped together with ErrUnavailable.
	ErrLying = errors.New("resolver gave a wrong answer")
)

// A TooSoonError says that a twin's record was fetched so lately that it may not
// be fetched again yet.
type TooSoonError struct{ Wait time.Duration }

func (e *TooSoonError) Error() string {
	return fmt.Sprintf("asked less than a minute ago; not again for %s", e.Wait)
}

// unavailable returns err as one that wraps ErrUnavailable, and once only.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// lying reports an answer that is well-formed and yet not to our question.
func lying(format string, args ...any) error {
	return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrLying, fmt.Errorf(format, args...))
}

// InTurn returns a source that asks others in their order. The first definitive
// answer counts, be it a record or [ErrNotFound]; the next one is asked only when
// one cannot know. If none knows, the error joins what each of them said.
func InTurn(sources ...Source) Source {
	if len(sources) == 1 {
		return sources[0]
	}
	return inTurn(sources)
}

type inTurn []Source

func (s inTurn) Twin(ctx context.Context, id uint32) (Record, error) {
	return s.ask(ctx, func(src Source) (Record, error) { return src.Twin(ctx, id) })
}

func (s inTurn) TwinByAccount(ctx context.Context, account string) (Record, error) {
	return s.ask(ctx, func(src Source) (Record, error) { return src.TwinByAccount(ctx, account) })
}

func (s inTurn) ask(ctx context.Context, one func(Source) (Record, error)) (Record, error) {
	var failed []error
	unsupported := 0
	for _, src := range s {
		rec, err := one(src)
		switch {
		case err == nil, errors.Is(err, ErrNotFound):
			return rec, err
		case errors.Is(err, ErrUnsupported):
			unsupported++
			continue
		}
		failed = append(failed, unavailable(err))
		if ctx.Err() != nil {
			break
		}
	}
	switch {
	case len(failed) > 0:
		return Record{}, errors.Join(failed...)
	case unsupported > 0:
		return Record{}, ErrUnsupported
	default:
		return Record{}, fmt.Errorf("%w: none is configured", ErrUnavailable)
	}
}
