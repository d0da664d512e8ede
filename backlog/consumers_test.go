package backlog_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

const (
	consumersKey = "msgbus.system.consumers"
	servedKey    = "msgbus.system.served"
)

func leaseOf(consumer string) string      { return "msgbus.system.consumer." + consumer }
func takenBy(consumer, cmd string) string { return "msgbus.system.taken." + consumer + "." + cmd }
func returned(n int, message string) string { // a message as it comes the next time
	return fmt.Sprintf(`{"msgbusd":{"returned":%d},`, n) + strings.TrimPrefix(message, "{")
}

// announce does what a service does every 5 s.
func (r *rig) announce(consumer string, commands ...string) {
	r.Helper()
	tx := r.rdb.TxPipeline()
	for _, cmd := range commands {
		tx.ZAdd(r.Context(), consumersKey, redis.Z{Score: 0, Member: consumer + " " + cmd})
	}
	tx.Set(r.Context(), leaseOf(consumer), "{}", 15*time.Second)
	_, err := tx.Exec(r.Context())
	r.must(err)
}

// moveTo takes requests as a service does that has announced itself.
func (r *rig) moveTo(consumer, cmd string, n int) (requests []string) {
	r.Helper()
	for range n {
		m, err := r.rdb.LMove(r.Context(), "msgbus."+cmd, takenBy(consumer, cmd), "LEFT", "RIGHT").Result()
		r.must(err)
		requests = append(requests, m)
	}
	return requests
}

// dies lets the lease of a service run out.
func (r *rig) dies(consumer string) {
	r.Helper()
	r.must(r.rdb.Del(r.Context(), leaseOf(consumer)).Err())
}

// giveBack gives back all that there is, and tells how much that was and what was buried.
func (r *rig) giveBack(s *backlog.Store) string {
	r.Helper()
	var total int
	var buried []string
	for {
		given, err := s.GiveBack(r.Context(), untold)
		r.must(err)
		total += given.Returned
		for _, b := range given.Buried {
			buried = append(buried, string(b.Why.Reason)+" "+b.Message)
		}
		if !given.More {
			return fmt.Sprint(total, " returned, buried ", buried)
		}
	}
}

// untold has no event tell that a service has gone.
func untold(consumer, cmd string) []byte { return nil }

func nth(n int) string { return fmt.Sprintf(`{"uid":"1001.%d"}`, n) }

// A service is killed, and what it had taken is lost, or comes behind what came later, or
// while the service lives.
//
// Breaks it: in give_back.lua, RPUSH for LPUSH; without the look at lives.
func TestWhatAServiceHadTakenGoesBackInItsOrderWhenItEnds(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push("msgbus.calc.add", nth(1), nth(2), nth(3), nth(4))
		r.push("msgbus.calc.sub", nth(5))
		r.announce("c1", "calc.add", "calc.sub")
		r.moveTo("c1", "calc.add", 3)
		r.moveTo("c1", "calc.sub", 1)
		wantEqual(r, "while it lives", r.giveBack(s), "0 returned, buried []")
		r.wantList(takenBy("c1", "calc.add"), nth(1), nth(2), nth(3))
		r.wantSound(s, "while it lives")

		r.dies("c1")
		wantEqual(r, "when it has ended", r.giveBack(s), "4 returned, buried []")
		r.wantList("msgbus.calc.add", returned(1, nth(1)), returned(1, nth(2)), returned(1, nth(3)), nth(4))
		r.wantList("msgbus.calc.sub", returned(1, nth(5)))
		wantEqual(r, "the next time", r.giveBack(s), "0 returned, buried []")
		r.wantSound(s, "in the end")
	})
}

