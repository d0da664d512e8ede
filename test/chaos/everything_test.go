package chaos

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest"
)

// Relays die and freeze, networks part, Redis dies and comes back, or its clock
// is set, all at any time. Nothing may be lost, and nothing done twice.
//
// Seen to fail it: accept.lua without `note_seen(n)`: services take requests twice.
func TestEverythingAtOnce(t *testing.T) {
	r := begin(t, 40, "kills, partitions, pauses, restarts of Redis and steps of its clock at once")
	p := newPair(r, redistest.AppendOnly("always"), redistest.MovableClock(t))
	toRedis := map[*fleettest.Site]*link{p.a: redisBehindLink(r, p.a), p.b: redisBehindLink(r, p.b)}
	p.start()
	p.ledger.service(p.b, "work")
	apps := p.ledger.apps(&traffic{rate: r.of(100, 200), life: 5 * time.Minute}, p.a, p.b.ID)
	end := time.Now().Add(r.lasting(10*time.Second, 3*time.Minute))
	did := make(map[string]int)
	for time.Now().Before(end) {
		site := []*fleettest.Site{p.a, p.b}[r.below(2)]
		what := []string{"kill", "stop", "freeze", "cut", "one way", "redis", "redis cut", "clock"}[r.below(8)]
		did[what]++
		switch what {
		case "kill":
			site.Daemon.Kill()
			site.Launch()
		case "stop":
			site.Daemon.AwaitReady()
			site.Daemon.Stop()
			site.Launch()
		case "freeze":
			_ = site.Daemon.Proc.Signal(syscall.SIGSTOP)
			r.pass(r.upTo(r.lasting(time.Second, 12*time.Second)))
			_ = site.Daemon.Proc.Signal(syscall.SIGCONT)
		case "cut":
			p.cut()
			r.pass(r.upTo(2 * time.Second))
			p.heal()
		case "one way":
			p.toB.is(conditions{}, conditions{blocked: true})
			r.pass(r.upTo(2 * time.Second))
			p.toB.drop()
			p.toB.heal()
		case "redis":
			site.Redis.Restart()
		case "redis cut":
			toRedis[site].cut()
			r.pass(r.upTo(2 * time.Second))
			if r.below(2) == 0 {
				toRedis[site].drop() // nobody knows what was done and what not
			}
			toRedis[site].heal()
		case "clock":
			// By as much as two sites may differ: messages stay valid.
			site.Redis.SetClock(r.upTo(30*time.Second) - 15*time.Second)
		}
		r.pass(r.upTo(500 * time.Millisecond))
	}
	apps.end()
	p.a.Daemon.AwaitReady()
	p.b.Daemon.AwaitReady()
	r.figure("%v", did)
	p.ledger.wantAnswered()
}

// An app is killed while it waits. Its answer is kept for the next one that asks
// for it, until it expires, and nothing else of it stays.
//
// Seen to fail it: answer.lua without `redis.call('EXPIRE', ret, ARGV[2])` behind its
// RPUSH: the answers never expire.
func TestKillOfTheApp(t *testing.T) {
	r := begin(t, 4, "kill -9 the app while it waits")
	p := newPair(r, redistest.MovableClock(t))
	p.start()
	p.b.Echo()
	asked := p.b.ServeMessages("slow", func(fleettest.Message) fleettest.Message { return nil })
	keys := func() []string {
		all := p.a.RDB.Keys(r.Context(), "*").Val()
		slices.Sort(all)
		return all
	}
	kills := r.of(5, 100)
	p.a.WantAnswer(p.b.ID)
	before := keys() // with what a relay keeps of a twin that it has asked
	for range kills {
		app := fleettest.StartProcess(r, "app", nil, "call", "--redis", p.a.Redis.Addr(), "--dst", fmt.Sprint(p.b.ID), "slow", "x")
		m := asked.Next(t)
		app.Kill()
		dst, _ := m["dst"].([]any)
		p.b.PushRaw("reply", m.With("src", dst[0]).With("dst", []any{m["src"]}).String())
	}
	p.a.AwaitQuiet()
	p.b.AwaitQuiet()
	kept := 0
	for _, key := range keys() {
		if strings.HasPrefix(key, "msgbus.") {
			continue
		}
		kept++
		left := p.a.RDB.TTL(r.Context(), key).Val()
		if left <= 0 || left > 31*time.Minute || p.a.Length(key) != 1 {
			r.Errorf("%s has %d messages and expires in %s", key, p.a.Length(key), left)
		}
	}
	r.figure("%d kills, %d answers kept, each with an end", kills, kept)
	if kept != kills {
		r.Errorf("%d answers are kept of %d", kept, kills)
	}
	wantSound(r, p.a)
	wantSound(r, p.b)
	p.a.Redis.SetClock(32 * time.Minute)
	after := keys()
	after = slices.DeleteFunc(after, func(key string) bool {
		return slices.Contains(before, key) || strings.Contains(key, ".claim.") // of takers that wait
	})
	if len(after) > 0 {
		r.Errorf("half an hour later these are left: %v", after)
	}
}

