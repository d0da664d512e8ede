package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/twin"
)

// awaitRedis waits until Redis answers, and refuses one that is too old. The status is not
// that of wrong settings: systemd starts the relay again and again, so it serves as soon as
// there is a newer Redis.
func (d *daemonProcess) awaitRedis(ctx context.Context) error {
	var server backlog.Server
	err := d.await(ctx, "waiting for Redis", func() (err error) {
		if err = d.store.Ping(ctx); err == nil {
			server, err = d.store.Version(ctx)
		}
		return err
	})
	if err != nil || !server.TooOld() {
		return err
	}
	return withHint(fmt.Errorf("the Redis at %s is version %s, and msgbusd needs %s or newer", server.Address, server.Version, backlog.OldestRedis),
		"upgrade it, or name another one with --redis; the relay has changed nothing in this one")
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
		return 0, withHint(fmt.Errorf("no twin is registered for account %s", s.identity.Account()), "register it, or check --key-type (%s) and the phrase", s.identity.KeyType())
	case errors.Is(err, twin.ErrNotFound):
		return 0, withHint(fmt.Errorf("twin %d is not registered", s.twin), "check --twin and --substrate (%s)", withoutPasswords(s.substrate))
	case err != nil:
		return 0, err
	case rec.PublicKey != s.identity.PublicKey():
		return 0, withHint(fmt.Errorf("the key given is %s, but twin %d is registered with %s", s.identity.Account(), rec.ID, rec.Account),
			"other relays would refuse what it signs: check --mnemonics-file, --key-type (%s) and --twin", s.identity.KeyType())
	}
	return rec.ID, nil
}

// await repeats try until it succeeds, fails for good or ctx ends. It says what
// it waits for, and says it again when the reason changes.
func (d *daemonProcess) await(ctx context.Context, what string, try func() error) error {
	d.ready.not(what)
	said := ""
	for {
		err := try()
		switch {
		case err == nil, errors.Is(err, twin.ErrNotFound), errors.Is(err, twin.ErrUnsupported):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if text := what + ": " + err.Error(); text != said {
			said = text
			d.log.Warn().Err(err).Msg(what)
			d.ready.not(text)
			notify(status(text))
		}
		beat()
		sleep(ctx, time.Second)
	}
}
