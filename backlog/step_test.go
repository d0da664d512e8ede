package backlog_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// wantHeld fails unless expiry is held because Redis's clock was set by so much.
func (r *rig) wantHeld(s *backlog.Store, by time.Duration) {
	r.Helper()
	entries, err := s.Due(r.Context())
	wantEqual(r, "due while expiry is held", len(entries), 0)
	dropped, forgetErr := s.ForgetExpired(r.Context())
	wantEqual(r, "replies dropped while expiry is held", dropped, 0)
	for _, err := range []error{err, forgetErr} {
		var held *msgbus.HeldError
		if !errors.As(err, &held) {
			r.Fatalf("error is %v, want that expiry is held", err)
		}
		if (held.By - by).Abs() > 3*time.Second {
			r.Fatalf("the clock was set by %v, want %v", held.By, by)
		}
	}
}

func (r *rig) wantNotHeld(s *backlog.Store, due ...string) {
	r.Helper()
	wantEqual(r, "due", r.due(s), fmt.Sprint(due))
}

// kept counts what waits to expire: requests, records and replies.
func (r *rig) kept() string {
	r.Helper()
	ctx := r.Context()
	return fmt.Sprint(r.rdb.HLen(ctx, "msgbus.system.backlog").Val(), r.rdb.HLen(ctx, "msgbus.system.open").Val(), r.rdb.HLen(ctx, "msgbus.system.replies").Val())
}

// The machine's clock is set by an hour: every request ends at once with an
// error, while its reply is on the way, and replies are dropped.
//
// Breaks it: leave `return wait` out of due.lua or due_replies.lua; let held
// return nil where it says STEPPED; let hold.lua write no key.
func TestNothingExpiresForAMinuteAfterAStepForward(t *testing.T) {
	for name, notice := range map[string]func(*backlog.Store, *rig) error{
		"noticed by Due":           func(s *backlog.Store, r *rig) error { _, err := s.Due(r.Context()); return err },
		"noticed by ForgetExpired": func(s *backlog.Store, r *rig) error { _, err := s.ForgetExpired(r.Context()); return err },
		"noticed by Renew":         func(s *backlog.Store, r *rig) error { return s.Renew(r.Context()) },
		"noticed by Join":          func(s *backlog.Store, r *rig) error { return s.Join(r.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onMovingClocks(t, func(r *rig) {
				s := r.join()
				uids := r.admit(s, request(1002))
				r.accept(s, 1003, sample, arrival(1))
				r.refuseArrival(s, 1004, sample, 1)
				wantEqual(r, "kept", r.kept(), "1 1 1")
				r.wantNotHeld(s)

				r.step(2 * time.Hour)
				var held *msgbus.HeldError
				if err := notice(s, r); err != nil && !errors.As(err, &held) {
					r.Fatal(err)
				}
				r.within("Now", s.Now(), r.now(), 3*time.Second)
				r.wantHeld(s, 2*time.Hour)
				r.advance(30 * time.Second)
				late := r.join(instance("late")) // knows nothing of another time
				r.wantHeld(late, 2*time.Hour)
				r.advance(28 * time.Second)
				r.wantHeld(s, 2*time.Hour)
				r.wantHeld(late, 2*time.Hour)
				wantEqual(r, "kept", r.kept(), "1 1 1")

				r.advance(3 * time.Second)
				r.wantNotHeld(s, uids[0])
				n, err := late.ForgetExpired(r.Context())
				r.must(err)
				wantEqual(r, "replies dropped", n, 1)
				wantEqual(r, "kept", r.kept(), "1 0 0")
			})
		})
	}
}

// A clock that is set twice, as by somebody who corrects himself: the hold is
// over too early, or lasts for an hour.
//
// Breaks it: let hold.lua SET with NX and without DEL; leave PEXPIRE out of
// held.
func TestAnotherStepBeginsTheHoldAnew(t *testing.T) {
	for _, second := range []time.Duration{time.Hour, -time.Hour, -30 * time.Second} {
		t.Run(second.String(), func(t *testing.T) {
			t.Parallel()
			onMovingClocks(t, func(r *rig) {
				s := r.join()
				r.step(time.Hour)
				r.wantHeld(s, time.Hour)
				r.advance(50 * time.Second)
				r.step(second)
				r.wantHeld(s, second)
				r.advance(50 * time.Second)
				r.wantHeld(s, second)
				r.advance(11 * time.Second)
				r.wantNotHeld(s)
			})
		})
	}
	t.Run("that no relay has seen", func(t *testing.T) {
		onMovingClocks(t, func(r *rig) {
			r.step(time.Hour)
			s := r.join()
			r.step(2 * time.Hour)
			r.wantHeld(s, 2*time.Hour)
			r.must(s.Close())
			r.step(-3 * time.Hour)
			s = r.join()
			r.wantHeld(s, 2*time.Hour) // what is known of it
			r.advance(61 * time.Second)
			r.wantNotHeld(s)
		})
	})
}

