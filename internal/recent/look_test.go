package recent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Twenty open pages must not have Redis read all its lanes twenty times a second, nor be
// shown for long what is not true any more.
func TestALookServesAllWhoAskSoonAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, err := 0, errors.New("it is away")
		l := NewLook(time.Second, func(context.Context) (int, error) {
			reads++
			return reads, err
		})
		want := func(get func(context.Context) (int, error), value int) {
			t.Helper()
			if got, gotErr := get(t.Context()); got != value || gotErr != err {
				t.Errorf("it is %d, %v, want %d, %v", got, gotErr, value, err)
			}
		}
		want(l.Get, 1)
		time.Sleep(time.Second - time.Nanosecond)
		want(l.Get, 1)
		time.Sleep(time.Nanosecond)
		err = nil
		want(l.Get, 2)
		want(l.Now, 3)
		want(l.Get, 3)
	})
}

// A page that is closed while it is read must not tell the others that Redis is away.
func TestWhoGoesTakesNoAnswerAlong(t *testing.T) {
	l := NewLook(time.Hour, func(ctx context.Context) (int, error) { return 5, ctx.Err() })
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := l.Get(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone is told %v", err)
	}
	if got, err := l.Get(t.Context()); got != 5 || err != nil {
		t.Errorf("another is told %d, %v", got, err)
	}
}
