package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/relay"
	"github.com/msgbusd/msgbusd/twin"
)

func daemonCommand(c *cli.Context, s streams) error {
	if c.Args().Present() {
		return withHint(usageError("there is no command %q", c.Args().First()), "msgbusd --help lists the commands")
	}
	if c.NumFlags() == 0 && len(c.StringSlice("substrate")) == 0 && c.String("config") == "" {
		_ = cli.ShowAppHelp(c)
		return exitCode{code: exitUsage}
	}
	settings, err := readSettings(c)
	if err != nil {
		return err
	}
	log, err := newLog(s.err, c.String("log-level"), c.String("log-format"))
	if err != nil {
		return err
	}
	if c.IsSet("mnemonics") && !fromEnvironment("mnemonics") || c.IsSet("menmonics") {
		log.Warn().Msg("ps shows the key given by --mnemonics to everybody on this machine; --mnemonics-file does not")
	}
	d, err := newDaemon(settings, log)
	if err != nil {
		return err
	}
	return d.run(c.Context)
}

// A daemonProcess is one relay and all that it needs.
type daemonProcess struct {
	settings *settings
	log      zerolog.Logger
	store    *backlog.Store
	twins    *twin.Directory
	public   net.Listener
	admin    net.Listener
}

// newDaemon opens what can be opened at once: whatever fails here fails at a
// second try too.
func newDaemon(s *settings, log zerolog.Logger) (d *daemonProcess, err error) {
	var sources []twin.Source
	for _, url := range s.substrate {
		source, err := twin.NewSource(url, nil)
		if err != nil {
			return nil, exitCode{exitConfig, fmt.Errorf("--substrate: %w", err)}
		}
		if twin.PlainHTTPWarning(url) {
			log.Warn().Str("substrate", url).Msg("the resolver is asked over plain http: whoever is on the way can name other keys and addresses")
		}
		sources = append(sources, source)
	}
	d = &daemonProcess{settings: s, log: log}
	if d.store, err = backlog.Open(backlog.Options{
		Redis: s.redis, Prefix: s.prefix, Twin: s.twin, Instance: s.instance, MaxLife: s.maxExp,
	}); err != nil {
		return nil, err
	}
	d.twins = twin.NewDirectory(twin.InTurn(sources...), twin.Options{Store: recordStore{d.store}, Log: log})
	if d.public, err = net.Listen("tcp", s.listen); err != nil {
		_ = d.store.Close()
		return nil, withHint(fmt.Errorf("listen for other relays: %w", err), "is another msgbusd running? --listen takes another address")
	}
	if d.admin, err = net.Listen("tcp", s.adminListen); err != nil {
		_ = d.public.Close()
		_ = d.store.Close()
		return nil, withHint(fmt.Errorf("listen for the admin side: %w", err), "--admin-listen takes another address")
	}
	return d, nil
}

