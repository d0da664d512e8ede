package twin

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// claim looks up a twin that a message claims to be from.
func (w *world) claim(id uint32) error {
	_, err := w.dir.claimed(context.Background(), id)
	return err
}

// flood claims to be 5,000 twins that nobody knows, and returns how many of the
// claims were looked up.
func (w *world) flood(from uint32) (asked int) {
	w.t.Helper()
	before := w.calls()
	for i := range uint32(5000) {
		if err := w.claim(from + i); !errors.Is(err, ErrTooMany) && !errors.Is(err, ErrNotFound) {
			w.t.Fatalf("a made-up twin is %v", err)
		}
	}
	return w.calls() - before
}

// onlyTwin5 makes the source know twin 5 and nobody else.
func (w *world) onlyTwin5() Record { return w.only(record(w.t, 5, aliceAccount, "202::5")) }

// only makes the source know one twin.
func (w *world) only(rec Record) Record {
	w.answers(func(_ context.Context, id uint32) (Record, error) {
		if id == rec.ID {
			return rec, nil
		}
		return Record{}, ErrNotFound
	})
	return rec
}

// FAILURES.md row 36: 5,000 forged messages a second from twins that nobody knows
// became 5,000 questions a second to the resolver, which then served nobody.
//
// Broken by: in claims.begin, without the limiter; in Twin, `true` for
// `false` (our own questions); in begin and lookUp, without due and settled (what
// is remembered).
func TestMadeUpTwinsCostTenLookupsASecond(t *testing.T) {
	w := newWorld(t, Options{})
	rec := w.onlyTwin5()
	w.expect("before", rec, nil, 1)
	if n := w.flood(1000); n != 10 {
		t.Errorf("%d lookups at once, want 10", n)
	}
	for second := range uint32(5) {
		w.passes(time.Second)
		if n := w.flood(10_000 * (second + 1)); n != 10 {
			t.Errorf("%d lookups in a second, want 10", n)
		}
	}
	asked := w.calls()
	if err := w.claim(5); err != nil || w.calls() != asked {
		t.Errorf("a message from a known twin: %v after %d lookups", err, w.calls()-asked)
	}
	if err := w.claim(50_000); !errors.Is(err, ErrNotFound) || w.calls() != asked {
		t.Errorf("one that was not found a moment ago: %v after %d lookups", err, w.calls()-asked)
	}
	for id := range uint32(100) {
		if _, err := w.dir.Twin(context.Background(), 2_000_000+id); !errors.Is(err, ErrNotFound) || w.calls() != asked+int(id)+1 {
			t.Fatalf("our own question: %v after %d lookups", err, w.calls()-asked)
		}
	}
}

// A twin whose record has just grown old must not be locked out by a flood; nor
// may a flood make anybody go on with an old record who may ask.
//
// Broken by: in claimed, without the look at the entry; in Verify, the record that
// fits without asking for it again.
func TestAFloodHoldsUpNoTwinThatIsKnown(t *testing.T) {
	w := newWorld(t, Options{})
	w.expect("before", w.onlyTwin5(), nil, 1)
	w.passes(time.Hour)
	w.flood(1000)
	asked := w.calls()
	if err := w.claim(5); err != nil || w.calls() != asked {
		t.Errorf("%v after %d lookups", err, w.calls()-asked)
	}
	if err := w.verify("//Alice"); err != nil || w.calls() != asked+1 {
		t.Errorf("its signature: %v after %d lookups", err, w.calls()-asked)
	}
}

// A thousand messages of one newcomer, or of a busy one that nobody knows yet,
// are one question: none of them is sent away.
//
// Broken by: in lookUp, the bound asked before begin.
func TestClaimsOfOneTwinAreOneLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		release := make(chan struct{})
		rec := record(t, 5, aliceAccount, "202::5")
		w.answers(func(context.Context, uint32) (Record, error) {
			<-release
			return rec, nil
		})
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if err := w.claim(5); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if w.calls() != 1 {
			t.Errorf("%d lookups, want 1", w.calls())
		}
	})
}