// A service was slow for a moment, or the relay was away, and from then on its requests are
// handled twice.
//
// Breaks it: in give_back.lua, without the ZADD of '0'; with the look at the score in the
// place of that at the lease.
func TestServiceThatRenewsItsLeaseKeepsWhatItHasTaken(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.announce("c1", "calc.add")
		r.dies("c1")
		r.giveBack(s)
		if score := r.rdb.ZScore(r.Context(), consumersKey, "c1 calc.add").Val(); score < 1e12 {
			t.Errorf("the score of a service that has ended is %v", score)
		}
		r.must(r.rdb.Set(r.Context(), leaseOf("c1"), "{}", 15*time.Second).Err())
		r.push("msgbus.calc.add", nth(1))
		r.moveTo("c1", "calc.add", 1)
		wantEqual(r, "given back", r.giveBack(s), "0 returned, buried []")
		wantEqual(r, "score", r.rdb.ZScore(r.Context(), consumersKey, "c1 calc.add").Val(), 0)
	})
}

// The machine's clock is set, all leases end at once, and each request that a service is at
// work on is handled once more.
//
// Breaks it: in Store.giveBack, run for expiring.
func TestNothingIsGivenBackWhenRedissClockWasSet(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		r.announce("c1", "calc.add")
		r.push("msgbus.calc.add", nth(1))
		r.moveTo("c1", "calc.add", 1)
		r.step(time.Hour)
		for range 12 {
			_, err := s.GiveBack(r.Context(), untold)
			if held := (*msgbus.HeldError)(nil); !errors.As(err, &held) {
				r.Fatalf("error is %v, want that it is held", err)
			}
			r.advance(4 * time.Second)
			r.announce("c1", "calc.add")
		}
		r.advance(14 * time.Second)
		wantEqual(r, "after the hold", r.giveBack(s), "0 returned, buried []")
		r.advance(2 * time.Second)
		wantEqual(r, "16 s after it was announced", r.giveBack(s), "1 returned, buried []")
	})
}

// Redis was away for longer than leases last, or a replica that lacks them took over: all
// that live services are at work on is handled once more, and buried the third time.
//
// Breaks it: in give_back.lua, without the look at ARGV 12.
func TestNothingIsGivenBackUntilALeaseStaysAway(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Grace = 0 }) // the default
		r.announce("c1", "calc.add")
		r.push("msgbus.calc.add", nth(1))
		r.moveTo("c1", "calc.add", 1)
		for range 3 {
			r.dies("c1")
			r.advance(time.Minute)
			wantEqual(r, "at once", r.giveBack(s), "0 returned, buried []")
			r.advance(9 * time.Second)
			wantEqual(r, "9 s later", r.giveBack(s), "0 returned, buried []")
			r.announce("c1", "calc.add")
			wantEqual(r, "when it has renewed its lease", r.giveBack(s), "0 returned, buried []")
		}
		r.dies("c1")
		r.giveBack(s)
		r.advance(11 * time.Second)
		wantEqual(r, "when it stays away", r.giveBack(s), "1 returned, buried []")
	})
}

// Redis's clock was set back by a day, or a service forgot to let its lease end, and what it
// had taken when it ended does not come back for that long.
//
// Breaks it: in lives of give_back.lua, without PEXPIRE, or without the look at -1.
func TestLeaseThatDoesNotEndSoonIsGivenAnEnd(t *testing.T) {
	for name, life := range map[string]time.Duration{"never": 0, "in a day": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			onMovingClocks(t, func(r *rig) {
				s := r.join()
				r.announce("c1", "calc.add")
				r.must(r.rdb.Set(r.Context(), leaseOf("c1"), "{}", life).Err())
				r.push("msgbus.calc.add", nth(1))
				r.moveTo("c1", "calc.add", 1)
				wantEqual(r, "given back", r.giveBack(s), "0 returned, buried []")
				r.advance(50 * time.Second)
				wantEqual(r, "after 50 s", r.giveBack(s), "0 returned, buried []")
				r.advance(11 * time.Second)
				wantEqual(r, "after 61 s", r.giveBack(s), "1 returned, buried []")
			})
		})
	}
}

