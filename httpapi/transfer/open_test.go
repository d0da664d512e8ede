package transfer

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Each transfer costs the receiver a key agreement; or what was agreed on stays in
// memory long after the private key is gone.
//
// Breaks it: leave out keys.put in transferKey; or tick in put.
func TestTheOpenerRemembersAnAgreementForAMinuteOrTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		field, sealed := p.seal(p.offer(), "x")
		p.wantOpen(field, sealed, "x")
		id := p.offer().ID
		p.drawer.rotate("00112233445566bb")
		p.drawer.drop(id)
		time.Sleep(agreementLife - time.Second)
		p.wantOpen(field, sealed, "x")
		time.Sleep(agreementLife + 2*time.Second)
		p.wantRefused("after its key is gone", p.opener, source, field, sealed, ErrUnknownKey)
		if left := p.opener.keys.size(); left != 0 {
			t.Errorf("%d transfer keys are in memory", left)
		}
		if left := p.sealer.peers.size(); left != 0 {
			t.Errorf("%d transfer keys are in the sender's memory", left)
		}
	})
}

// Another relay of the twin has made a new key, and what is sealed for it is
// refused; or a twin that sends rubbish makes the relay ask Redis each time.
//
// Breaks it: leave out the second look in find; or the comparison with lookAtMost.
func TestAnUnknownKeyIsLookedForOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		other := NewOpener(destination, p.drawer, time.Now)
		p.offer()
		p.drawer.rotate("00112233445566bb")
		time.Sleep(lookAtMost)
		offer, err := other.Offer(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		field, sealed := p.seal(offer, "x")
		p.wantOpen(field, sealed, "x")

		before := p.drawer.looked()
		offer.ID = "00112233445566cc"
		field, sealed = p.seal(offer, "x")
		for range 30 {
			p.wantRefused("for an unknown key", p.opener, source, field, sealed, ErrUnknownKey)
			time.Sleep(100 * time.Millisecond)
		}
		if n := p.drawer.looked() - before; n > 3 {
			t.Errorf("%d looks in 3 s", n)
		}
	})
}

// Peers are offered a key for longer than it is kept.
//
// Breaks it: leave out the comparison with lookEvery.
func TestTheOfferFollowsTheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		first := p.offer()
		if want := time.Now().Add(time.Hour).Unix(); first.Until != want || len(first.Key) != keySize {
			t.Errorf("the offer of a key of %d bytes ends at %d, want %d", len(first.Key), first.Until, want)
		}
		for range 1000 {
			p.offer()
		}
		if n := p.drawer.looked(); n != 1 {
			t.Errorf("%d looks for a thousand offers", n)
		}
		p.drawer.rotate("00112233445566bb")
		time.Sleep(lookEvery)
		if second := p.offer(); second.ID != "00112233445566bb" || string(second.Key) == string(first.Key) {
			t.Errorf("a minute after the next key was made, %s is offered", second.ID)
		}
	})
}

// Redis hangs or is away for a moment, and every peer is told that its seal is
// bad; or a key stays in memory for ever.
//
// Breaks it: return the error in current; or leave out AfterFunc in remember.
func TestKeysAreRememberedForTenMinutesWhileRedisIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		away := errors.New("redis is away")
		p.drawer.fail(away)
		if _, err := p.opener.Offer(t.Context()); !errors.Is(err, away) {
			t.Errorf("before the first look: %v", err)
		}
		p.drawer.fail(nil)
		offer := p.offer()
		p.drawer.fail(away)
		time.Sleep(9 * time.Minute)
		p.offer()
		field, sealed := p.seal(offer, "x")
		p.wantOpen(field, sealed, "x")
		time.Sleep(time.Minute + time.Second)
		if _, err := p.opener.Offer(t.Context()); !errors.Is(err, away) {
			t.Errorf("after ten minutes: %v", err)
		}
		field, sealed = p.seal(offer, "x")
		if _, err := p.opener.Open(t.Context(), source, field, sealed); !errors.Is(err, away) {
			t.Errorf("after ten minutes an open ends with %v", err)
		}
		p.drawer.fail(nil)
		p.wantOpen(field, sealed, "x")
	})
}

// A twin that sends an ever new agreement fills the memory, and takes the places
// of the others.
//
// Breaks it: let placesASource be 256.
func TestASourceHasSixteenPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		offer := p.offer()
		mine, sealed := p.seal(offer, "x")
		p.wantOpen(mine, sealed, "x")
		for range 200 {
			field, sealed, err := NewSealer(source+1, time.Now).Seal(destination, offer, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.opener.Open(t.Context(), source+1, field, sealed); err != nil {
				t.Fatal(err)
			}
		}
		if n := p.opener.keys.size(); n > 16+1 {
			t.Errorf("%d transfer keys of two sources are remembered", n)
		}
		s, _ := parseSeal(mine)
		if k, _ := p.opener.keys.get(place{source, s.enc[0] % placesASource}); k.enc != s.enc {
			t.Error("another source's is forgotten")
		}
	})
}

// A hundred thousand peers, or ever new ones, take all memory.
//
// Breaks it: leave out age in put.
func TestAFleetingMapIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleeting[int, int](10, time.Minute)
		for i := range 1000 {
			f.put(i, i)
			if n := f.size(); n > 20 {
				t.Fatalf("%d values, of which 10 should be remembered", n)
			}
			for j := max(0, i-9); j <= i; j++ {
				if v, ok := f.get(j); !ok || v != j {
					t.Fatalf("the value of %d is gone after %d others", j, i-j)
				}
			}
		}
	})
}

// A value goes before its life has passed, or never.
func TestAFleetingMapForgetsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleeting[string, int](10, time.Minute)
		for i, wait := range []time.Duration{0, time.Second, 30 * time.Second, 59 * time.Second} {
			f.put("first", 1)
			time.Sleep(wait)
			k := fmt.Sprint("second", i)
			f.put(k, 2)
			time.Sleep(time.Minute - time.Nanosecond)
			if _, ok := f.get(k); !ok {
				t.Errorf("put %s after the first, it is gone before a minute", wait)
			}
			time.Sleep(time.Minute + 2*time.Nanosecond) // at two minutes sharp a timer fires
			if _, ok := f.get(k); ok {
				t.Errorf("put %s after the first, it is there after two minutes", wait)
			}
			time.Sleep(time.Minute)
			if f.size() != 0 {
				t.Error("something is left")
			}
		}
	})
}

// size is how many values are held.
func (f *fleeting[K, V]) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.young) + len(f.old)
}
