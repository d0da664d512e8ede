package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/twin"
)

// relayFacts are what doctor finds out about the relay and its twin, as far as it is
// told who they are.
type relayFacts struct {
	Ready    string `json:"ready"`    // "yes", or why the relay of --admin-listen cannot serve
	Resolver string `json:"resolver"` // "ok", or why it does not tell of the twin; "" without --substrate
	Twin     uint32 `json:"twin"`     // 0: not known
	Account  string `json:"account"`  // that the twin is registered with
	Key      string `json:"key"`      // "ok", or what is wrong with it; "" without a key
	Address  string `json:"address"`  // where other relays find this twin; there may be several in it
	Reached  string `json:"reached"`  // "ok" if all of them answer, or at which nothing does and why; "" without an address
	// ClockMs is how far Redis's clock is ahead of this machine's; PeerClockMs ahead of
	// that of what answers at the twin's address, the worst if there are several.
	ClockMs     int64  `json:"clock_offset_ms"`
	PeerClockMs *int64 `json:"peer_clock_offset_ms"`

	registered bool // or nobody could tell
}

const (
	// askedFor is how long doctor waits for one answer.
	askedFor = 5 * time.Second
	// clockTolerance is how far clocks may be apart: peers refuse what is a minute off.
	clockTolerance = 5 * time.Second
)

// doctorFlags are those of the relay, of which the help shows the ones of Redis.
func doctorFlags() []cli.Flag {
	flags := daemonFlags()
	for _, f := range flags {
		if groupOf(f) == groupRedis && f.Names()[0] != "instance" || f.Names()[0] == "config" {
			continue
		}
		switch f := f.(type) {
		case *cli.StringFlag:
			f.Hidden = true
		case *cli.StringSliceFlag:
			f.Hidden = true
		case *cli.UintFlag:
			f.Hidden = true
		case *cli.IntFlag:
			f.Hidden = true
		case *cli.BoolFlag:
			f.Hidden = true
		case *cli.DurationFlag:
			f.Hidden = true
		case choice:
			f.Hidden = true
		}
	}
	return flags
}

func examineRelay(c *cli.Context, store *backlog.Store) (relayFacts, error) {
	f := relayFacts{registered: true}
	offset, _ := store.ClockOffset() // which was read
	f.ClockMs = offset.Milliseconds()
	if c.String("admin-tls-cert") == "" {
		f.Ready = readyAt(c.Context, c.String("admin-listen"))
	} else {
		f.Ready = "not asked, since its admin side speaks TLS"
	}
	if len(c.StringSlice("substrate")) == 0 {
		return f, nil
	}
	return f, f.examineTwin(c)
}

// readyAt asks the relay of this machine whether it can serve.
func readyAt(ctx context.Context, address string) string {
	status, body, _, err := ask(ctx, "http://"+address+"/readyz")
	switch {
	case err != nil:
		return "nothing answers at " + address
	case status == http.StatusOK:
		return "yes"
	}
	return strings.TrimSpace(body)
}

// ask returns the answer to a GET, and the time that stands in it.
func ask(ctx context.Context, url string) (status int, body string, at time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", at, err
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", at, cause(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
	at, _ = http.ParseTime(resp.Header.Get("Date"))
	return resp.StatusCode, string(text), at, nil
}

