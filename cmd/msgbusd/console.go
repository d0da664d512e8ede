package main

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/console"
	"github.com/msgbusd/msgbusd/httpapi"
	"github.com/msgbusd/msgbusd/relay"
)

// consoleSettings are those of the admin side's pages.
type consoleSettings struct {
	token   string
	guarded bool // others than this machine's users can reach it
	hosts   []string
}

// leastToken is how short a token may be: one that can be guessed is none.
const leastToken = 16

func readConsole(c *cli.Context) (s consoleSettings, err error) {
	s.hosts = c.StringSlice("admin-host")
	if name := c.String("admin-token-file"); name != "" {
		if s.token, err = readPrivate(name, "the file with the console's token", "--admin-token-file names it; it holds the token and nothing else"); err != nil {
			return s, err
		}
		if len(s.token) < leastToken {
			return s, withHint(configError("the token in %s is shorter than %d characters", name, leastToken), "(umask 077; openssl rand -hex 32 > %s) makes a good one", name)
		}
	}
	host, _, _ := net.SplitHostPort(c.String("admin-listen"))
	addr, err := netip.ParseAddr(host)
	s.guarded = host != "localhost" && (err != nil || !addr.IsLoopback())
	if s.guarded && s.token == "" {
		return s, withHint(configError("--admin-listen %s can be reached by others, and there is no token to keep them out", c.String("admin-listen")),
			"--admin-token-file FILE names one; or listen on 127.0.0.1")
	}
	return s, nil
}

// knownMost is how many of the remembered twins the console lists.
const knownMost = 1000

func (d *daemonProcess) newConsole() *console.Console {
	s := d.settings
	return console.New(console.Options{
		Version: version, Twin: s.twin, Instance: s.instance, Token: s.console.token, Guarded: s.console.guarded, Hosts: s.console.hosts,
		Settings: d.shownSettings, Resolver: d.resolverState, Twins: d.knownTwins, Drop: func(ctx context.Context, uid string) error {
			return dropRequest(ctx, d.store, relay.Options{Observer: d.metrics, Tracer: d.tracer()}, uid)
		},
		Log: d.log,
	}, d.store, d.overall)
}

// shownSettings are the settings in force, without secrets.
func (d *daemonProcess) shownSettings() (all []console.Setting) {
	if d.reloads == nil {
		return nil
	}
	for _, s := range *d.reloads.shown.Load() {
		if !s.hidden {
			all = append(all, console.Setting{Group: s.Group, Name: s.Name, Value: s.text, Source: strings.TrimSpace(s.Source + " " + s.From)})
		}
	}
	return all
}

func (d *daemonProcess) resolverState() string {
	if !d.twins.Available() {
		return "does not tell: known twins are reached for a day, new ones are not"
	}
	return withoutPasswords(d.settings.substrate)
}

func (d *daemonProcess) knownTwins() []console.TwinView {
	var views []console.TwinView
	for _, k := range d.twins.Known(knownMost) {
		v := console.TwinView{ID: k.Record.ID, Account: k.Record.Account, Address: k.Record.Address, Asked: k.Learned}
		if k.Cause != nil {
			v.Problem = k.Cause.Error()
		}
		views = append(views, v)
	}
	return views
}

// adminHandler is all of the admin side.
func (d *daemonProcess) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", httpapi.AdminHandler(d.ready.check, d.metrics.Handler()))
	mux.Handle("GET /{$}", http.RedirectHandler(console.Path+"/", http.StatusSeeOther))
	mux.Handle(console.Path, http.RedirectHandler(console.Path+"/", http.StatusSeeOther))
	mux.Handle(console.Path+"/", d.console.Handler())
	return mux
}
