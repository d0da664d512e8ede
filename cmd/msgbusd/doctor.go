package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/inspect"
	"github.com/msgbusd/msgbusd/internal/redisacl"
)

func doctorCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "look whether anything is wrong, and say what to do about it",
		UsageText: "msgbusd doctor [options]",
		Description: "Tells what a crash of Redis would lose, whether each accepted request is accounted for, and names\n" +
			"each message that is lost or stuck. With the options of the relay itself, its variables or its --config\n" +
			"it looks at the relay, its key, the resolver and the address in the twin's record too. It changes\n" +
			"nothing, and relays may be at work meanwhile.\n\n" +
			"Exit status: 0 nothing is wrong, 1 something is (or Redis does not answer), 2 wrong usage. With\n" +
			"--format nagios it is that of a Nagios plugin: 0 well, 1 a warning, 2 critical.",
		Flags: append(doctorFlags(),
			&cli.StringFlag{Name: "format", Value: "text", Usage: "`FORMAT`: text, json or nagios"},
			&cli.BoolFlag{Name: "json", Usage: "the same as --format json"}),
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError("doctor takes no arguments")
			}
			return doctor(c, s)
		},
	}
}

// lateAgain is how long a relay that has just started, or was busy, gets to end
// what is overdue.
const lateAgain = 6 * time.Second

func doctor(c *cli.Context, s streams) error {
	if err := readConfigFile(c); err != nil {
		return err
	}
	print, err := doctorFormat(c)
	if err != nil {
		return err
	}
	store, err := localStore(c)
	if err != nil {
		return unanswered(s, c, err)
	}
	defer store.Close()
	rights, err := store.Rights(c.Context, c.String("gateway-listen") != "")
	if err != nil {
		return unanswered(s, c, err)
	}
	d, err := examine(c.Context, store)
	if err != nil && len(rights.Missing) > 0 {
		return unanswered(s, c, notAllowed(err, rights))
	}
	if err != nil {
		return withHint(fmt.Errorf("cannot examine what is kept: %w", err), "does the user of --redis have the rights that the relay has?")
	}
	d.Rights = rights
	if d.Relay, err = examineRelay(c, store); err != nil {
		return err
	}
	d.judge()
	return print(d, s.out)
}

// A diagnosis is what doctor found.
type diagnosis struct {
	OK       bool              `json:"ok"`
	Redis    backlog.Server    `json:"redis"`
	Rights   redisacl.Rights   `json:"rights"`
	Relay    relayFacts        `json:"relay"`
	Overview *inspect.Overview `json:"overview"`
	Counts   counts            `json:"counts"`
	Sessions sessions          `json:"sessions"`
	Dead     int64             `json:"dead_letters"`
	Events   events            `json:"events"`
	Messages int               `json:"messages"` // that were looked at
	Findings []backlog.Finding `json:"findings"`
	More     int               `json:"more_findings"`
	Problems []problem         `json:"problems"`

	prefix string
}

type counts struct {
	Accepted int64 `json:"accepted"`
	Answered int64 `json:"answered"`
	Failed   int64 `json:"failed"`
	Waiting  int64 `json:"waiting"`
	Archived int64 `json:"archived"`
	AddUp    bool  `json:"add_up"`
}

type sessions struct {
	Live  int64 `json:"live"`
	Ended int64 `json:"ended"`
}

// events are who hears of them, and what is kept.
type events struct {
	Subscriptions int64 `json:"subscriptions"`
	Subscribers   int64 `json:"subscribers"`
	Streams       int64 `json:"streams"`
	Retained      int64 `json:"retained"`
	Present       int64 `json:"present"`
}

// full names what takes no more, or "".
func (e events) full() string {
	switch {
	case e.Subscribers >= backlog.SubscribersMost:
		return "what other twins want"
	case e.Streams >= backlog.StreamsMost:
		return "exchanges with durable events"
	case e.Retained >= backlog.RetainedMost:
		return "topics with a latest event"
	}
	return ""
}

// A problem is something wrong, in one word, and what to do next.
type problem struct {
	Reason   string `json:"reason"`
	Critical bool   `json:"critical"` // messages are or may be lost, or the relay does not serve
	Hint     string `json:"hint"`
}

func examine(ctx context.Context, store *backlog.Store) (*diagnosis, error) {
	d := &diagnosis{Findings: []backlog.Finding{}, Problems: []problem{}, prefix: store.Prefix()}
	var err error
	if d.Redis, err = store.ViewServer(ctx); err != nil {
		return nil, err
	}
	census, err := store.Census(ctx)
	if err != nil {
		return nil, err
	}
	d.Sessions, d.Dead = sessions{census.Live, census.Ended}, census.Dead
	d.Events = events{census.Subscriptions, census.Subscribers, census.Streams, census.Retained, census.Present}
	report, err := store.Check(ctx)
	if err != nil {
		return nil, err
	}
	late := func(f backlog.Finding) bool { return f.State == backlog.Overdue }
	if slices.ContainsFunc(report.Findings, late) {
		sleep(ctx, lateAgain)
		if report, err = store.Check(ctx); err != nil {
			return nil, err
		}
	}
	d.Messages, d.Findings, d.More = report.Messages, append(d.Findings, report.Findings...), report.More
	stats, err := store.Stats(ctx)
	if err != nil {
		return nil, err
	}
	if d.Overview, err = inspect.ReadOverview(ctx, store); err != nil {
		return nil, err
	}
	d.Counts = counts{stats.Accepted, stats.Answered, stats.Failed, stats.Waiting, stats.Archived, stats.AddUp()}
	return d, nil
}

