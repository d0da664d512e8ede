package backlog_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

const presenceKey = "msgbus.system.presence"

func presentAs(name string) string { return "msgbus.system.presence." + name }
func nameGone(name string) []byte  { return []byte(name + " is gone") }

// come does what an app does every 5 s that has a name.
func (r *rig) come(names ...string) {
	r.Helper()
	tx := r.rdb.TxPipeline()
	for _, name := range names {
		tx.ZAdd(r.Context(), presenceKey, redis.Z{Score: 0, Member: name})
		tx.Set(r.Context(), presentAs(name), "{}", 15*time.Second)
	}
	_, err := tx.Exec(r.Context())
	r.must(err)
}

func (r *rig) gone(s *backlog.Store) int {
	r.Helper()
	n, err := s.Gone(r.Context(), nameGone)
	r.must(err)
	return n
}

// Nobody is told that an app has died, or everybody twice; or one is told dead that lives.
//
// Breaks it: in presence.lua, without ZREM; without the look at EXISTS.
func TestAppThatHasGoneIsToldOnce(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		graceful := func(o *backlog.Options) { o.Grace = 10 * time.Second }
		one, two := r.join(graceful), r.join(graceful, func(o *backlog.Options) { o.Instance = "b" })
		r.come("a", "b", "c")
		r.must(r.rdb.Del(r.Context(), presentAs("a"), presentAs("b")).Err())
		wantEqual(r, "at first", r.gone(one)+r.gone(two), 0)
		r.come("b")
		r.advance(9 * time.Second)
		wantEqual(r, "before the grace is over", r.gone(one)+r.gone(two), 0)
		r.advance(2 * time.Second)
		wantEqual(r, "after it", r.gone(one)+r.gone(two), 1)
		r.wantList("msgbus.system.local", "a is gone")
		names, err := r.rdb.ZRange(r.Context(), presenceKey, 0, -1).Result()
		r.must(err)
		wantEqual(r, "who is left", fmt.Sprint(names), "[b c]")
	})
}

// Redis's clock is set, and all apps of the machine are told dead.
//
// Breaks it: in presence.lua, without held.
func TestNoAppHasGoneBecauseRedisClockWasSet(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		r.come("a")
		r.step(time.Hour)
		var held *msgbus.HeldError
		if _, err := s.Gone(r.Context(), nameGone); !errors.As(err, &held) {
			t.Errorf("Gone returned %v, want that it is held", err)
		}
		r.come("a")
		r.wantList("msgbus.system.local")
	})
}

// A program has written over a key, or Redis is full, and who has gone is forgotten without a
// word.
func TestAppThatHasGoneIsToldWhateverThereIs(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.must(r.rdb.Set(r.Context(), presenceKey, "text", 0).Err())
		wantEqual(r, "of a key of another type", r.gone(s), 0)
		r.must(r.rdb.Del(r.Context(), presenceKey).Err())
		r.come("a", "b")
		r.must(r.rdb.Del(r.Context(), presentAs("a")).Err())
		r.must(r.rdb.Set(r.Context(), presentAs("b"), "mine", 0).Err())
		r.gone(s)
		eventually(t, "it is told", func() bool { return r.gone(s) == 1 })
		r.wantList("msgbus.system.local", "a is gone")
	})
}
