package twin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// misfits tells whether a signature was refused for not fitting the key: for good,
// or until the twin may be looked up again.
func misfits(err error) bool {
	var soon *TooSoonError
	return errors.Is(err, ErrSignature) || errors.As(err, &soon)
}

// A key was stolen, and its twin has a new one. A minute later nobody may send in
// its name with the old one: neither steadily nor after a pause, nor under cover
// of a flood that uses up all lookups for strangers.
//
// Broken by: in Verify, nil where the remembered key fits; in claimed, lookUp
// before the key is tried.
func TestAKeyThatWasGivenUpIsRefusedAMinuteLater(t *testing.T) {
	for name, meanwhile := range map[string]func(*world){
		"nothing":         func(*world) {},
		"the thief sends": func(w *world) { _ = w.verify("//Alice"); synctest.Wait() },
		"a flood":         func(w *world) { w.flood(1000); w.flood(10_000) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Options{})
				w.onlyTwin5()
				if err := w.verify("//Alice"); err != nil {
					t.Fatal(err)
				}
				w.only(record(t, 5, bobAccount, "202::5"))
				for range 6 {
					w.passes(10*time.Second - 1)
					meanwhile(w)
				}
				w.passes(6)
				if err := w.verify("//Alice"); !misfits(err) {
					t.Errorf("the old key, a minute after: %v", err)
				}
				if err := w.verify("//Bob"); err != nil {
					t.Errorf("the new key: %v", err)
				}
			})
		})
	}
}

// A twin that has changed its key must not lose a message; nor may a flood of
// made-up twins keep its new key from being looked up.
//
// Broken by: in refetch, newcomers for misfits.
func TestANewKeyIsTakenAtItsFirstMessage(t *testing.T) {
	w := newWorld(t, Options{})
	w.onlyTwin5()
	if err := w.verify("//Alice"); err != nil {
		t.Fatal(err)
	}
	w.flood(1000)
	w.says(record(t, 5, bobAccount, "202::5"), nil)
	if err := w.verify("//Bob"); err != nil {
		t.Error(err)
	}
	if err := w.verify("//Alice"); !misfits(err) {
		t.Errorf("the old key after that: %v", err)
	}
}

// A twin that was removed is known for a minute more, and for none beyond it.
func TestATwinThatWasRemovedIsRefusedAMinuteLater(t *testing.T) {
	w := newWorld(t, Options{})
	if err := w.verify("//Alice"); err != nil {
		t.Fatal(err)
	}
	w.says(Record{}, ErrNotFound)
	w.passes(time.Minute)
	if err := w.verify("//Alice"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v, want not found", err)
	}
}

// What cannot be known is not called a bad signature: its sender is to come again.
func TestWhileTheSourceIsAwayOldKeysDoAndNewOnesWait(t *testing.T) {
	w := newWorld(t, Options{})
	if err := w.verify("//Alice"); err != nil {
		t.Fatal(err)
	}
	w.says(Record{}, errDown)
	w.passes(time.Hour)
	if err := w.verify("//Alice"); err != nil {
		t.Errorf("the key that was known an hour ago: %v", err)
	}
	if err := w.verify("//Bob"); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrSignature) {
		t.Errorf("another one: %v", err)
	}
	w.passes(23 * time.Hour)
	if err := w.verify("//Alice"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the key that was known a day ago: %v", err)
	}
}

