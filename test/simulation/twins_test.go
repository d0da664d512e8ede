package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

const (
	self      = 1001
	firstTwin = 2001
)

// twins are all that the relay deals with: their relays and their services at once.
// Each is alive for a while and dead for a while, in a rhythm of its own. One half
// of the dead refuse connections, the other half do not answer.
type twins struct {
	began time.Time
	relay *relay.Relay // which they answer
	busy  sync.WaitGroup

	mu        sync.Mutex
	healed    time.Time // when all were alive for good; guarded by mu
	all       []aTwin   // guarded by mu
	transfers int       // guarded by mu
	problems  []string  // guarded by mu
}

type aTwin struct {
	period, alive, phase time.Duration // alive for so much of each period
	attempts, failed     int
	seen                 map[string]int // uid → times that it came
}

func newTwins(n int) *twins {
	random := rand.New(rand.NewPCG(*seed, 0))
	t := &twins{began: time.Now(), all: make([]aTwin, n)}
	for i := range t.all {
		period := 2*time.Minute + time.Duration(random.Int64N(int64(6*time.Minute)))
		t.all[i] = aTwin{
			period: period, phase: time.Duration(random.Int64N(int64(period))),
			alive: time.Duration((0.2 + 0.6*random.Float64()) * float64(period)), seen: make(map[string]int),
		}
	}
	return t
}

// heal has all twins live from now on.
func (t *twins) heal() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.healed = time.Now()
}

// isAlive tells of now. Called with mu held.
func (t *twins) isAlive(i int) bool {
	one := t.all[i]
	return !t.healed.IsZero() || (time.Since(t.began)+one.phase)%one.period < one.alive
}

// Send is a relay's way to the others. One answer in a hundred is lost on the way
// back, so that its messages come again.
func (t *twins) Send(ctx context.Context, twin uint32, messages []msgbus.Outgoing) []error {
	i := int(twin - firstTwin)
	t.mu.Lock()
	alive := t.isAlive(i)
	t.all[i].attempts++
	lost := alive && t.all[i].attempts%100 == 0
	if !alive {
		t.all[i].failed++
	}
	t.mu.Unlock()

	switch {
	case alive:
		wait(ctx, 5*time.Millisecond)
		t.take(i, messages)
		if !lost {
			return make([]error, len(messages))
		}
		return failed(messages, msgbus.Timeout, "the answer was lost")
	case i%2 == 0:
		return failed(messages, msgbus.Unreachable, "connection refused")
	default:
		wait(ctx, 10*time.Second)
		return failed(messages, msgbus.Timeout, "no answer")
	}
}

func failed(messages []msgbus.Outgoing, why msgbus.Reason, detail string) []error {
	errs := make([]error, len(messages))
	for i := range errs {
		errs[i] = &msgbus.Failure{Reason: why, Detail: detail}
	}
	return errs
}

// take is a relay that accepts requests, and a service that answers each once.
func (t *twins) take(i int, messages []msgbus.Outgoing) {
	twin := uint32(firstTwin + i)
	var replies []msgbus.Outgoing
	t.mu.Lock()
	t.transfers++
	digest := fmt.Sprint(t.transfers)
	for _, o := range messages {
		m := o.Message
		if o.Kind != msgbus.RequestParcel || m.Source != self || len(m.Destinations) != 1 || m.Destinations[0] != twin {
			t.problems = append(t.problems, fmt.Sprintf("twin %d gets %s %s of %d for %d", twin, o.Kind, m.UID, m.Source, m.Destinations))
			continue
		}
		if t.all[i].seen[m.UID]++; t.all[i].seen[m.UID] > 1 {
			continue
		}
		reply := m.Clone()
		reply.Source, reply.Destinations = twin, []uint32{self}
		replies = append(replies, msgbus.Outgoing{Kind: msgbus.ReplyParcel, Message: reply})
	}
	t.mu.Unlock()
	if len(replies) == 0 {
		return
	}
	t.busy.Go(func() {
		wait(context.Background(), 20*time.Millisecond) // the service, and the way
		errs, err := t.relay.AcceptTransfer(context.Background(), &msgbus.Transfer{Source: twin, Digest: digest, Signed: time.Now().Unix(), Messages: replies})
		for _, each := range append(errs, err) {
			if each != nil {
				t.mu.Lock()
				t.problems = append(t.problems, fmt.Sprintf("the replies of twin %d are not taken: %v", twin, each))
				t.mu.Unlock()
			}
		}
	})
}

// wait is for a time of the fake clock.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
