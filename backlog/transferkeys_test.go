package backlog_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
)

// transferKeyPlaces returns the Redis keys that hold key pairs.
func (r *rig) transferKeyPlaces() []string {
	return r.rdb.Keys(r.Context(), "msgbus.system.transfer.keys.*").Val()
}

// transferKeys returns the key pairs as text, and the id of the offered one.
func (r *rig) transferKeys(s *backlog.Store) (ids []string, offered string) {
	r.Helper()
	private, offered, err := s.TransferKeys(r.Context())
	r.must(err)
	for id, key := range private {
		wantEqual(r, "length of an id", len(id), 16)
		wantEqual(r, "bytes of a private key", len(key), 32)
	}
	if private[offered] == nil {
		r.Fatalf("the offered key %s is not among %d others", offered, len(private))
	}
	return slices.Sorted(maps.Keys(private)), offered
}

// Two relays of a twin start at once, and each cannot open what peers have
// sealed for the other's key.
func TestRelaysThatStartAtOnceAgreeOnTheTransferKeys(t *testing.T) {
	onBoth(t, func(r *rig) {
		const relays = 8
		var group sync.WaitGroup
		got := make([]string, relays)
		for i := range relays {
			s := r.open(instance(fmt.Sprint("relay ", i)))
			group.Go(func() {
				private, offered, err := s.TransferKeys(r.Context())
				got[i] = fmt.Sprint(private, offered, err)
			})
		}
		group.Wait()
		for _, g := range got {
			wantEqual(r, "keys of a relay", g, got[0])
		}
		wantEqual(r, "keys in Redis", len(r.transferKeyPlaces()), 1)
		r.wantSound(r.open(), "with transfer keys")
	})
}

// A key is used for ever, or recorded traffic can be opened a week later; or one
// goes while peers still seal for it.
//
// Breaks it: leave out the comparison with `kept`, or with `offered`.
func TestTransferKeyIsOfferedForSixHoursAndKeptForADayMore(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.open()
		_, first := r.transferKeys(s)
		r.advance(6*time.Hour - time.Minute)
		_, offered := r.transferKeys(s)
		wantEqual(r, "offered after almost 6 h", offered, first)
		r.advance(2 * time.Minute)
		ids, second := r.transferKeys(s)
		if second == first || !slices.Contains(ids, first) {
			r.Fatalf("after 6 h %s is offered and there is %s; at first there was %s", second, ids, first)
		}
		for range 3 {
			r.advance(6*time.Hour + time.Minute)
			ids, _ = r.transferKeys(s)
		}
		wantEqual(r, "keys after 24 h", len(ids), 5)
		r.advance(6*time.Hour - 6*time.Minute)
		if ids, _ = r.transferKeys(s); !slices.Contains(ids, first) {
			r.Fatal("the first key is gone before 30 h")
		}
		r.advance(4 * time.Minute)
		if ids, _ = r.transferKeys(s); slices.Contains(ids, first) {
			r.Fatal("the first key is there after 30 h")
		}
		if kept := r.dump(); strings.Contains(kept, first) {
			r.Fatal("the first key is in Redis after 30 h")
		}
	})
}

// A relay is stopped for good, or nothing comes in for it to look at its keys for,
// and what was recorded can be opened with what its Redis holds days later.
//
// Breaks it: leave out PXAT, or have it by when the newest was made.
func TestTransferKeysGoWithoutARelay(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.open()
		_, first := r.transferKeys(s)
		r.advance(5*time.Hour + 50*time.Minute)
		_, offered := r.transferKeys(s)
		wantEqual(r, "offered at its last", offered, first)
		r.advance(20 * time.Minute)
		_, second := r.transferKeys(s)
		r.advance(23*time.Hour + 49*time.Minute)
		if kept := r.dump(); !strings.Contains(kept, first) || !strings.Contains(kept, second) {
			r.Fatal("a key is gone before 30 h")
		}
		r.advance(2 * time.Minute)
		if kept := r.dump(); strings.Contains(kept, first) || !strings.Contains(kept, second) {
			r.Fatal("after 30 h the first key is in Redis, or the second is not")
		}
		r.advance(6*time.Hour + 10*time.Minute)
		wantEqual(r, "keys in Redis after all of them have aged", len(r.transferKeyPlaces()), 0)
	})
}

// A new key takes the place of one that peers still seal for.
//
// Breaks it: one place less.
func TestNoTransferKeyTakesThePlaceOfAnother(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.open()
		made := map[string]time.Duration{}
		for past := time.Duration(0); past < 8*24*time.Hour; past += 29 * time.Minute {
			ids, offered := r.transferKeys(s)
			if _, is := made[offered]; !is {
				made[offered] = past
			}
			for id, at := range made {
				if age := past - at; age < 30*time.Hour-time.Minute && !slices.Contains(ids, id) {
					r.Fatalf("a key is gone after %s", age)
				}
			}
			r.advance(29 * time.Minute)
		}
	})
}

// Redis's clock was a year ahead and is set right: one key is offered for a year.
//
// Breaks it: leave out `made > now`.
func TestTransferKeyFromTheFutureIsForgotten(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.open()
		_, future := r.transferKeys(s)
		r.step(-time.Hour)
		ids, offered := r.transferKeys(s)
		if offered == future || len(ids) != 1 {
			r.Fatalf("%s is offered of %s, and %s is of the future", offered, ids, future)
		}
	})
}

// Something else wrote where the keys are, and no transfer can be opened any more.
func TestTransferKeysThatCannotBeReadAreDropped(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.open()
		_, offered := r.transferKeys(s)
		place := r.transferKeyPlaces()[0]
		good := r.rdb.Get(r.Context(), place).Val()
		made, pair, _ := strings.Cut(good, " ")
		for i, bad := range []string{"", "garbage", good[:len(good)-1], good + "0", made + " " + strings.ToUpper(pair), made + " 0" + pair} {
			if other := fmt.Sprint("msgbus.system.transfer.keys.", i); other != place {
				r.must(r.rdb.Set(r.Context(), other, bad, 0).Err())
			}
		}
		ids, again := r.transferKeys(s)
		wantEqual(r, "keys", fmt.Sprint(ids), fmt.Sprint([]string{offered}))
		wantEqual(r, "offered", again, offered)
		wantEqual(r, "keys in Redis", len(r.transferKeyPlaces()), 1)
	})
}

// Each look changes Redis: every relay writes to the append-only file once a
// minute, for nothing.
func TestLookingAtTransferKeysChangesNothing(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.open()
		r.transferKeys(s)
		r.unchanged("another look", func() { r.transferKeys(s) })
	})
}

// Redis is full when the next key is due, and peers are offered none.
//
// Breaks it: leave out make_room.
func TestTransferKeyIsMadeInAFullRedis(t *testing.T) {
	r := onReal(t)
	r.must(r.rdb.ConfigSet(r.Context(), "maxmemory", "1").Err())
	ids, _ := r.transferKeys(r.open())
	wantEqual(r, "keys", len(ids), 1)
}

// The key's place is taken by a list, and the error shows nothing but that.
func TestErrorOfTransferKeysHoldsNoKey(t *testing.T) {
	onBoth(t, func(r *rig) {
		r.push("msgbus.system.transfer.keys.0", "x")
		private, offered, err := r.open().TransferKeys(r.Context())
		if err == nil || private != nil || offered != "" {
			r.Fatalf("%d keys and %q from a list, error %v", len(private), offered, err)
		}
		for word := range strings.FieldsSeq(err.Error()) {
			if len(word) >= 64 {
				r.Errorf("the error holds %q", word)
			}
		}
	})
}