// once returns what does something when it is called first.
func once(do func()) func() error {
	var first sync.Once
	return func() error { first.Do(do); return nil }
}

// The clock is set between two steps of housekeeping: the records of requests
// that services work on are gone, and their replies late.
//
// Breaks it: leave out the `return wait` of close_open.lua.
func TestNoRecordIsClosedByAStepInTheMiddle(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		_, err := s.ForgetExpired(r.Context())
		r.must(err)
		r.accept(s, 1003, sample, arrival(1))
		commands := 0
		s.BeforeCommand(func() error {
			if commands++; commands == 2 { // replies are dropped, records are not yet
				r.step(time.Hour)
			}
			return nil
		})
		_, err = s.ForgetExpired(r.Context())
		var held *msgbus.HeldError
		wantEqual(r, "held", errors.As(err, &held), true)
		wantEqual(r, "kept", r.kept(), "0 1 0")
	})
}

// A Redis that is busy, or was stopped for a while, looks as if its clock had
// been set, and nothing expires for another minute each time.
//
// Breaks it: let expiring hold at once when a script says STEPPED; let
// learnTime count from the answer alone (sent = now).
func TestSlowRedisIsNoStep(t *testing.T) {
	for name, call := range map[string]func(*backlog.Store, *rig){
		"Due":           func(s *backlog.Store, r *rig) { r.due(s) },
		"ForgetExpired": func(s *backlog.Store, r *rig) { _, err := s.ForgetExpired(r.Context()); r.must(err) },
		"Renew":         func(s *backlog.Store, r *rig) { r.must(s.Renew(r.Context())) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onMovingClocks(t, func(r *rig) {
				s := r.join(func(o *backlog.Options) { o.Lease = time.Hour })
				uids := r.admit(s, request(1002))
				call(s, r)                                                    // loads the script, so that the next is one command
				s.BeforeCommand(once(func() { r.advance(20 * time.Second) })) // from here to Redis
				late := once(func() { r.advance(20 * time.Second) })          // and back
				s.AfterCommand(func() { _ = late() })
				call(s, r)
				wantEqual(r, "holds", r.rdb.Exists(r.Context(), "msgbus.system.hold").Val(), 0)
				r.wantNotHeld(s)
				r.advance(21 * time.Second)
				r.wantNotHeld(s, uids[0])
			})
		})
	}
}

// Redis refuses to note the hold: the new time must not be believed meanwhile.
//
// Breaks it: let learnTime set the clock before it holds.
func TestNothingExpiresUntilTheHoldIsNoted(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		r.admit(s, request(1002))
		r.wantNotHeld(s)
		commands := 0
		s.BeforeCommand(func() error {
			if commands++; commands == 3 { // after due and TIME
				return errors.New("boom")
			}
			return nil
		})
		r.step(time.Hour)
		if entries, err := s.Due(r.Context()); len(entries) != 0 || err == nil {
			r.Fatalf("%d requests end and the error is %v", len(entries), err)
		}
		wantEqual(r, "commands", commands, 3)
		r.wantHeld(s, time.Hour)
	})
}

// Redis is full when its clock is set: expiry, which would make room, is never
// held or never goes on.
//
// Breaks it: leave DEL out of hold.lua.
func TestFullRedisHoldsExpiryAndGoesOn(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		if r.real == nil {
			r.Skip("the embedded one is never full")
		}
		s := r.join()
		uids := r.admit(s, request(1002), request(1004))
		r.fetch(s, 1004)
		r.fail(s, 1004, unreachable())
		r.refuseArrival(s, 1003, sample, 1)
		r.full()
		r.step(time.Hour)
		r.wantHeld(s, time.Hour)
		r.step(-2 * time.Hour)
		r.wantHeld(s, -2*time.Hour)
		r.recover(s, 0)
		due, err := s.DueLanes(r.Context(), 10)
		r.must(err)
		wantEqual(r, "due lanes", len(due.Ready)+len(due.Failing), 3)
		wantEqual(r, "replies", len(r.fetch(s, 1003).Parcels), 1)
		r.advance(61 * time.Second)
		r.wantNotHeld(s)
		r.advance(time.Hour + time.Minute)
		r.wantNotHeld(s, uids...)
		wantEqual(r, "ended", r.answer(s, failure(r.entry(s, uids[0]), "expired")), "[failed]")
	})
}
