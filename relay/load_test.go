package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
)

// Whether a step of Redis was not done, or done and its answer lost, the relay
// cannot tell. It does it again, and nobody must notice.
func TestStepsThatFailOrLoseTheirAnswersAreRepeatedUnnoticed(t *testing.T) {
	t.Parallel()
	w := newWire()
	faulty := func(s *site) { s.through = func(store *backlog.Store) relay.Backlog { return &lossy{Store: store} } }
	a, b := run(t, w, 1001, faulty), run(t, w, 1002, faulty)
	l := startLoad(t, a, b)
	for i := range 10 {
		l.awaitAnswers(10)
		a.push("msgbus.system.local", map[string]any{"ver": 2, "ret": "app.2", "uid": fmt.Sprint(i)})
		b.push("msgbus.system.reply", "ping")
		b.push("msgbus.system.remote", with(ask("once", "r", 1002), map[string]any{"src": 1001, "uid": fmt.Sprintf("1002.9%05d", i)}))
	}
	l.finish()
	told := make(map[any]bool)
	for range 10 {
		told[a.pop("app.2")["uid"]] = true
	}
	if n := a.length("app.2"); n != 0 || len(told) != 10 {
		t.Errorf("of 10 invalid messages %d were answered, and %d answers are too many", len(told), n)
	}
	eventually(t, "the replies that are none are dead letters", func() bool { return len(b.letters()) >= 10 })
	if n := len(b.letters()); n != 10 {
		t.Errorf("%d dead letters of 10 replies that are none", n)
	}
	eventually(t, "the pushed requests are with the service", func() bool {
		return b.length("msgbus.once") >= 10 && b.length("msgbus.system.remote") == 0
	})
	b.stop()
	if n := b.length("msgbus.once"); n != 10 {
		t.Errorf("of 10 pushed requests the service has %d", n)
	}
}

// A lossy storage fails one step in ten, before or after Redis has done it.
type lossy struct{ *backlog.Store }

var errLost = errors.New("connection reset by peer")

func step[T any](do func() (T, error)) (T, error) {
	var none T
	switch rand.IntN(20) {
	case 0:
		return none, errLost
	case 1:
		_, _ = do()
		return none, errLost
	default:
		return do()
	}
}

func step0(do func() error) error {
	_, err := step(func() (struct{}, error) { return struct{}{}, do() })
	return err
}

func (l *lossy) Take(ctx context.Context, q msgbus.Queue) (*msgbus.Claim, error) {
	return step(func() (*msgbus.Claim, error) { return l.Store.Take(ctx, q) })
}

func (l *lossy) AdmitAndFetch(ctx context.Context, c *msgbus.Claim, requests []msgbus.Admission, twin uint32) ([]string, *msgbus.Batch, error) {
	var batch *msgbus.Batch
	uids, err := step(func() (uids []string, err error) {
		uids, batch, err = l.Store.AdmitAndFetch(ctx, c, requests, twin)
		return uids, err
	})
	return uids, batch, err
}

func (l *lossy) Refuse(ctx context.Context, c *msgbus.Claim, position int, why *msgbus.Refusal, queue string, reply []byte, keep bool) error {
	return step0(func() error { return l.Store.Refuse(ctx, c, position, why, queue, reply, keep) })
}

func (l *lossy) DepartAndFetch(ctx context.Context, c *msgbus.Claim, departures []msgbus.Departure, twin uint32) ([]msgbus.Outcome, *msgbus.Batch, error) {
	var batch *msgbus.Batch
	outcomes, err := step(func() (outcomes []msgbus.Outcome, err error) {
		outcomes, batch, err = l.Store.DepartAndFetch(ctx, c, departures, twin)
		return outcomes, err
	})
	return outcomes, batch, err
}

func (l *lossy) Drop(ctx context.Context, c *msgbus.Claim) error {
	return step0(func() error { return l.Store.Drop(ctx, c) })
}

func (l *lossy) Fetch(ctx context.Context, twin uint32) (*msgbus.Batch, error) {
	return step(func() (*msgbus.Batch, error) { return l.Store.Fetch(ctx, twin) })
}

func (l *lossy) Settle(ctx context.Context, twin uint32, o msgbus.Settlement) error {
	return step0(func() error { return l.Store.Settle(ctx, twin, o) })
}

func (l *lossy) SettleAndFetch(ctx context.Context, twin uint32, o msgbus.Settlement) (*msgbus.Batch, error) {
	return step(func() (*msgbus.Batch, error) { return l.Store.SettleAndFetch(ctx, twin, o) })
}

func (l *lossy) Answer(ctx context.Context, c *msgbus.Claim, answers []msgbus.Answer) ([]msgbus.Outcome, error) {
	return step(func() ([]msgbus.Outcome, error) { return l.Store.Answer(ctx, c, answers) })
}

func (l *lossy) AnswerSigned(ctx context.Context, t *msgbus.Transfer, answers []msgbus.Answer) ([]msgbus.Outcome, error) {
	return step(func() ([]msgbus.Outcome, error) { return l.Store.AnswerSigned(ctx, t, answers) })
}

func (l *lossy) Accept(ctx context.Context, c *msgbus.Claim, source uint32, epoch string, requests []msgbus.Acceptance) ([]msgbus.Outcome, error) {
	return step(func() ([]msgbus.Outcome, error) { return l.Store.Accept(ctx, c, source, epoch, requests) })
}