// A request that kills its service kills one after the other, for ever, and an operator
// who mends the service cannot have it tried again.
//
// Breaks it: in give_back.lua, RETURNS_MOST = 4; `message` for `plain` in bury.
func TestRequestThatThreeServicesEndedWithIsBuried(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push("msgbus.calc.add", nth(1), nth(2))
		for n, want := range []string{"1 returned, buried []", "1 returned, buried []", "0 returned, buried [poison " + nth(1) + "]"} {
			consumer := fmt.Sprint("c", n)
			r.announce(consumer, "calc.add")
			if n > 0 {
				wantEqual(r, "it comes", fmt.Sprint(r.moveTo(consumer, "calc.add", 1)), "["+returned(n, nth(1))+"]")
			} else {
				r.moveTo(consumer, "calc.add", 1)
			}
			r.dies(consumer)
			wantEqual(r, fmt.Sprintf("when %d services have ended", n+1), r.giveBack(s), want)
		}
		r.wantList("msgbus.calc.add", nth(2))
		letters, _, err := s.DeadLetters(r.Context(), "", "", 10, 1000)
		r.must(err)
		wantEqual(r, "dead letters", len(letters), 1)
		l := letters[0]
		wantEqual(r, "the dead letter", fmt.Sprint(l.Queue, " ", l.Reason, " ", l.To, " ", l.Message, " ", l.Detail != ""),
			"taken poison msgbus.calc.add "+nth(1)+" true")
		r.must(s.RetryDeadLetter(r.Context(), l.ID))
		r.wantList("msgbus.calc.add", nth(2), nth(1))
	})
}

// What has no place for a number comes back for ever, or is lost; or a number that a
// program wrote itself stands in for the relay's.
//
// Breaks it: in counted of give_back.lua, without the anchors of the two patterns.
func TestWhatCannotBeCountedIsBuried(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.announce("c1", "x")
		for message, want := range map[string]string{
			"":                                       "0 returned, buried [malformed ]",
			"text":                                   "0 returned, buried [malformed text]",
			"[{\"a\":1}]":                            "0 returned, buried [malformed [{\"a\":1}]]",
			"{}":                                     "0 returned, buried [malformed {}]",
			" {\n\"a\":1}":                           "1 returned, buried []",
			`{"a":{"b":1}}`:                          "1 returned, buried []",
			`{"a":1,"msgbusd":{"returned":9},"b":1}`: "1 returned, buried []",
			`{"a":"{\"msgbusd\":{\"returned\":9},","b":1}`:                    "1 returned, buried []",
			`{"ext":{"tag":{"msgbusd":{"returned":9},"b":1}}}`:                "1 returned, buried []",
			`{"msgbusd":{"returned":9},"b":1}`:                                `0 returned, buried [poison {"b":1}]`,
			`{"msgbusd":{"returned":1e9},"b":1}`:                              "1 returned, buried []",
			`{"msgbusd":{"returned":` + strings.Repeat("9", 400) + `},"b":1}`: `0 returned, buried [poison {"b":1}]`,
		} {
			r.must(r.rdb.Del(r.Context(), "msgbus.x").Err())
			r.push(takenBy("c1", "x"), message)
			r.dies("c1")
			wantEqual(r, message, r.giveBack(s), want)
			for _, got := range r.list("msgbus.x") {
				if !strings.HasPrefix(got, `{"msgbusd":{"returned":1},`) {
					t.Errorf("%q comes as %q", message, got)
				}
			}
		}
	})
}

// Two relays of a twin look at the same moment, and its service gets the request twice, or
// one has lost it.
func TestTwoRelaysGiveBackOnce(t *testing.T) {
	r := onReal(t)
	stores := []*backlog.Store{r.join(instance("a")), r.join(instance("b"))}
	const n = 500
	for i := range n {
		consumer := fmt.Sprint("c", i%7)
		r.must(r.rdb.ZAdd(r.Context(), consumersKey, redis.Z{Member: consumer + " x"}).Err())
		r.push(takenBy(consumer, "x"), nth(i))
	}
	var both sync.WaitGroup
	for _, s := range stores {
		both.Go(func() { r.giveBack(s) })
	}
	both.Wait()
	came := make(map[string]int)
	for _, m := range r.list("msgbus.x") {
		came[m]++
	}
	for i := range n {
		if times := came[returned(1, nth(i))]; times != 1 {
			t.Errorf("request %d is in the queue %d times", i, times)
		}
	}
	wantEqual(r, "messages", len(r.list("msgbus.x")), n)
}

