package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/console"
	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/httpapi/transfer"
	"github.com/msgbusd/msgbusd/inspect"
	"github.com/msgbusd/msgbusd/internal/recent"
	"github.com/msgbusd/msgbusd/metrics"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
	"github.com/msgbusd/msgbusd/tracing"
	"github.com/msgbusd/msgbusd/twin"
)

func daemonCommand(c *cli.Context, s streams) error {
	if c.Args().Present() {
		return noSuchCommand(c)
	}
	if nothingSet(c) {
		_ = cli.ShowAppHelp(c)
		return exitCode{code: exitUsage}
	}
	hangups := make(chan os.Signal, 1) // one that comes during a reload asks for another
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	given, err := readOptions(c)
	if err != nil {
		return err
	}
	settings, err := given.settings()
	if err != nil {
		return err
	}
	lines, flush := unblocked(s.err)
	defer flush()
	log, level, err := newLogThrough(given.Context, s.err, lines)
	if err != nil {
		return err
	}
	for _, w := range append(shownByPS(c), unknownVariables(os.Environ())...) {
		log.Warn().Msg(w)
	}
	d, err := newDaemon(settings, log)
	if err != nil {
		return err
	}
	d.reloads = newReloads(hangups, func() (*options, error) { return readOptions(c) }, given, level)
	return d.run(c.Context)
}

// nothingSet tells that somebody just typed msgbusd. Under systemd something
// is always set, and a usage text every two seconds would help nobody.
func nothingSet(c *cli.Context) bool {
	return !slices.ContainsFunc(c.App.Flags, func(f cli.Flag) bool { return c.IsSet(f.Names()[0]) })
}

// A daemonProcess is one relay and all that it needs.
type daemonProcess struct {
	settings *settings
	log      zerolog.Logger
	metrics  *metrics.Metrics
	spans    *tracing.Exporter // nil: nobody wants them
	store    *backlog.Store
	twins    *twin.Directory
	public   net.Listener
	admin    net.Listener
	browsers *browserSide // nil: there is no gateway
	tls      secured
	overall  *recent.Look[*inspect.Overview] // for all that show again and again how the relay fares
	console  *console.Console
	ready    readiness
	gate     gate
	tuner    tuner
	reloads  *reloads // nil: nobody can ask for one
	serving  atomic.Bool
}

