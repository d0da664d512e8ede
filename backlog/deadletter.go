package backlog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A DeadLetter is a message that nobody could handle.
type DeadLetter struct {
	ID      string        `json:"id"`      // of the stream, its time in ms in front
	At      time.Time     `json:"at"`      // when it was buried
	Queue   string        `json:"queue"`   // where it was: "local", "remote", "reply", "lane" or "backlog"
	Reason  msgbus.Reason `json:"reason"`  // why
	Detail  string        `json:"detail"`  // … in words
	To      string        `json:"to"`      // the list that it was for, if that is not the queue
	Message string        `json:"message"` // or as much of it as was asked for
	Bytes   int           `json:"bytes"`   // of all of it
}

// deadStep is how many dead letters are read, or dropped, at once at most.
const deadStep = 100

// DeadLetters returns the latest dead letters of a reason, "" for any, or those before
// one, no more than `most` and of each message no more than so many bytes. next is the
// id before which there are more, or "".
func (s *Store) DeadLetters(ctx context.Context, before string, reason msgbus.Reason, most, bytes int) (letters []DeadLetter, next string, err error) {
	atOnce := min(most, deadStep-1) + 1 // one more, to tell whether there are more
	for {
		step, err := s.deadLetters(ctx, before, atOnce, bytes)
		if err != nil {
			return nil, "", err
		}
		for _, l := range step {
			before = l.ID
			switch {
			case reason != "" && reason != l.Reason:
			case len(letters) == most:
				return letters, next, nil
			default:
				letters, next = append(letters, l), l.ID
			}
		}
		if len(step) < atOnce {
			return letters, "", nil
		}
	}
}

// DeadIDs names all dead letters of a reason, "" for any, the latest first.
func (s *Store) DeadIDs(ctx context.Context, reason msgbus.Reason) ([]string, error) {
	letters, _, err := s.DeadLetters(ctx, "", reason, math.MaxInt, 0)
	var ids []string
	for _, l := range letters {
		ids = append(ids, l.ID)
	}
	return ids, err
}

// deadLetters is one step of [Store.DeadLetters].
func (s *Store) deadLetters(ctx context.Context, before string, most, bytes int) ([]DeadLetter, error) {
	if before == "" {
		before = "+"
	}
	result, err := s.run(ctx, s.scripts.viewDead, []string{s.keys.dead()}, before, most, bytes).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("read the dead letters: %w", err)
	}
	var letters []DeadLetter
	for i := 0; i+6 < len(result); i += 7 {
		f := result[i : i+7]
		size, _ := strconv.Atoi(f[6])
		letters = append(letters, DeadLetter{
			ID: f[0], At: buriedAt(f[0]), Queue: f[1], Reason: msgbus.Reason(f[2]), Detail: f[3], To: f[4], Message: f[5], Bytes: size,
		})
	}
	return letters, nil
}

// DeadLetter returns one dead letter whole, or msgbus.ErrNotFound.
func (s *Store) DeadLetter(ctx context.Context, id string) (*DeadLetter, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := s.rdb.XRange(ctx, s.keys.dead(), id, id).Result()
	if err != nil {
		return nil, fmt.Errorf("read dead letter %s: %w", id, translate(err))
	}
	if len(found) == 0 {
		return nil, msgbus.ErrNotFound
	}
	field := func(name string) string {
		text, _ := found[0].Values[name].(string)
		return text
	}
	return &DeadLetter{
		ID: found[0].ID, At: buriedAt(found[0].ID), Queue: field("queue"), Reason: msgbus.Reason(field("reason")), Detail: field("detail"),
		To: field("to"), Message: field("message"), Bytes: len(field("message")),
	}, nil
}

// buriedAt reads the time that the id of a dead letter begins with.
func buriedAt(id string) time.Time {
	text, _, _ := strings.Cut(id, "-")
	return milliseconds(text)
}

// ErrNoRetry: a dead letter came from no list that it could be put back to.
var ErrNoRetry = errors.New("it came from no list to which it can be put back")

// ErrNoList: the key of the list that a dead letter was for is of another type.
var ErrNoList = errors.New("is not a list")

// RetryDeadLetter puts a dead letter back to the end of the list that it came from, or
// that it was for. It returns msgbus.ErrNotFound, ErrNoRetry or ErrNoList when it
// cannot.
func (s *Store) RetryDeadLetter(ctx context.Context, id string) error {
	letter, err := s.DeadLetter(ctx, id)
	if err != nil {
		return err
	}
	to := letter.To
	if to == "" {
		if !slices.Contains(queues[:], msgbus.Queue(letter.Queue)) {
			return ErrNoRetry
		}
		to = s.keys.queue(msgbus.Queue(letter.Queue))
	}
	n, err := s.run(ctx, s.scripts.retryDead, []string{s.keys.dead(), s.keys.suspects(), to}, id).Int()
	switch {
	case err != nil:
		return fmt.Errorf("put dead letter %s back: %w", id, err)
	case n == 0:
		return msgbus.ErrNotFound
	case n < 0:
		return fmt.Errorf("%s %w", to, ErrNoList)
	}
	return nil
}

// RetryDeadLetters puts dead letters back, which are named the latest first: the oldest
// goes first, as they came. One that is gone, or that cannot be put back, keeps no other
// from it: `left` has why, and the rest is back. An error ends it.
func (s *Store) RetryDeadLetters(ctx context.Context, ids ...string) (back []string, left []error, err error) {
	for _, id := range slices.Backward(ids) {
		switch err := s.RetryDeadLetter(ctx, id); {
		case err == nil:
			back = append(back, id)
		case errors.Is(err, msgbus.ErrNotFound), errors.Is(err, ErrNoRetry), errors.Is(err, ErrNoList):
			left = append(left, fmt.Errorf("dead letter %s: %w", id, err))
		default:
			return back, left, err
		}
	}
	return back, left, nil
}

// DropDeadLetters forgets dead letters for good, and says how many of them there were.
func (s *Store) DropDeadLetters(ctx context.Context, ids ...string) (dropped int64, err error) {
	for step := range slices.Chunk(ids, deadStep) {
		n, err := s.dropDeadLetters(ctx, step)
		if err != nil {
			return dropped, fmt.Errorf("drop dead letters: %w", translate(err))
		}
		dropped += n
	}
	return dropped, nil
}

func (s *Store) dropDeadLetters(ctx context.Context, ids []string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.rdb.XDel(ctx, s.keys.dead(), ids...).Result()
}
