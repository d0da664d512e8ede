package twin

import "errors"

// An Observer is told how the source of records fares. It must be quick and wait for
// nothing.
type Observer interface {
	// ResolverAsked is told of a question that the source was asked, be it one resolver
	// or several in turn, and how it was answered: in one of the ways below.
	ResolverAsked(result string)
}

// The ways in which a question to a source is answered.
const (
	ResultFound       = "found"
	ResultNotFound    = "not_found"
	ResultUnavailable = "unavailable" // nobody could say
	ResultWrongAnswer = "wrong_answer"
	ResultUnsupported = "unsupported" // no lookup by account
)

type unobserved struct{}

func (unobserved) ResolverAsked(string) {}

func resultOf(err error) string {
	switch {
	case err == nil:
		return ResultFound
	case errors.Is(err, ErrNotFound):
		return ResultNotFound
	case errors.Is(err, ErrUnsupported):
		return ResultUnsupported
	case errors.Is(err, ErrLying):
		return ResultWrongAnswer
	default:
		return ResultUnavailable
	}
}

// Remembered returns of how many twins something is remembered, about: their records,
// or that there is no such twin.
func (d *Directory) Remembered() int { return d.known.EstimatedSize() + d.unknown.EstimatedSize() }