// newDaemon opens what can be opened at once. The result must be run or closed.
func newDaemon(s *settings, log zerolog.Logger) (_ *daemonProcess, err error) {
	source, err := openSources(s.substrate, log)
	if err != nil {
		return nil, err
	}
	d := &daemonProcess{settings: s, log: log, metrics: metrics.New(metrics.Build{Version: version, Revision: builtFrom()}, s.exemplars)}
	if s.traces != "" {
		d.spans = tracing.New(tracing.Options{Endpoint: s.traces, Version: version, Instance: s.instance, Observer: d.metrics, Log: log})
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.tls, err = openTLS(s.tls, log); err != nil {
		return nil, err
	}
	d.store, err = backlog.Open(backlog.Options{
		Redis: s.redis, Prefix: s.prefix, Twin: s.twin, Instance: s.instance, MaxLife: s.maxExp,
		Observer: d.metrics,
	})
	if err != nil {
		return nil, err
	}
	d.tuner.set(s.tunable())
	d.tuner.join(func(t tunable) { d.store.SetBounds(t.bounds) })
	d.twins = twin.NewDirectory(source, twin.Options{Store: recordStore{d.store}, Log: log, Observer: d.metrics})
	d.metrics.Watch(d.store, d.twins)
	d.overall = inspect.Watch(d.store)
	d.console = d.newConsole()
	if d.public, err = net.Listen("tcp", s.listen); err != nil {
		return nil, withHint(fmt.Errorf("listen for other relays: %w", err), "is another msgbusd running? --listen takes another address")
	}
	if d.admin, err = net.Listen("tcp", s.adminListen); err != nil {
		return nil, withHint(fmt.Errorf("listen for /healthz, /readyz and /metrics: %w", err), "is another msgbusd running? --admin-listen takes another address")
	}
	if d.browsers, err = d.openGateway(); err != nil {
		return nil, err
	}
	return d, nil
}

// openSources returns a source that asks each resolver in turn.
func openSources(urls []string, log zerolog.Logger) (twin.Source, error) {
	var sources []twin.Source
	for _, url := range urls {
		source, err := twin.NewSource(url, nil)
		if err != nil {
			return nil, withHint(configError("--substrate: %w", err), "https://… or http://…, or one of these after gridproxy+, graphql+ or node+")
		}
		if twin.PlainHTTPWarning(url) {
			log.Warn().Str("substrate", withoutPassword(url)).Msg("the resolver is asked over plain http: whoever is on the way can name other keys and addresses")
		}
		sources = append(sources, source)
	}
	return twin.InTurn(sources...), nil
}

// close gives back what newDaemon opened. It may be called again.
func (d *daemonProcess) close() {
	for _, l := range []net.Listener{d.public, d.admin} {
		if l != nil {
			_ = l.Close()
		}
	}
	if d.browsers != nil {
		d.browsers.close()
	}
	if d.store != nil {
		_ = d.store.Close()
	}
}

// run serves until ctx ends, which is no error, and closes everything.
//
// Start order: the admin side, so that it can tell what the rest waits for; the
// public side, which tells peers to come back until all the rest is there;
// Redis, since records of twins are kept there; the own twin, since nothing may
// be signed with a key that is not the twin's; the relay, which takes over what
// an older process left. The gateway for browsers is an app like others: it waits for
// nothing but Redis.
//
// Stop order: systemd hears of it; the public side and the gateway, so that nothing new
// comes in; the relay, which finishes what is in flight; the admin side last, so that
// a stop that takes its time is not mistaken for a crash, and beside it the spans
// that are left.
func (d *daemonProcess) run(ctx context.Context) error {
	defer d.close()
	work, stopWork := context.WithCancel(ctx)
	admin, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	defer stopAdmin()
	var adminErr, workErr, browsersErr error
	var group sync.WaitGroup
	group.Go(func() {
		defer stopWork()
		adminErr = serveHTTP(admin, d.tls.admin.Listener(d.admin), d.adminHandler(), d.log)
	})
	group.Go(func() {
		defer stopAdmin()
		defer stopWork()
		workErr = d.work(work)
	})
	if d.browsers != nil {
		group.Go(func() {
			defer stopWork()
			browsersErr = d.browsers.run(work, d.tls.browsers, d.log)
		})
	}
	group.Go(func() { collect(work) })
	group.Go(func() { giveBack(work) })
	group.Go(func() { d.console.Run(admin) })
	if d.spans != nil {
		group.Go(func() { d.spans.Run(admin) })
	}
	group.Go(func() { d.awaitReloads(work) })
	group.Go(func() {
		<-work.Done()
		d.ready.stop()
		d.log.Info().Msg("stopping; a second signal ends it at once")
		notify(daemon.SdNotifyStopping, status("stopping"))
	})
	group.Wait()
	d.log.Info().Msg("stopped")
	return errors.Join(adminErr, workErr, browsersErr)
}

// work does all but the admin side. The relay ends after the public side, and
// each of the two ends the other.
func (d *daemonProcess) work(ctx context.Context) error {
	public, stopPublic := context.WithCancel(ctx)
	defer stopPublic()
	served, publicEnded := context.WithCancel(context.WithoutCancel(ctx))
	defer publicEnded()
	var publicErr, relayErr error
	var group sync.WaitGroup
	group.Go(func() {
		defer publicEnded()
		defer stopPublic()
		publicErr = serveHTTP(public, d.tls.public.Listener(d.public), &d.gate, d.log)
	})
	group.Go(func() {
		defer stopPublic()
		relayErr = d.serveTwin(public, served)
	})
	group.Wait()
	return errors.Join(relayErr, publicErr)
}

// serveTwin finds out which twin this is and runs its relay until served ends;
// ctx ends before that, when nothing new is to begin.
func (d *daemonProcess) serveTwin(ctx, served context.Context) error {
	if err := d.awaitRedis(ctx); err != nil {
		return unlessStopped(ctx, err)
	}
	id, err := d.awaitOwnTwin(ctx)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	return d.relay(ctx, served, id)
}

// unlessStopped forgets an error that is nothing but the stop.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// relay runs the relay of a twin and, once it has a session, opens the gate.
func (d *daemonProcess) relay(ctx, served context.Context, id uint32) error {
	s := d.settings
	d.store.SetTwin(id)
	names := &directory{twins: d.twins, peerPort: s.peerPort}
	client := httpapi.NewClient(httpapi.ClientOptions{
		Dial: dialer(twin.NewGuard(s.allow, s.ports...), nil), TLS: d.tls.peers, Now: d.store.Now, MaxInFlight: int64(s.maxInFlight),
		Twin: id, RequireV2: s.requireV2, RequireEncryption: s.requireEncryption, CompressFrom: s.compressFrom, Memory: d.store, Log: d.log,
	}, names, s.identity)
	defer client.Close()
	r := relay.New(relay.Options{
		Twin: id, Version: version, Workers: s.workers, RefServices: s.refServices, LeftCommands: s.brpop,
		MaxMessage: s.maxBody, MaxDestinations: s.maxDestinations, MaxLife: s.maxExp,
		Drain: s.drain, Beat: beat, Log: d.log, Observer: d.metrics, Tracer: d.tracer(),
	}, d.store, client)
	server := httpapi.NewServer(httpapi.ServerOptions{
		Twin: id, MaxBody: int64(s.maxBody), MaxInFlight: int64(s.maxInFlight), Stop: ctx.Done(), Now: d.store.Now, Log: d.log,
		Policy: r, RequireV2: s.requireV2, RequireEncryption: s.requireEncryption, Greeted: client.Greeted,
		Opener: transfer.NewOpener(id, d.store, d.store.Now), Observer: d.metrics,
	}, r, d.store, names, s.identity)
	d.tuner.join(func(t tunable) {
		r.SetRules(t.rules)
		server.SetLimits(t.limits)
	})

	d.ready.not("the relay has no session yet")
	var group sync.WaitGroup
	group.Go(func() {
		select {
		case <-r.Ready():
			d.announce(id, server.Handler())
			d.tellStatus(ctx, id)
		case <-ctx.Done():
		}
	})
	err := r.Run(served)
	group.Wait()
	return finalIfSuperseded(err)
}

// tracer is who is told of requests that are traced, or nil.
func (d *daemonProcess) tracer() relay.Tracer {
	if d.spans == nil {
		return nil // and no interface that holds a nil
	}
	return d.spans
}

// announce opens the gate and says so.
func (d *daemonProcess) announce(id uint32, h http.Handler) {
	d.gate.open(h)
	d.ready.yes(d.store.Ping)
	d.log.Info().Uint32("twin", id).Str("account", d.settings.identity.Account()).Str("listen", d.public.Addr().String()).
		Str("admin", d.admin.Addr().String()).Str("instance", d.settings.instance).Msg("serving")
	d.serving.Store(true)
	notify(daemon.SdNotifyReady, status(fmt.Sprintf("serving twin %d", id)))
}

// finalIfSuperseded makes the loss of the instance's name final: restarted, two
// processes of one name would end each other for ever.
func finalIfSuperseded(err error) error {
	if errors.Is(err, msgbus.ErrSuperseded) {
		return exitCode{exitConfig, err}
	}
	return err
}
