package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/relay"
)

// reloadable are the options that change while the relay runs, when SIGHUP has it
// read its configuration file again. All others need a restart.
var reloadable = [...]string{
	"expose", "allow-twin", "deny-twin", "allow-command",
	"max-backlog", "max-queue", "max-unread", "max-replies", "max-dead",
	"max-twin-at-once", "max-twin-rate", "max-twin-bytes", "max-bad-signatures",
	"log-level",
}

// A tunable is what the reloadable options say, but for the level of the log.
type tunable struct {
	bounds backlog.Bounds
	rules  relay.Rules
	limits httpapi.Limits
}

func (s *settings) tunable() tunable {
	return tunable{
		bounds: backlog.Bounds{MaxBacklog: s.maxBacklog, MaxQueue: s.maxQueue, MaxReplies: s.maxReplies, MaxUnread: s.maxUnread, MaxDead: s.maxDead},
		rules:  relay.Rules{Expose: s.expose, Policy: s.policy},
		limits: httpapi.Limits{MaxTwinAtOnce: s.maxTwinAtOnce, MaxTwinRate: s.maxTwinRate, MaxTwinBytes: s.maxTwinBytes, MaxBadSignatures: s.maxBadSignatures},
	}
}

// A tuner hands a tunable to all that run by it, also to those that begin only
// after it has changed: the relay waits for Redis first.
type tuner struct {
	mu   sync.Mutex
	now  tunable         // guarded by mu
	tune []func(tunable) // guarded by mu
}

// join has tune called with what is in force, and with each change of it.
func (t *tuner) join(tune func(tunable)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tune = append(t.tune, tune)
	tune(t.now)
}

func (t *tuner) set(now tunable) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = now
	for _, tune := range t.tune {
		tune(now)
	}
}

// reloads are how settings are read again, and what they are compared with.
type reloads struct {
	asked   <-chan os.Signal
	read    func() (*options, error)
	level   *threshold
	inForce map[string]sourced        // by name of the option
	shown   atomic.Pointer[[]sourced] // the same for those who look, in the order of the help
}

func newReloads(asked <-chan os.Signal, read func() (*options, error), first *options, level *threshold) *reloads {
	r := &reloads{asked: asked, read: read, level: level, inForce: make(map[string]sourced)}
	all := first.list()
	for _, s := range all {
		r.inForce[s.Name] = s
	}
	r.shown.Store(&all)
	return r
}

// awaitReloads reads the settings again whenever that is asked for. Before the
// relay serves, systemd does not hear of it: READY=1 would end the start.
func (d *daemonProcess) awaitReloads(ctx context.Context) {
	if d.reloads == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.reloads.asked:
		}
		serving := d.serving.Load()
		if serving {
			notify(daemon.SdNotifyReloading, reloadBegan())
		}
		d.reload()
		if serving {
			notify(daemon.SdNotifyReady)
		}
	}
}

// reload takes settings with which the relay would start, and no others: what is
// refused now would be refused at the next start too, and then nothing would run.
func (d *daemonProcess) reload() {
	o, err := d.reloads.read()
	var s *settings
	if err == nil {
		s, err = o.check()
	}
	if err != nil {
		event := d.log.Error().Err(err)
		if h := (hinted{}); errors.As(err, &h) {
			event = event.Str("hint", h.hint)
		}
		event.Msg("the settings are wrong, and stay what they were")
		return
	}
	d.reloads.level.set(min(d.reloads.level.now(), s.logLevel)) // while it is told
	changed, later := d.tellChanges(o, s)
	d.tuner.set(s.tunable())
	d.log.Info().Str("config", o.String("config")).Int("changed", changed).Int("need_restart", later).Msg("read the settings again")
	d.reloads.level.set(s.logLevel)
}

// tellChanges logs each setting that is another one than what is in force, and
// notes those that will be.
func (d *daemonProcess) tellChanges(o *options, s *settings) (changed, later int) {
	const longest = 200
	all := o.list()
	for i, now := range all {
		was := d.reloads.inForce[now.Name]
		if now.exact == was.exact {
			continue
		}
		all[i] = was
		event, text := d.log.Warn(), "a setting has changed that needs a restart"
		if slices.Contains(reloadable[:], now.Name) {
			event, text = d.log.Info(), "changed a setting"
			d.reloads.inForce[now.Name], all[i] = now, now
			changed++
		} else {
			later++
		}
		event.Str("setting", now.Name).Str("from", cut(was.text, longest)).Str("to", cut(now.text, longest)).Msg(text)
	}
	d.reloads.shown.Store(&all)
	if s.identity.Account() != d.settings.identity.Account() {
		d.log.Warn().Str("account", s.identity.Account()).Msg("the key has changed, which needs a restart")
	}
	return changed, later
}

// cut shortens a text of one line for the log.
func cut(text string, longest int) string {
	runes := []rune(text)
	if len(runes) <= longest {
		return text
	}
	return string(runes[:longest]) + "…"
}