// A service that has stopped as it should is seen for an hour, and what it leaves grows with
// each start.
func TestServiceThatStopsInOrderLeavesNothing(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.unchanged("a service came and went", func() {
			r.announce("c1", "calc.add")
			r.push("msgbus.calc.add", nth(1))
			request := r.moveTo("c1", "calc.add", 1)[0]
			r.giveBack(s)
			r.must(r.rdb.LRem(r.Context(), takenBy("c1", "calc.add"), 1, request).Err())
			r.must(r.rdb.Del(r.Context(), leaseOf("c1")).Err())
			r.must(r.rdb.ZRem(r.Context(), consumersKey, "c1 calc.add").Err())
			r.giveBack(s)
		})
	})
}

// The BLMOVE of a process that was stopped is served after its lease: the request is on a
// list that nobody looks at any more. Or such a list is looked at for ever.
//
// Breaks it: in give_back.lua, KEPT_MS = 0, or no ZREM, or ZREM without the look at emptied.
func TestServiceThatEndedIsLookedAfterForAnHour(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.Lease = 24 * time.Hour })
		r.announce("c1", "x", "odd")
		r.dies("c1")
		r.must(r.rdb.Set(r.Context(), "msgbus.odd", "no list", 0).Err())
		r.push(takenBy("c1", "odd"), nth(1))
		r.giveBack(s)
		r.advance(50 * time.Minute)
		r.giveBack(s)
		r.push(takenBy("c1", "x"), nth(2))
		wantEqual(r, "what came late", r.giveBack(s), "1 returned, buried []")
		r.advance(11 * time.Minute)
		r.giveBack(s)
		wantEqual(r, "who is looked after", fmt.Sprint(r.rdb.ZRange(r.Context(), consumersKey, 0, -1).Val()), "[c1 odd]")
		r.must(r.rdb.Del(r.Context(), "msgbus.odd").Err())
		wantEqual(r, "when its queue is mended", r.giveBack(s), "1 returned, buried []")
		wantEqual(r, "who is looked after", r.rdb.Exists(r.Context(), consumersKey).Val(), 0)
	})
}

// A program of this machine writes over a key, and no service's requests come back any more,
// or one of them is lost on its way.
//
// Breaks it: in give_back.lua, without the look at the type of the list, of the queue, or of
// the dead letters; call for pcall in served_at.
func TestKeysOfOtherTypesKeepNoOtherServiceFromItsRequests(t *testing.T) {
	for name, spoil := range map[string]struct {
		key  string
		kept string // what must be there still
	}{
		"a list":           {takenBy("odd", "odd"), ""},
		"a queue":          {"msgbus.odd", takenBy("odd", "odd")},
		"a lease":          {leaseOf("odd"), takenBy("odd", "odd")},
		"the served":       {servedKey, ""},
		"the dead letters": {"msgbus.system.dead", takenBy("odd", "odd")},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(r *rig) {
				s := r.join()
				r.announce("odd", "odd")
				r.announce("live", "odd")
				r.announce("zz", "x")
				r.push(takenBy("odd", "odd"), returned(2, nth(1)))
				r.push(takenBy("zz", "x"), nth(2))
				r.dies("odd")
				r.dies("zz")
				r.must(r.rdb.Del(r.Context(), spoil.key).Err())
				r.must(r.rdb.SAdd(r.Context(), spoil.key, "x").Err())
				r.giveBack(s)
				r.wantList("msgbus.x", returned(1, nth(2)))
				if spoil.kept != "" {
					r.wantList(spoil.kept, returned(2, nth(1)))
				}
			})
		})
	}
}