// What other packages hold with fake clocks, so that hours take no time.
//
// Seen to fail it: poison, take.go of package relay with `false` for claim.Poison, and
// claims.lua with POISON = 4; resolver down, usable of entry.go with o.Fresh for
// o.Stale; resolver lying, authenticate.go with `false` for the look at e.refetched; Redis's clock, held of preamble.lua with `true` for `left == -2`.
func TestRowsOnFakeClocks(t *testing.T) {
	for _, e := range []struct {
		number             int
		action, pkg, tests string
	}{
		{23, "poison", "./relay", `MessageThatKillsTheRelayIsBuriedAtItsThirdRecovery RequestThatMakesAStepPanicCostsNoOther
			RequestThatMakesItsCheckPanicIsRefusedInItsBatch RemoteRequestThatPanicsCostsNoOther ReplyThatPanicsCostsNoOther
			RequestThatPanicsOnItsLaneIsAnsweredAndKept ReplyThatPanicsOnItsLaneIsKept MessageOfATransferThatPanicsCostsNoOther`},
		{23, "poison, in the storage", "./backlog", `WhatARelayEndedWithComesAloneAndInOrder ThirdRecoveryOfAMessageMakesItPoison
			StartsThatFailBuryNothing OnlyOneSuspectIsInHand PoisonIsKnownWhenItComesAgain CountingNeverPreventsARecovery`},
		{26, "resolver down", "./twin", `KnownTwinsOutliveTheResolverForADay AnUnknownTwinIsUnavailableWhileTheSourceIs
			AStoredRecordCountsWhileTheSourceIsUnavailable WhileTheSourceIsAwayOldKeysDoAndNewOnesWait AResolverThatHangsOrIsGoneIsUnavailable`},
		{27, "resolver slow or lying", "./twin", `NotFoundIsRememberedForAMinute AThousandConcurrentMissesAreOneCall
			AHangingSourceDelaysAKnownTwinByASecondAtMost ASourceThatNeverEndsIsCutOff AnswersAreDefinitiveOnlyWhenAResolverGaveThem
			AKeyChangeIsNoticedAfterOneFailedVerificationAndOnceAMinute ConcurrentRefetchesAreOneCallAndAllSeeTheNewKey ALieIsLoggedOnce
			AKeyThatWasGivenUpIsRefusedAMinuteLater ANewKeyIsTakenAtItsFirstMessage`},
		{31, "Redis's clock is set", "./backlog", `StepOfTheOwnClockChangesNothing StepIsToldFromASlowCall NothingExpiresForAMinuteAfterAStepForward
			AnotherStepBeginsTheHoldAnew NoRecordIsClosedByAStepInTheMiddle SlowRedisIsNoStep FullRedisHoldsExpiryAndGoesOn
			NothingLivesLongerThanItMayAfterAStepBack CheckFindsNothingAfterRedissClockWasSet`},
		{31, "Redis's clock is set, as it is told", "./relay", `HeldExpiryIsToldWhenItBeginsAndWhenItEnds`},
	} {
		t.Run(e.action, func(t *testing.T) {
			if !*full {
				t.Skip("make test runs them where they are")
			}
			r := begin(t, e.number, e.action+" ("+e.pkg+")")
			tests := strings.Fields(e.tests)
			cmd := exec.CommandContext(r.Context(), "go", "test", "-count=1", "-v", "-run", "^Test("+strings.Join(tests, "|")+")$", e.pkg)
			cmd.Dir = "../.."
			out, err := cmd.CombinedOutput()
			if err != nil {
				r.Errorf("%v\n%s", err, out)
			}
			for _, test := range tests {
				if !strings.Contains(string(out), "--- PASS: Test"+test+" ") {
					r.Errorf("Test%s did not run and pass", test)
				}
			}
			r.figure("%d tests passed", len(tests))
		})
	}
}
