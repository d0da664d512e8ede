package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/msgbus"
)

// Peers carries messages to the relays of other twins.
type Peers interface {
	// Send hands messages to the relay of a twin and tells for each what became
	// of it: nil when the peer has it, a *msgbus.Refusal when it will never take
	// it, a *msgbus.Failure when the attempt has failed and the lane must rest, a
	// *msgbus.Deferral when the peer takes this request later and others now.
	// Requests and replies keep their order as far as the wire does.
	Send(ctx context.Context, twin uint32, messages []msgbus.Outgoing) []error
}

// Options are the rules that an operator sets. Each zero value stands for its
// default.
type Options struct {
	Twin    uint32 // the twin that this relay serves
	Version string // of this program, for those who ask
	Workers int    // lanes served at once; default 1000

	RefServices     []string      // patterns of commands whose services speak the Ref dialect
	LeftCommands    []string      // patterns of commands whose services read with BRPOP
	MaxMessage      int           // bytes of one message; default 4 MiB
	MaxDestinations int           // of one request; default 1,000
	MaxFanOut       int           // bytes of one request over all its destinations; default 64 MiB
	MaxLife         time.Duration // of a request; default 7 days

	Rules // at first; SetRules changes them

	Drain time.Duration // limit for what is in flight at the stop; default 10 s
	Beat  func()        // called at least every 10 s while the relay makes progress; may be nil
	Log   zerolog.Logger

	Observer Observer // is told what becomes of messages; may be nil
	Tracer   Tracer   // is told of requests that have a trace; may be nil
}

func (o *Options) setDefaults() {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Workers, 1000)
	set(&o.MaxMessage, 4<<20)
	set(&o.MaxDestinations, 1000)
	set(&o.MaxFanOut, 64<<20)
	if o.MaxLife == 0 {
		o.MaxLife = 7 * 24 * time.Hour
	}
	if o.Drain == 0 {
		o.Drain = 10 * time.Second
	}
	if o.Beat == nil {
		o.Beat = func() {}
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
}

// A Relay applies the rules to what is in the Backlog.
type Relay struct {
	opts    Options
	rules   atomic.Pointer[Rules] // those of now
	backlog Backlog
	peers   Peers
	log     zerolog.Logger
	refusal zerolog.Logger // the log, for what an app gone wrong can cause without end
	lanes   *lanes
	sent    *sent
	// What came to the doors of version 1.
	requests  *gatherer[lot, *arrival]
	replies   *gatherer[uint32, *single]
	hasten    throttle
	newcomers newcomers
	observer  Observer
	tracer    Tracer // nil: nobody wants to know
	held      onset  // expiry is held; for the one goroutine that expires

	ready     chan struct{} // closed at the first session
	readyOnce sync.Once
}

// New returns a Relay that does nothing until Run.
func New(opts Options, backlog Backlog, peers Peers) *Relay {
	opts.setDefaults()
	r := &Relay{
		opts:    opts,
		backlog: backlog,
		peers:   peers,
		log:     opts.Log,
		sent:    newSent(),
		// What is only worth a warning must not hide an error, nor use up its share unseen.
		refusal: opts.Log.Sample(zerolog.LevelSampler{WarnSampler: fewASecond(), ErrorSampler: fewASecond()}),
		ready:   make(chan struct{}),

		observer: opts.Observer, tracer: opts.Tracer,
	}
	r.SetRules(opts.Rules)
	r.lanes = newLanes(opts.Workers, r.serveLane)
	r.requests, r.replies = newGatherer(r.takeLot), newGatherer(r.takeSingles)
	return r
}

func fewASecond() zerolog.Sampler {
	return &zerolog.BurstSampler{Burst: 20, Period: time.Second}
}

// Ready is closed when the relay has begun its first session.
func (r *Relay) Ready() <-chan struct{} { return r.ready }