// A source that takes a minute for each answer would have strangers' questions pile
// up, and ours wait behind them.
//
// Broken by: in claims.begin, without TryAcquire, or without done.
func TestStrangersHaveTenLookupsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		release := make(chan struct{})
		w.answers(func(context.Context, uint32) (Record, error) {
			<-release
			return Record{}, ErrNotFound
		})
		var wg sync.WaitGroup
		for range 5 {
			for i := range uint32(20) {
				id := uint32(1000+w.calls()*100) + i
				wg.Go(func() { _ = w.claim(id) })
			}
			synctest.Wait()
			w.passes(time.Second)
		}
		if n := w.calls(); n != 10 {
			t.Errorf("%d lookups at once, want 10", n)
		}
		wg.Go(func() { _, _ = w.dir.Twin(context.Background(), 5) })
		synctest.Wait()
		if n := w.calls(); n != 11 {
			t.Error("our own question waits")
		}
		close(release)
		wg.Wait()
		if n := w.flood(100_000); n != 10 {
			t.Errorf("%d lookups when those have ended, want 10", n)
		}
	})
}

// A lane that asks for the very twin that a stranger claims to be, and joins a
// lookup that is not allowed, must not get the stranger's answer.
//
// Broken by: in lookUp, without the case of !claimed.
func TestOurOwnQuestionIsNotRefusedWithAStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		rec := w.onlyTwin5()
		w.flood(1000)
		goOn := make(chan struct{})
		w.atClock(2, func() { <-goOn }) // read twice before the lookup, and again in it
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := w.claim(5); !errors.Is(err, ErrTooMany) {
				t.Errorf("the stranger got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if got, err := w.dir.Twin(context.Background(), 5); got != rec || err != nil {
				t.Errorf("%+v, %v", got, err)
			}
		})
		synctest.Wait()
		close(goOn)
		wg.Wait()
	})
}

// Signatures that do not fit cost lookups, too: forged messages in the names of
// all twins that are known must not cost one each. And one that was not allowed
// does not count as the twin's one in a minute.
//
// Broken by: in refetch, ask instead of askForStranger, or with e.refetched set before.
func TestSignaturesThatDoNotFitCostTenLookupsASecond(t *testing.T) {
	w := newWorld(t, Options{})
	known := make(map[uint32]Record)
	account := aliceAccount
	w.answers(func(_ context.Context, id uint32) (Record, error) { return NewRecord(id, account, "") })
	for id := range uint32(100) {
		rec, err := w.dir.Twin(context.Background(), 100+id)
		if err != nil {
			t.Fatal(err)
		}
		known[rec.ID] = rec
	}
	before, tooMany := w.calls(), uint32(0)
	for id, rec := range known {
		if _, err := w.dir.refetch(context.Background(), rec); errors.Is(err, ErrTooMany) {
			tooMany = id
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if n := w.calls() - before; n != 10 {
		t.Errorf("%d lookups, want 10", n)
	}
	account = bobAccount
	w.passes(time.Second)
	if rec, err := w.dir.refetch(context.Background(), known[tooMany]); err != nil || rec.Account != bobAccount {
		t.Errorf("%+v, %v, want the new key", rec, err)
	}
}

// Numbers that somebody makes up must not push out the records of twins that
// exist: each of their messages would need a lookup again.
//
// Broken by: in update, `to, from = from, to` for every entry (one cache for all).
func TestMadeUpTwinsPushOutNoRecords(t *testing.T) {
	w := newWorld(t, Options{Size: 100})
	w.answers(func(_ context.Context, id uint32) (Record, error) {
		if id < 100 {
			return NewRecord(id, aliceAccount, "")
		}
		return Record{}, ErrNotFound
	})
	for id := range uint32(90) {
		if _, err := w.dir.Twin(context.Background(), 1+id); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		for id := range uint32(5000) {
			if _, err := w.dir.Twin(context.Background(), 1000+id); !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
		}
	}
	before := w.calls()
	for id := range uint32(90) {
		if err := w.claim(1 + id); err != nil {
			t.Errorf("twin %d: %v", 1+id, err)
		}
	}
	if n := w.calls() - before; n != 0 {
		t.Errorf("%d of 90 records are gone", n)
	}
}