// run serves until ctx ends.
//
// Start order: Redis, since records of twins are kept there; the own twin,
// since nothing may be signed with a key that is not the twin's; the relay,
// which takes over what an older process left; the public side last. At the
// stop the public side ends first, so that the relay's last steps are its own.
func (d *daemonProcess) run(ctx context.Context) error {
	defer d.store.Close()
	group, ctx := errgroup.WithContext(ctx)
	var served readiness
	group.Go(func() error {
		return serveHTTP(ctx, d.admin, httpapi.AdminHandler(served.check), d.log)
	})
	group.Go(func() error {
		defer d.public.Close()
		if err := d.awaitRedis(ctx); err != nil {
			return err
		}
		id, err := d.awaitOwnTwin(ctx)
		if err != nil {
			return err
		}
		return d.serve(ctx, id, &served)
	})
	err := group.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serve runs the relay and its public side.
func (d *daemonProcess) serve(ctx context.Context, id uint32, served *readiness) error {
	s := d.settings
	d.store.SetTwin(id)
	names := &directory{twins: d.twins, peerPort: s.peerPort, log: d.log}
	client := httpapi.NewClient(httpapi.ClientOptions{Dial: dialer(twin.NewGuard(s.allow))}, names, s.identity)
	defer client.Close()
	r := relay.New(relay.Options{
		Twin: id, Workers: s.workers, Expose: s.expose, RefServices: s.refServices, LeftCommands: s.brpop,
		MaxMessage: s.maxBody, MaxLife: s.maxExp, Drain: s.drain, Beat: beat, Log: d.log,
	}, d.store, client)
	server := httpapi.NewServer(httpapi.ServerOptions{Twin: id, MaxBody: int64(s.maxBody), Now: d.store.Now, Log: d.log},
		r, d.store, names, s.identity)

	served.set(r.Ready(), d.store.Ping)
	public, stopPublic := context.WithCancel(ctx)
	relayCtx, stopRelay := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRelay()
	group := new(errgroup.Group)
	group.Go(func() error {
		defer stopPublic()
		return r.Run(relayCtx)
	})
	group.Go(func() error {
		defer stopRelay()
		select {
		case <-r.Ready():
		case <-public.Done():
			return nil
		}
		d.log.Info().Uint32("twin", id).Str("account", s.identity.Account()).Str("listen", d.public.Addr().String()).
			Str("admin", d.admin.Addr().String()).Str("instance", s.instance).Msg("serving")
		notify(daemon.SdNotifyReady, "STATUS=serving twin "+fmt.Sprint(id))
		err := serveHTTP(public, d.public, server.Handler(), d.log)
		notify(daemon.SdNotifyStopping)
		return err
	})
	return group.Wait()
}

// awaitRedis waits until Redis answers.
func (d *daemonProcess) awaitRedis(ctx context.Context) error {
	return d.await(ctx, "waiting for Redis", func() error { return d.store.Ping(ctx) })
}

// awaitOwnTwin finds out which twin this is, and makes sure that the key is
// that twin's. It waits while nobody can say.
func (d *daemonProcess) awaitOwnTwin(ctx context.Context) (uint32, error) {
	s := d.settings
	var rec twin.Record
	err := d.await(ctx, "waiting for the resolver of twins", func() (err error) {
		if s.twin == 0 {
			rec, err = d.twins.ByAccount(ctx, s.identity.Account())
		} else {
			rec, err = d.twins.Twin(ctx, s.twin)
		}
		return err
	})
	switch {
	case errors.Is(err, twin.ErrUnsupported):
		return 0, withHint(exitCode{exitConfig, err}, "say which twin this is with --twin ID")
	case errors.Is(err, twin.ErrNotFound) && s.twin == 0:
		return 0, withHint(fmt.Errorf("no twin is registered for account %s", s.identity.Account()), "register the key, or check --key-type (%s) and the phrase", s.identity.KeyType())
	case errors.Is(err, twin.ErrNotFound):
		return 0, withHint(fmt.Errorf("twin %d is not registered", s.twin), "check --twin and --substrate")
	case err != nil:
		return 0, err
	case rec.PublicKey != s.identity.PublicKey():
		return 0, withHint(fmt.Errorf("the key given is %s, but twin %d is registered with %s", s.identity.Account(), rec.ID, rec.Account),
			"other relays would refuse what it signs: check --mnemonics-file, --key-type (%s) and --twin", s.identity.KeyType())
	}
	return rec.ID, nil
}

// await repeats try until it succeeds, fails for good or ctx ends, and says
// once what it waits for.
func (d *daemonProcess) await(ctx context.Context, what string, try func() error) error {
	said := ""
	for {
		err := try()
		if err == nil || errors.Is(err, twin.ErrNotFound) || errors.Is(err, twin.ErrUnsupported) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if said != err.Error() {
			said = err.Error()
			d.log.Warn().Err(err).Msg(what)
			notify("STATUS=" + what)
		}
		beat()
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// notify tells systemd; without systemd nobody listens.
func notify(states ...string) {
	for _, state := range states {
		_, _ = daemon.SdNotify(false, state)
	}
}

// beat tells systemd's watchdog that the relay makes progress. A relay that
// waits for Redis does: it would not be better off after a restart.
func beat() { notify(daemon.SdNotifyWatchdog) }

// serveHTTP serves until ctx ends, and then lets what has begun finish.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log zerolog.Logger) error {
	server := httpapi.HTTPServer(h)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		log.Debug().Err(err).Msg("cut off requests that took too long")
		_ = server.Close()
	}
	<-done
	return nil
}