func (l *lossy) Opens(ctx context.Context, uids []string) ([][]msgbus.Open, error) {
	return step(func() ([][]msgbus.Open, error) { return l.Store.Opens(ctx, uids) })
}

// A load is apps of one site that ask a service of another, with a ledger.
type load struct {
	t       *testing.T
	a, b    *site
	stop    context.CancelFunc
	workers sync.WaitGroup
	service sync.Mutex // held while the service has taken a request and not answered
	app     sync.Mutex // held while the app takes an answer

	mu      sync.Mutex
	pushed  map[string]bool // accepted by Redis; guarded by mu
	handled map[string]int  // by the service; guarded by mu
	answers map[string]int  // seen by the app; guarded by mu
	errors  []string        // guarded by mu
}

func startLoad(t *testing.T, a, b *site) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{t: t, a: a, b: b, stop: stop, pushed: make(map[string]bool), handled: make(map[string]int), answers: make(map[string]int)}
	t.Cleanup(stop)
	serving, stopServing := context.WithCancel(context.Background())
	l.stop = func() { stop() }
	l.workers.Go(func() { l.ask(ctx) })
	l.workers.Go(func() { l.serve(serving, b) })
	l.workers.Go(func() { l.collect(serving) })
	t.Cleanup(func() { stop(); stopServing(); l.workers.Wait() })
	return l
}

// ask pushes a request whenever few are under way.
func (l *load) ask(ctx context.Context) {
	rdb := l.a.redis.Client()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.underWay() > mostUnderWay {
			continue
		}
		id := fmt.Sprintf("%d", i)
		err := rdb.RPush(ctx, "msgbus.system.local", fmt.Sprintf(`{"ver":1,"uid":"","cmd":"x","exp":120,"try":1000,"dat":"","dst":[1002],"ret":"app.1","shm":%q,"now":0}`, id)).Err()
		if err == nil {
			l.mu.Lock()
			l.pushed[id] = true
			l.mu.Unlock()
		}
	}
}

// mostUnderWay keeps a slow machine from having a minute's work to do at the end.
const mostUnderWay = 200

// underWay is how many requests are not answered.
func (l *load) underWay() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pushed) - len(l.answers)
}

func (l *load) serve(ctx context.Context, b *site) {
	rdb := b.redis.Client()
	for ctx.Err() == nil {
		l.service.Lock()
		raw, err := rdb.LPop(ctx, "msgbus.x").Result()
		if err != nil {
			l.service.Unlock()
			if errors.Is(err, redis.Nil) {
				pause(ctx)
			}
			continue
		}
		m, err := msgbus.Decode([]byte(raw))
		if err == nil {
			l.mu.Lock()
			l.handled[m.Schema]++
			l.mu.Unlock()
			m.Source, m.Destinations = 1002, []uint32{m.Source}
			err = rdb.RPush(ctx, "msgbus.system.reply", m.AppendWire(nil)).Err()
		}
		l.service.Unlock()
		if err != nil && ctx.Err() == nil {
			l.t.Errorf("the service: %v", err)
		}
	}
}

func (l *load) collect(ctx context.Context) {
	rdb := l.a.redis.Client()
	for ctx.Err() == nil {
		l.app.Lock()
		raw, err := rdb.LPop(ctx, "app.1").Result()
		l.app.Unlock()
		if err != nil {
			pause(ctx)
			continue
		}
		m, _ := msgbus.Decode([]byte(raw))
		l.mu.Lock()
		l.answers[m.Schema]++
		if m.Error != "" {
			l.errors = append(l.errors, m.Error)
		}
		l.mu.Unlock()
	}
}

func pause(ctx context.Context) {
	timer := time.NewTimer(2 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// pause does something while no message is in the hands of the app or the
// service: what they lose is not the relay's loss.
func (l *load) pause(do func()) {
	l.service.Lock()
	defer l.service.Unlock()
	l.app.Lock()
	defer l.app.Unlock()
	do()
}

// awaitAnswers waits for n more answers.
func (l *load) awaitAnswers(n int) {
	l.t.Helper()
	count := func() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.answers) }
	n += count()
	eventually(l.t, "more answers came", func() bool { return count() >= n })
}

// finish stops asking, waits for what is under way and compares the ledgers.
func (l *load) finish() {
	l.t.Helper()
	l.stop()
	missing := func() (lost []string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		for id := range l.pushed {
			if l.answers[id] == 0 {
				lost = append(lost, id)
			}
		}
		return lost
	}
	defer func() {
		if lost := missing(); len(lost) > 0 {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, id := range lost {
				l.t.Errorf("request %s was handled %d times and not answered", id, l.handled[id])
			}
		}
	}()
	eventually(l.t, "every request was answered", func() bool { return len(missing()) == 0 })
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, n := range l.answers {
		if n > 1 {
			l.t.Errorf("request %s got %d answers", id, n)
		}
	}
	for id, n := range l.handled {
		if n > 1 {
			l.t.Errorf("request %s was handled %d times", id, n)
		}
	}
	for _, text := range l.errors {
		l.t.Errorf("a request got the error %q", text)
	}
	l.t.Logf("%d requests, %d answers", len(l.pushed), len(l.answers))
}