// Run serves until ctx ends, then stops taking, finishes what is in flight
// within the drain limit, gives back what it claims and returns nil. It returns
// an error only when it must not go on: another process has this instance's
// name (msgbus.ErrSuperseded).
func (r *Relay) Run(ctx context.Context) error {
	for again := false; ; again = true {
		if err := r.join(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if again {
			r.log.Warn().Msg("began a new session: this relay was silent for longer than its lease, or Redis lost the old one")
		}
		r.readyOnce.Do(func() { close(r.ready) })
		err := r.serve(ctx)
		if ctx.Err() != nil {
			r.leave(ctx)
			return nil
		}
		if !errors.Is(err, msgbus.ErrFenced) {
			return err
		}
	}
}

// join begins a session, waiting while Redis is away.
func (r *Relay) join(ctx context.Context) error {
	var outage onset
	for {
		r.opts.Beat()
		err := r.backlog.Join(ctx)
		if err == nil {
			outage.end(func(d time.Duration) { r.log.Info().Dur("took", d).Msg("Redis is back") })
			return nil
		}
		if errors.Is(err, msgbus.ErrSuperseded) {
			return fmt.Errorf("%w; only one relay may use a name: stop it, or give this one another with --instance", err)
		}
		outage.begin(cause(err), func() { r.log.Warn().Err(err).Msg("cannot begin a session; trying again") })
		if !sleep(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

// serve runs one session until ctx ends or the session does.
//
// Start order: the session must be kept alive before anything is claimed; the
// replies that wait are taken before anything expires, or an answered request
// would be told that it timed out. Stop order: taking ends first, then lanes
// finish what they have begun, and the lease is kept until then.
func (r *Relay) serve(ctx context.Context) error {
	keep, stopKeeping := context.WithCancelCause(context.WithoutCancel(ctx))
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		stopKeeping(r.keepSession(keep))
	}()

	work, stopWork := context.WithCancel(ctx)
	stopWatching := context.AfterFunc(keep, stopWork)
	group, work := errgroup.WithContext(work)
	takers := []struct {
		queue  msgbus.Queue
		handle func(context.Context, *msgbus.Claim) error
	}{
		{msgbus.ReplyQueue, r.handleReplies},
		{msgbus.RemoteQueue, r.handleRemote},
		{msgbus.LocalQueue, r.handleLocal},
	}
	for _, t := range takers {
		group.Go(func() error { return r.take(work, t.queue, t.handle) })
	}
	group.Go(func() error { return r.scheduleLanes(work) })
	caughtUp := make(chan struct{})
	group.Go(func() error { return r.expire(work, caughtUp) })
	group.Go(func() error { return r.housekeep(work, caughtUp) })
	err := group.Wait()
	r.lanes.drain(r.opts.Drain)

	stopWatching()
	stopWork()
	stopKeeping(nil)
	<-kept
	if cause := context.Cause(keep); errors.Is(cause, msgbus.ErrFenced) {
		return cause
	}
	return err
}

// keepSession renews the lease, and gives back what ended sessions claim. It
// returns when ctx ends or the session has.
func (r *Relay) keepSession(ctx context.Context) error {
	var outage onset
	for {
		r.opts.Beat()
		err := r.backlog.Renew(ctx)
		if err == nil {
			_, err = r.backlog.Recover(ctx)
		}
		switch {
		case errors.Is(err, msgbus.ErrFenced):
			return err
		case err != nil && ctx.Err() == nil:
			outage.begin(cause(err), func() { r.log.Warn().Err(err).Msg("Redis does not serve; messages wait") })
		case err == nil:
			outage.end(func(d time.Duration) { r.log.Info().Dur("took", d).Msg("Redis serves again") })
		}
		if !sleep(ctx, r.backlog.Lease()/4) {
			return nil
		}
	}
}

// leave ends the session. It has its own time: the context that ended the
// relay must not keep it from giving its claims back.
func (r *Relay) leave(ctx context.Context) {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := r.backlog.Leave(own); err != nil {
		r.log.Warn().Err(err).Msg("could not give claims back; they return when the lease ends")
	}
}

// sleep waits for d and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