// Redis is full, and the requests of a service that has ended, which would make room when
// they are answered, stay where nobody takes them.
//
// Breaks it: in give_back.lua, without make_room.
func TestFullRedisGivesBackWhatServicesHadTaken(t *testing.T) {
	r := onReal(t)
	s := r.join()
	r.announce("c1", "x")
	r.announce("live", "x")
	r.must(r.rdb.ZAdd(r.Context(), servedKey, redis.Z{Score: 1, Member: "x"}).Err())
	r.push(takenBy("c1", "x"), nth(1), returned(2, nth(2)), nth(3))
	r.dies("c1")
	r.full()
	wantEqual(r, "given back", r.giveBack(s), "2 returned, buried [poison "+nth(2)+"]")
	r.wantList("msgbus.x", returned(1, nth(1)), returned(1, nth(3)))
}

// A service with a hundred thousand requests ends, or ten thousand services, and Redis
// serves nobody until all is given back.
//
// Breaks it: in give_back, without the look at left or at bytes; in GiveBack, without next.
func TestNoStepGivesMoreBackThanIsGood(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.announce("many", "x")
		r.announce("large", "y")
		large := `{"dat":"` + strings.Repeat("x", 600<<10) + `"}`
		for i := range 250 {
			r.push(takenBy("many", "x"), nth(i))
		}
		r.push(takenBy("large", "y"), large, large, large)
		r.dies("many")
		r.dies("large")
		var steps []string
		for {
			given, err := s.GiveBack(r.Context(), untold)
			r.must(err)
			steps = append(steps, fmt.Sprint(given.Returned))
			if given.Returned > 100 {
				t.Errorf("%d in one step", given.Returned)
			}
			if !given.More {
				break
			}
		}
		if n := len(steps); n < 4 || n > 6 {
			t.Errorf("it took the steps %v", steps)
		}
		for i, m := range r.list("msgbus.x") {
			wantEqual(r, "in its order", m, returned(1, nth(i)))
		}
		wantEqual(r, "the large ones", len(r.list("msgbus.y")), 3)

		const services = 2000
		for i := range services {
			r.must(r.rdb.ZAdd(r.Context(), consumersKey, redis.Z{Member: fmt.Sprint("c", i, " z")}).Err())
			if i%100 == 0 {
				r.push(takenBy(fmt.Sprint("c", i), "z"), nth(i))
			}
		}
		r.giveBack(s)
		for range 10 {
			if r.real == nil { // a scan of the embedded one leaves some out when scores change meanwhile
				r.giveBack(s)
			}
		}
		wantEqual(r, "of many services", len(r.list("msgbus.z")), 20)
	})
}

// What no service may be called, or serve, has keys looked at that are others'.
func TestWhatNamesNoServiceIsLeftAlone(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		for _, member := range []string{"", "c1", "c1 ", " x", "a.b x", "c1 system.local", strings.Repeat("c", 65) + " x", "c1 " + strings.Repeat("x", 257)} {
			r.must(r.rdb.ZAdd(r.Context(), consumersKey, redis.Z{Member: member}).Err())
		}
		r.push(takenBy("c1", "system.local"), nth(1))
		wantEqual(r, "given back", r.giveBack(s), "0 returned, buried []")
		wantEqual(r, "in the queue", r.rdb.Exists(r.Context(), localQueue).Val(), 0)
	})
}

// An operator does not see that services end all the time.
func TestReturnedRequestsAreTold(t *testing.T) {
	onBoth(t, func(r *rig) {
		var w watcher
		s := r.join(observed(&w))
		r.announce("c1", "x")
		r.push(takenBy("c1", "x"), nth(1), nth(2))
		r.dies("c1")
		r.giveBack(s)
		w.mu.Lock()
		defer w.mu.Unlock()
		wantEqual(r, "told", w.returned, 2)
	})
}