// An operator must find in the log that a twin has another key, whoever noticed:
// once, with both accounts.
//
// Broken by: in learn, without the log line, or without the record from before a
// restart; in learnMissing, without keeping the record.
func TestEachKeyChangeIsToldOnce(t *testing.T) {
	ctx := context.Background()
	alice, bob := record(t, 5, aliceAccount, "202::5"), record(t, 5, bobAccount, "202::5")
	for name, notice := range map[string]func(*world){
		"a lookup":    func(w *world) { w.passes(time.Minute); _, _ = w.dir.Twin(ctx, 5) },
		"a signature": func(w *world) { _ = w.verify("//Bob") },
		"behind a use": func(w *world) {
			w.passes(45 * time.Second)
			_, _ = w.dir.Twin(ctx, 5)
			synctest.Wait()
		},
		"the start":        func(w *world) { _, _ = w.dir.ByAccount(ctx, bobAccount) },
		"after a restart":  func(w *world) { w.dir = NewDirectory(w, w.dir.opts); _, _ = w.dir.Twin(ctx, 5) },
		"after it was off": func(w *world) { w.forgets(5); w.passes(time.Minute); _, _ = w.dir.Twin(ctx, 5) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Options{})
				w.expect("before", alice, nil, 1)
				w.passes(30 * time.Second)
				w.says(bob, nil)
				notice(w)
				for range 3 {
					w.passes(time.Minute)
					_ = w.verify("//Bob")
					_ = w.verify("//Alice")
				}
				told := w.keyChanges()
				if len(told) != 1 || !strings.Contains(told[0], `"twin":5,"account":"`+bobAccount+`","was":"`+aliceAccount+`"`) {
					t.Errorf("%d lines: %s", len(told), told)
				}
			})
		})
	}
}

// A record that only moved is no key change.
func TestANewAddressIsNoKeyChange(t *testing.T) {
	w := newWorld(t, Options{})
	w.expect("before", record(t, 5, aliceAccount, "202::5"), nil, 1)
	w.says(record(t, 5, aliceAccount, "202::6"), nil)
	w.passes(time.Minute)
	w.expect("after", record(t, 5, aliceAccount, "202::6"), nil, 2)
	if told := w.keyChanges(); len(told) != 0 {
		t.Errorf("%s", told)
	}
}

// Somebody sends messages in the names of all twins that there are, ten a second
// and signed by none of them: the store must not fill with their records.
//
// Broken by: in learn, without wanted; in Verify or ByAccount, without want.
func TestOnlyTwinsThatAreDealtWithAreStored(t *testing.T) {
	alice, bob := record(t, 5, aliceAccount, "202::5"), record(t, 5, bobAccount, "202::5")
	forged := func(t *testing.T) *world {
		w := newWorld(t, Options{})
		if err := w.verify("//Bob"); !errors.Is(err, ErrSignature) || len(w.stored) != 0 {
			t.Fatalf("a forged message: %v, stored %v", err, w.stored)
		}
		return w
	}
	for name, c := range map[string]struct {
		do   func(*world) error
		want Record
	}{
		"its signature fitted":  {func(w *world) error { return w.verify("//Alice") }, alice},
		"one with its new key":  {func(w *world) error { w.says(bob, nil); w.passes(time.Minute); return w.verify("//Bob") }, bob},
		"this side sends to it": {func(w *world) error { _, err := w.dir.Twin(t.Context(), 5); return err }, alice},
		"it is this side":       {func(w *world) error { _, err := w.dir.ByAccount(t.Context(), aliceAccount); return err }, alice},
		"its record changes after these": {func(w *world) error {
			w.expect("", alice, nil, 2)
			w.says(bob, nil)
			w.passes(time.Minute)
			return w.verify("//Bob")
		}, bob},
	} {
		t.Run(name, func(t *testing.T) {
			w := forged(t)
			if err := c.do(w); err != nil {
				t.Fatal(err)
			}
			if w.stored[5] != c.want {
				t.Errorf("stored is %+v, want %+v", w.stored[5], c.want)
			}
		})
	}
}

// The source is away after a restart, and its absence must not make a stored
// record younger at each restart.
//
// Broken by: in ask, without wanted for what was stored.
func TestAStoredRecordIsNotStoredAgainForAMessage(t *testing.T) {
	w := newWorld(t, Options{})
	w.stored, w.saved = map[uint32]Record{5: record(t, 5, aliceAccount, "")}, w.now.Add(-23*time.Hour)
	was := w.saved
	w.says(Record{}, errDown)
	if err := w.verify("//Alice"); err != nil || w.saved != was {
		t.Errorf("%v, saved again at %s", err, w.saved)
	}
}
