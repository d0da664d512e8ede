package twin

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// errDown is what an unavailable source says in these tests.
var errDown = unavailable(errors.New("connection refused"))

// world is a directory with a source, a store and a clock in the test's hands.
type world struct {
	dir *Directory
	t   testing.TB

	mu     sync.Mutex
	now    time.Time
	answer func(ctx context.Context, id uint32) (Record, error)
	asked  int // calls of the source
	stored map[uint32]Record
	saved  time.Time // when all of stored was saved
	broken error     // the store's error
	log    bytes.Buffer
	hook   func() // called once, when the clock is read next
}

func newWorld(t testing.TB, opts Options) *world {
	w := &world{t: t, now: time.Unix(1_700_000_000, 0), stored: map[uint32]Record{}}
	opts.Now, opts.Store, opts.Log = w.clock, w, zerolog.New(&w.log)
	w.dir = NewDirectory(w, opts)
	w.says(record(t, 5, aliceAccount, "202::5"), nil)
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	hook := w.hook
	w.hook = nil
	w.mu.Unlock()
	if hook != nil {
		hook()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// atClock calls a function when the clock has been read n times and is read again.
func (w *world) atClock(n int, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = f
	if n > 0 {
		w.hook = func() { w.atClock(n-1, f) }
	}
}

func (w *world) passes(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// calls returns how often the source was asked.
func (w *world) calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

// forgets makes the source not know a twin for one question.
func (w *world) forgets(id uint32) {
	w.t.Helper()
	w.mu.Lock()
	answer := w.answer
	w.mu.Unlock()
	w.says(Record{}, ErrNotFound)
	w.passes(time.Minute)
	if _, err := w.dir.Twin(context.Background(), id); !errors.Is(err, ErrNotFound) {
		w.t.Error(err)
	}
	w.answers(answer)
}

// keyChanges returns the lines of the log about new keys.
func (w *world) keyChanges() []string {
	var lines []string
	for line := range strings.Lines(w.log.String()) {
		if strings.Contains(line, "new key") {
			lines = append(lines, line)
		}
	}
	return lines
}

// verify has the directory check a message of twin 5, signed with a secret.
func (w *world) verify(secret string) error {
	w.t.Helper()
	id, err := NewIdentity(secret, SR25519)
	if err != nil {
		w.t.Fatal(err)
	}
	message := []byte("message")
	return w.dir.Verify(context.Background(), 5, message, id.Sign(message))
}

// says makes the source answer everything alike.
func (w *world) says(rec Record, err error) {
	w.answers(func(context.Context, uint32) (Record, error) { return rec, err })
}

func (w *world) answers(f func(context.Context, uint32) (Record, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = f
}

// Twin of the source; the directory looked up in is w.dir.
func (w *world) Twin(ctx context.Context, id uint32) (Record, error) {
	w.mu.Lock()
	w.asked++
	answer := w.answer
	w.mu.Unlock()
	return answer(ctx, id)
}

func (w *world) TwinByAccount(ctx context.Context, _ string) (Record, error) { return w.Twin(ctx, 0) }

func (w *world) LoadRecord(_ context.Context, id uint32) (Record, time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return Record{}, time.Time{}, w.broken
	}
	rec, ok := w.stored[id]
	if !ok {
		return Record{}, time.Time{}, ErrNotFound
	}
	return rec, w.saved, nil
}

func (w *world) SaveRecord(_ context.Context, rec Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken == nil {
		w.stored[rec.ID], w.saved = rec, w.now
	}
	return w.broken
}

// expect looks twin 5 up and checks the outcome and the number of calls so far.
func (w *world) expect(when string, want Record, wantErr error, asked int) {
	w.t.Helper()
	rec, err := w.dir.Twin(context.Background(), 5)
	if rec != want || !errors.Is(err, wantErr) || (wantErr == nil) != (err == nil) {
		w.t.Errorf("%s: got %+v, %v, want %+v, %v", when, rec, err, want, wantErr)
	}
	if w.calls() != asked {
		w.t.Errorf("%s: the source was asked %d times, want %d", when, w.calls(), asked)
	}
}
