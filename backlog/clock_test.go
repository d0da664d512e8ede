package backlog

import (
	"testing"
	"time"
)

// A testClock is a clock whose two sources are set by hand.
type testClock struct {
	*clock
	wallTime time.Time
	passed   time.Duration
}

func newTestClock() *testClock {
	c := &testClock{wallTime: time.Unix(1_700_000_000, 0)}
	c.clock = &clock{
		wall:      func() time.Time { return c.wallTime },
		monotonic: func() time.Duration { return c.passed },
	}
	return c
}

// read is a call of so long, at some moment of which Redis's clock was at.
func (c *testClock) read(at time.Time, took time.Duration) (step time.Duration) {
	sent := c.passed
	c.passed += took
	return c.observe(at.UnixMicro(), sent, c.passed)
}

// Somebody sets the clock of the machine that the relay runs on: messages are
// signed with a time that peers refuse, and deadlines move. A Go program reads
// its clocks without libc, so that no faketime can show this from outside.
//
// Breaks it: let clock.now return c.wall().
func TestStepOfTheOwnClockChangesNothing(t *testing.T) {
	c := newTestClock()
	redis := time.Unix(1_800_000_000, 0)
	if got := c.now(); !got.Equal(c.wallTime) {
		t.Errorf("before the first reading it is %v, want the own clock's %v", got, c.wallTime)
	}
	c.read(redis, 0)
	for _, step := range []time.Duration{time.Hour, -3 * time.Hour, 24 * 365 * time.Hour} {
		c.wallTime = c.wallTime.Add(step)
		c.passed += time.Minute
		redis = redis.Add(time.Minute)
		if got := c.now(); !got.Equal(redis) {
			t.Errorf("with the own clock set by %v it is %v, want %v", step, got, redis)
		}
		if found := c.read(redis, 0); found != 0 {
			t.Errorf("the own clock set by %v looks like Redis's set by %v", step, found)
		}
	}
}

// Redis answers late, and expiry is held for a minute, for ever again while it
// is slow; or its clock was set and nobody notices.
//
// Breaks it: let bounds return at - answered twice (a slow call is a step);
// leave out either half of the comparison in observe (one way goes unnoticed).
func TestStepIsToldFromASlowCall(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	for name, tc := range map[string]struct {
		first, second time.Duration // how long the calls take
		firstAt       time.Duration // when in the first call Redis reads its clock
		secondAt      time.Duration
		set           time.Duration // by how much Redis's clock is set in between
		step          bool
	}{
		"quick calls":                       {},
		"slow, read late then early":        {first: 30 * time.Second, firstAt: 30 * time.Second, second: 30 * time.Second},
		"slow, read early then late":        {first: 30 * time.Second, second: 30 * time.Second, secondAt: 30 * time.Second},
		"set a little":                      {set: 4 * time.Second},
		"set back a little":                 {set: -4 * time.Second},
		"set":                               {set: 6 * time.Second, step: true},
		"set back":                          {set: -6 * time.Second, step: true},
		"set by far more than a call takes": {first: time.Second, second: 4 * time.Second, set: time.Hour, step: true},
		"set back by far more":              {first: time.Second, second: 4 * time.Second, set: -time.Hour, step: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestClock()
			if step := c.read(start.Add(c.passed+tc.firstAt), tc.first); step != 0 {
				t.Fatalf("the first reading is a step of %v", step)
			}
			c.passed += 10 * time.Minute
			before := c.now()
			step := c.read(start.Add(c.passed+tc.secondAt+tc.set), tc.second)
			if (step != 0) != tc.step {
				t.Fatalf("found a step of %v, want one: %v", step, tc.step)
			}
			if tc.step && (step-tc.set).Abs() > 3*time.Second {
				t.Errorf("found a step of %v, want %v", step, tc.set)
			}
			if tc.step && c.now().Sub(before) != tc.second {
				t.Error("the new time is taken over before expiry is held")
			}
		})
	}
}

// One slow call makes the time that is shown and sent wrong for long.
//
// Breaks it: leave out the case of observe in which both readings agree.
func TestSlowCallDoesNotBlurTheTime(t *testing.T) {
	c := newTestClock()
	start := time.Unix(1_800_000_000, 0)
	c.read(start, 0)
	c.read(start, 4*time.Second)
	if off := c.now().Sub(start.Add(4 * time.Second)); off != 0 {
		t.Errorf("the time is %v off", off)
	}
}

// The clocks of two machines drift apart without anybody setting them.
//
// Breaks it: let observe keep the old reading where the two do not agree.
func TestDriftIsFollowed(t *testing.T) {
	c := newTestClock()
	redis := time.Unix(1_800_000_000, 0)
	for range 1000 {
		if step := c.read(redis, time.Millisecond); step != 0 {
			t.Fatalf("drift looks like a step of %v", step)
		}
		c.passed += time.Minute
		redis = redis.Add(time.Minute + 20*time.Millisecond)
	}
	c.read(redis, time.Millisecond)
	if off := c.now().Sub(redis).Abs(); off > 30*time.Millisecond {
		t.Errorf("the time is %v off", off)
	}
}
