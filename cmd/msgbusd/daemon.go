package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/msgbus"
	"github.com/msgbusd/msgbusd/relay"
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
	shown := secretOnCommandLine(c)
	settings, err := readSettings(c)
	if err != nil {
		return err
	}
	log, err := newLog(c, s.err)
	if err != nil {
		return err
	}
	if shown {
		log.Warn().Msg(secretWarning)
	}
	d, err := newDaemon(settings, log)
	if err != nil {
		return err
	}
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
	store    *backlog.Store
	twins    *twin.Directory
	public   net.Listener
	admin    net.Listener
	ready    readiness
}

// newDaemon opens what can be opened at once. The result must be run or closed.
func newDaemon(s *settings, log zerolog.Logger) (_ *daemonProcess, err error) {
	source, err := openSources(s.substrate, log)
	if err != nil {
		return nil, err
	}
	d := &daemonProcess{settings: s, log: log}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	d.store, err = backlog.Open(backlog.Options{
		Redis: s.redis, Prefix: s.prefix, Twin: s.twin, Instance: s.instance, MaxLife: s.maxExp,
	})
	if err != nil {
		return nil, err
	}
	d.twins = twin.NewDirectory(source, twin.Options{Store: recordStore{d.store}, Log: log})
	if d.public, err = net.Listen("tcp", s.listen); err != nil {
		return nil, withHint(fmt.Errorf("listen for other relays: %w", err), "is another msgbusd running? --listen takes another address")
	}
	if d.admin, err = net.Listen("tcp", s.adminListen); err != nil {
		return nil, withHint(fmt.Errorf("listen for /healthz and /readyz: %w", err), "is another msgbusd running? --admin-listen takes another address")
	}
	return d, nil
}

// openSources returns a source that asks each resolver in turn.
func openSources(urls []string, log zerolog.Logger) (twin.Source, error) {
	var sources []twin.Source
	for _, url := range urls {
		source, err := twin.NewSource(url, nil)
		if err != nil {
			return nil, withHint(configError("--substrate: %w", err), "https://…, http://… or gridproxy+https://…")
		}
		if twin.PlainHTTPWarning(url) {
			log.Warn().Str("substrate", url).Msg("the resolver is asked over plain http: whoever is on the way can name other keys and addresses")
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
	if d.store != nil {
		_ = d.store.Close()
	}
}

// run serves until ctx ends, which is no error, and closes everything.
//
// Start order: the admin side, so that it can tell what the rest waits for;
// Redis, since records of twins are kept there; the own twin, since nothing may
// be signed with a key that is not the twin's; the relay, which takes over what
// an older process left; the public side, which needs all of these.
//
// Stop order: systemd hears of it; the public side, so that nothing new comes
// in; the relay, which finishes what is in flight; the admin side last, so that
// a stop that takes its time is not mistaken for a crash.
func (d *daemonProcess) run(ctx context.Context) error {
	defer d.close()
	work, stopWork := context.WithCancel(ctx)
	admin, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	defer stopAdmin()
	var adminErr, workErr error
	var group sync.WaitGroup
	group.Go(func() {
		defer stopWork()
		adminErr = serveHTTP(admin, d.admin, httpapi.AdminHandler(d.ready.check), d.log)
	})
	group.Go(func() {
		defer stopAdmin()
		defer stopWork()
		workErr = d.work(work)
	})
	group.Go(func() {
		<-work.Done()
		d.ready.stop()
		notify(daemon.SdNotifyStopping, status("stopping"))
	})
	group.Wait()
	d.log.Info().Msg("stopped")
	return errors.Join(adminErr, workErr)
}

// work does all but the admin side.
func (d *daemonProcess) work(ctx context.Context) error {
	if err := d.awaitRedis(ctx); err != nil {
		return unlessStopped(ctx, err)
	}
	id, err := d.awaitOwnTwin(ctx)
	if err != nil {
		return unlessStopped(ctx, err)
	}
	return d.relay(ctx, id)
}

// unlessStopped forgets an error that is nothing but the stop.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// relay runs the relay and its public side; when one ends, so does the other.
func (d *daemonProcess) relay(ctx context.Context, id uint32) error {
	s := d.settings
	d.store.SetTwin(id)
	names := &directory{twins: d.twins, peerPort: s.peerPort, log: d.log}
	client := httpapi.NewClient(httpapi.ClientOptions{Dial: dialer(twin.NewGuard(s.allow), nil), Now: d.store.Now}, names, s.identity)
	defer client.Close()
	r := relay.New(relay.Options{
		Twin: id, Workers: s.workers, Expose: s.expose, RefServices: s.refServices, LeftCommands: s.brpop,
		MaxMessage: s.maxBody, MaxLife: s.maxExp, Drain: s.drain, Beat: beat, Log: d.log,
	}, d.store, client)
	// The relay ends by its own context: after the public side, not with it.
	public, stopPublic := context.WithCancel(ctx)
	relaying, stopRelay := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPublic()
	defer stopRelay()
	server := httpapi.NewServer(httpapi.ServerOptions{
		Twin: id, MaxBody: int64(s.maxBody), Stop: public.Done(), Now: d.store.Now, Log: d.log,
	}, r, d.store, names, s.identity)
	var relayErr, publicErr error
	var group sync.WaitGroup
	group.Go(func() {
		defer stopPublic()
		relayErr = finalIfSuperseded(r.Run(relaying))
	})
	group.Go(func() {
		defer stopRelay()
		publicErr = d.servePublic(public, id, r.Ready(), server.Handler())
	})
	group.Wait()
	return errors.Join(relayErr, publicErr)
}

// finalIfSuperseded makes the loss of the instance's name final: restarted, two
// processes of one name would end each other for ever.
func finalIfSuperseded(err error) error {
	if errors.Is(err, msgbus.ErrSuperseded) {
		return exitCode{exitConfig, err}
	}
	return err
}

// servePublic opens the public side once the relay is there.
func (d *daemonProcess) servePublic(ctx context.Context, id uint32, ready <-chan struct{}, h http.Handler) error {
	d.ready.not("the relay has no session yet")
	select {
	case <-ready:
	case <-ctx.Done():
		return nil
	}
	d.ready.yes(d.store.Ping)
	d.log.Info().Uint32("twin", id).Str("account", d.settings.identity.Account()).Str("listen", d.public.Addr().String()).
		Str("admin", d.admin.Addr().String()).Str("instance", d.settings.instance).Msg("serving")
	notify(daemon.SdNotifyReady, status(fmt.Sprintf("serving twin %d", id)))
	return serveHTTP(ctx, d.public, h, d.log)
}
