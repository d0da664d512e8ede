package backlog_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

// A window that slides wrongly either delivers a request twice or answers a new
// one as a repeat, which loses it; the edges are where that shows.
func TestWindowSlidesExactly(t *testing.T) {
	const w = backlog.Window
	for name, steps := range map[string][]uint64{
		"a jump by the whole window":        {1, 1 + w, 1, 2, 1 + w, 2 + w},
		"a jump by one less":                {1, w, 1, w, 2, w - 1},
		"a jump by one more":                {1, 2 + w, 1, 2, 3, 2 + w},
		"a ring that is used again":         {10, 11, 10 + w, 11 + w, 11, 12, 12 + w, 10 + 2*w, 11 + w, 11 + 2*w},
		"the last number before a jump":     {10, 11, 12, 11 + w, 10 + w, 12 + w},
		"the first number after a jump":     {10, 11, 12, 20, 13 + w, 12 + w, 14 + w},
		"numbers between two jumps":         {5, 1000, 6, 999, 1000, 5, 6, 60_000, 59_999, 1001},
		"a start far ahead":                 {1_000_000, 1, 1_000_000 - w, 1_000_001 - w, 1_000_001 - w},
		"the largest numbers":               {msgbus.MaxUIDNumber - 1, msgbus.MaxUIDNumber, msgbus.MaxUIDNumber - 1, msgbus.MaxUIDNumber - w},
		"a jump that ends inside a byte":    {3, 3 + 21, 4, 3 + 21 + 64, 3 + 22, 3 + 21 + 63},
		"a jump over the end of the ring":   {w - 3, w + 5, w - 2, w - 1, w, w + 1, w - 3, w + 5, 2*w - 3, w - 2},
		"the way around, byte by byte":      {w - 8, w, w + 8, w + 16, w + 7, w + 9, w - 8},
		"an old number after a long pause":  {7, 7 + 3*w, 7, 7 + 2*w, 8 + 2*w, 7 + 3*w},
		"two numbers that share a position": {100, 100 + w, 100, 100 + 2*w, 100 + w},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(r *rig) {
				s := r.join()
				m := make(windows)
				for i, n := range steps {
					wantEqual(r, fmt.Sprintf("outcome of step %d, number %d", i, n),
						r.accept(s, 1003, sample, arrival(n)), fmt.Sprintf("[%s]", m.accept(sample, n)))
				}
			})
		})
	}
}

// windows is what Accept does, for one source, with all the memory it wants.
type windows map[string]*window // by epoch

type window struct {
	high     uint64
	accepted map[uint64]bool
	used     int
}

var step int // of all models, so that later uses compare as later

func (w windows) accept(epoch string, n uint64) msgbus.Outcome {
	e := w[epoch]
	if e == nil {
		e = &window{accepted: map[uint64]bool{}}
	}
	switch {
	case n+backlog.Window <= e.high:
		return msgbus.TooOld
	case e.accepted[n]:
		return msgbus.Repeated
	}
	if w[epoch] == nil && len(w) == 4 {
		oldest := ""
		for name, other := range w {
			if oldest == "" || other.used < w[oldest].used {
				oldest = name
			}
		}
		delete(w, oldest)
	}
	step++
	w[epoch] = e
	e.accepted[n], e.high, e.used = true, max(e.high, n), step
	return msgbus.Accepted
}

// Whatever a peer sends, in whatever order, with however many epochs, each
// number is accepted once and nothing else is taken for a repeat.
func TestAcceptDoesWhatASimpleModelDoes(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.MaxQueue = 1 << 30 })
		source := uint32(5000)
		rapid.Check(r.T, func(rt *rapid.T) {
			source++
			model := make(windows)
			epochs := rapid.IntRange(1, 7).Draw(rt, "epochs")
			last := uint64(1)
			for range rapid.IntRange(1, 25).Draw(rt, "calls") {
				epoch := fmt.Sprintf("%02x", rapid.IntRange(1, epochs).Draw(rt, "epoch"))
				var batch []msgbus.Acceptance
				var want []msgbus.Outcome
				for range rapid.IntRange(1, 12).Draw(rt, "size") {
					last = number(rt, last)
					batch = append(batch, arrival(last))
					want = append(want, model.accept(epoch, last))
				}
				got, err := s.Accept(rt.Context(), nil, source, epoch, batch)
				if err != nil {
					rt.Fatal(err)
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					rt.Fatalf("epoch %s:\n got %v\nwant %v", epoch, got, want)
				}
				r.advance(1e6) // a millisecond, so that last uses differ
			}
		})
	})
}

// number draws a next number: near the last, at the edges of its window, or
// far away.
func number(rt *rapid.T, last uint64) uint64 {
	jump := rapid.OneOf(
		rapid.IntRange(-20, 20),
		rapid.IntRange(-backlog.Window-2, -backlog.Window+2),
		rapid.IntRange(backlog.Window-2, backlog.Window+2),
		rapid.IntRange(-1000, 3000),
		rapid.IntRange(-70_000, 140_000),
		rapid.Just(0),
		rapid.Just(1_000_000),
	).Draw(rt, "jump")
	return uint64(max(1, int64(last)+int64(jump)))
}