// judge says what is wrong of what was found.
func (d *diagnosis) judge() {
	wrong := func(reason, hint string, args ...any) {
		d.Problems = append(d.Problems, problem{reason, true, fmt.Sprintf(hint, args...)})
	}
	warn := func(reason, hint string, args ...any) {
		d.Problems = append(d.Problems, problem{reason, false, fmt.Sprintf(hint, args...)})
	}
	if d.Redis.TooOld() {
		wrong("redis_version", "the relay needs Redis %s or newer", backlog.OldestRedis)
	}
	if len(d.Rights.Missing) > 0 {
		wrong("redis_rights", "the relay and these commands cannot do all that they have to: %s; then msgbusd doctor again", d.Rights.Grant())
	}
	if d.Redis.Evicts() {
		wrong("evicts", "Redis drops keys when it is full, and messages with them: redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf")
	}
	if d.Redis.Full() {
		wrong("redis_full", "Redis takes no more messages: free some memory, or give it more: redis-cli CONFIG SET maxmemory, and in redis.conf")
	}
	if d.Redis.Replication != nil {
		judgeReplication(d.Redis.Replication, warn)
	}
	if !d.Counts.AddUp {
		wrong("counts", "requests came or went without a relay: was something of %s.system.* deleted, or restored from a copy? An app that waits for one gets no reply", d.prefix)
	}
	if len(d.Findings) > 0 {
		wrong("findings", "nothing but a relay should write to %s.system.*; what stands there shows HGET, ZSCORE or LRANGE of the key that is named", d.prefix)
	}
	if n := d.Overview.Lanes.States[backlog.LaneFailing]; n > 0 {
		warn("peers", "%d twins cannot be joined now: msgbusd lane ls tells which and why", n)
	}
	if what := d.Events.full(); what != "" {
		warn("events_full", "no more is kept of %s, so events are refused: msgbusd event ls lists what there is; redis-cli takes away what nobody needs", what)
	}
	d.Relay.judge(wrong, warn)
	d.OK = len(d.Problems) == 0
}

func (d *diagnosis) print(w io.Writer) error {
	var out strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&out, "%-13s %s\n", what, oneLine(fmt.Sprintf(format, args...)))
	}
	line("redis", "%s at %s", d.Redis.Version, d.Redis.Address)
	line("rights", "%s", whatMayBeDone(d.Rights))
	line("persistence", "%s: %s", d.Redis.Persistence(), d.Redis.Survives)
	if r := d.Redis.Replication; r != nil {
		line("fail-over", "%s", r)
		line("", "%s", r.Loses())
	}
	line("memory", "maxmemory-policy %s: %s", cmp.Or(d.Redis.MaxMemoryPolicy, "unknown"), d.Redis.Memory())
	line("counts", "accepted %d = answered %d + failed %d + waiting %d: %s",
		d.Counts.Accepted, d.Counts.Answered, d.Counts.Failed, d.Counts.Waiting, verdict(d.Counts.AddUp, "that is not so"))
	if d.Counts.Archived > 0 {
		line("", "%d more of the archived daemon, which a relay takes over when it starts", d.Counts.Archived)
	}
	d.Relay.print(line)
	line("lanes", "%d failing, %d put off, %d paused; %d requests and %d replies on all of them", d.Overview.Lanes.States[backlog.LaneFailing],
		d.Overview.Lanes.States[backlog.LanePutOff], d.Overview.Lanes.States[backlog.LanePaused], d.Overview.Lanes.Requests, d.Overview.Lanes.Replies)
	// Not wrong: anybody can call what nobody serves.
	line("services", "%d messages wait for %d commands, of which %d have no service", d.Overview.Queues.Waiting, d.Overview.Queues.Services, d.Overview.Queues.Unserved)
	if oldest := d.Overview.Oldest(); oldest != nil {
		line("oldest", "request %s to twin %d, %s old: %s", oldest.Oldest, oldest.Twin, inspect.Short(d.Overview.At.Sub(oldest.OldestSince)), inspect.Because(oldest.Reason, oldest.Detail))
	}
	line("sessions", "%d live, %d ended", d.Sessions.Live, d.Sessions.Ended)
	line("dead letters", "%d", d.Dead)
	line("events", "%d wanted of other twins, %d wanted by them; %d streams, %d latest; %d apps present",
		d.Events.Subscriptions, d.Events.Subscribers, d.Events.Streams, d.Events.Retained, d.Events.Present)
	line("messages", "%d looked at: %s", d.Messages, verdict(len(d.Findings) == 0, fmt.Sprintf("%d findings", len(d.Findings)+d.More)))
	for _, f := range d.Findings {
		line("  "+string(f.State), "%s %s: %s", f.Key, f.ID, f.Text)
	}
	if d.More > 0 {
		line("", "… and about %d more", d.More)
	}
	for _, p := range d.Problems {
		fmt.Fprintf(&out, "hint: %s\n", p.Hint)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// whatMayBeDone says what the user of Redis is allowed.
func whatMayBeDone(r redisacl.Rights) string {
	said := "ok"
	switch {
	case len(r.Missing) > 0 && r.Unknown != "":
		said = "lacks " + strings.Join(r.Missing, " ") + "; " + r.Unknown
	case len(r.Missing) > 0:
		said = "lacks " + strings.Join(r.Missing, " ")
	case r.Unknown != "":
		said = "cannot be told: " + r.Unknown
	}
	return "user " + r.User + ": " + said
}

func verdict(ok bool, otherwise string) string {
	if ok {
		return "ok"
	}
	return otherwise
}