// cause takes the address, which stands beside it anyway, out of an error of a client.
func cause(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

// examineTwin looks at what a resolver tells of the twin.
func (f *relayFacts) examineTwin(c *cli.Context) error {
	source, err := openSources(c.StringSlice("substrate"), zerolog.Nop())
	if err != nil {
		return err
	}
	var identity *twin.Identity
	if c.String("mnemonics-file")+c.String("mnemonics")+c.String("menmonics") != "" {
		if identity, err = readIdentity(c); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(c.Context, (2+twin.EndpointsMax)*askedFor)
	defer cancel()
	var rec twin.Record
	switch id := uint32(c.Uint("twin")); {
	case id != 0:
		rec, err = source.Twin(ctx, id)
	case identity != nil:
		rec, err = source.TwinByAccount(ctx, identity.Account())
	default:
		return nil // nobody says which twin this is
	}
	if err != nil {
		f.registered = !errors.Is(err, twin.ErrNotFound)
		f.Resolver = err.Error()
		return nil
	}
	f.Resolver, f.Twin, f.Account = "ok", rec.ID, rec.Account
	if identity != nil {
		f.Key = "ok"
		if rec.PublicKey != identity.PublicKey() {
			f.Key = fmt.Sprintf("the key given is %s", identity.Account())
		}
	}
	f.examineAddress(ctx, rec, uint16(c.Uint("peer-port")))
	return nil
}

// examineAddress looks whether anything answers where other relays look for this twin:
// at each of its addresses, if it has several.
func (f *relayFacts) examineAddress(ctx context.Context, rec twin.Record, port uint16) {
	if f.Address = rec.Address; f.Address == "" {
		return
	}
	bases, err := twin.Endpoints(rec.Address, port)
	if err != nil {
		f.Reached = err.Error()
		return
	}
	var silent []string
	for _, base := range bases {
		before := time.Now()
		_, _, at, err := ask(ctx, base+"/")
		switch {
		case err != nil && len(bases) > 1:
			silent = append(silent, fmt.Sprintf("%s: %v", base, err))
		case err != nil:
			silent = append(silent, err.Error())
		case !at.IsZero(): // whole seconds, so it may look up to a second behind
			f.notePeerClock(before.Add(time.Duration(f.ClockMs) * time.Millisecond).Sub(at.Add(time.Second / 2)).Milliseconds())
		}
	}
	f.Reached = "ok"
	if len(silent) > 0 {
		f.Reached = strings.Join(silent, "; ")
	}
}

// notePeerClock keeps the offset that is worst.
func (f *relayFacts) notePeerClock(ms int64) {
	if f.PeerClockMs == nil || max(ms, -ms) > max(*f.PeerClockMs, -*f.PeerClockMs) {
		f.PeerClockMs = &ms
	}
}

func (f *relayFacts) clockOff() bool {
	tolerance := clockTolerance.Milliseconds()
	off := func(ms int64) bool { return ms > tolerance || ms < -tolerance }
	return off(f.ClockMs) || f.PeerClockMs != nil && off(*f.PeerClockMs)
}

func (f *relayFacts) judge(wrong, warn func(reason, hint string, args ...any)) {
	if f.clockOff() {
		wrong("clock", "Redis's clock, by which the relay signs, is not that of this machine or of the twin's address; others refuse what is a minute off: chronyc tracking, or timedatectl, tells which is wrong")
	}
	if f.Resolver != "" && f.Resolver != "ok" {
		if f.registered {
			warn("resolver", "the resolver does not tell of this twin; known twins go on being reached for 24 hours: is --substrate right, and can it be reached from here?")
		} else {
			wrong("not_registered", "no resolver knows this twin: register it, or check --twin, --key-type and the phrase")
		}
	}
	if f.Key != "" && f.Key != "ok" {
		wrong("key", "other relays refuse what this key signs: check --mnemonics-file, --key-type and --twin")
	}
	if f.Twin != 0 && f.Address == "" {
		warn("no_address", "the twin's record has no address, so others cannot send it requests; it can ask all the same")
	}
	if f.Reached != "" && f.Reached != "ok" {
		warn("address", "nothing answers at an address in the twin's record, seen from here: does the relay listen there (--listen), and does a firewall let others in?")
	}
}

func (f *relayFacts) print(line func(what, format string, args ...any)) {
	line("relay", "ready: %s", f.Ready)
	clock := fmt.Sprintf("Redis is %+d ms from this machine", f.ClockMs)
	if f.PeerClockMs != nil {
		clock += fmt.Sprintf(", %+d ms from the twin's address", *f.PeerClockMs)
	}
	line("clock", "%s: %s", clock, verdict(!f.clockOff(), "others may refuse what the relay signs"))
	if f.Resolver == "" {
		return
	}
	if f.Twin == 0 {
		line("resolver", "%s", f.Resolver)
		return
	}
	line("resolver", "twin %d is %s: ok", f.Twin, f.Account)
	if f.Key != "" {
		line("key", "%s", f.Key)
	}
	if f.Address == "" {
		line("address", "none")
	} else {
		line("address", "%s: %s", f.Address, f.Reached)
	}
}
