package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/msgbusd/msgbusd/internal/load"
	"github.com/msgbusd/msgbusd/msgbus"
)

// More than any relay carries.
const (
	mostOutstanding = 10_000 // each of an ordinary app's has a connection
	mostRate        = 1_000_000
)

func benchCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure round trips to other twins and back",
		UsageText: "msgbusd bench --dst 1002 [--dst 1003] [options]\n  msgbusd bench --serve [options]",
		Description: "Apps at this Redis ask other twins, whose services, msgbusd bench --serve at theirs, send the data\n" +
			"back. Every answer is compared with what was sent. Ordinary apps push and pop each message by a\n" +
			"command of its own, as published clients do; batching ones as many at once as there are.\n\n" +
			"Exit status: 0 each request was answered, 1 one was not or it ended in an error, 2 wrong usage.",
		Flags: append([]cli.Flag{
			&cli.UintSliceFlag{Name: "dst", Usage: "`TWIN` to ask; several are asked in turn"},
			&cli.BoolFlag{Name: "serve", Usage: "be the service, until stopped"},
			&cli.StringFlag{Name: "cmd", Value: "bench", Usage: "`COMMAND` that is asked or served"},
			oneOf([]string{string(load.Ordinary), string(load.Batching)},
				cli.StringFlag{Name: "apps", Value: string(load.Ordinary), Usage: "`KIND` of apps, or of services"}),
			&cli.IntFlag{Name: "outstanding", Value: 128, Usage: "`NUMBER` of requests that wait for an answer at once, or of ordinary services"},
			&cli.IntFlag{Name: "size", Value: 64, Usage: fmt.Sprintf("`BYTES` of data of a request, %d or more", load.LeastSize)},
			&cli.DurationFlag{Name: "duration", Value: 10 * time.Second, Usage: "`TIME` of asking"},
			&cli.Float64Flag{Name: "rate", Usage: "`NUMBER` of requests a second, and latency from when each was due; else the next is asked when one is answered"},
			expFlag(),
			&cli.BoolFlag{Name: "json", Usage: "print the result in JSON"},
		}, redisFlags()...),
		Action: func(c *cli.Context) error { return bench(c, s) },
	}
}

func bench(c *cli.Context, s streams) error {
	p, err := newPlan(c)
	if err != nil {
		return err
	}
	rdb, err := localRedis(c, redisConnections(p.Outstanding+1))
	if err != nil {
		return err
	}
	defer rdb.Close()
	if c.Bool("serve") {
		fmt.Fprintf(s.err, "serving %s.%s; msgbusd bench --dst asks it\n", p.Prefix, p.Command)
		return load.Serve(c.Context, rdb, p)
	}
	result, err := load.Run(c.Context, rdb, p, progressTo(s.err))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(s.out, p, result)
	} else {
		err = printResult(s.out, p, result)
	}
	switch {
	case err != nil:
		return err
	case result.OK():
		return nil
	case result.Answered == 0:
		return withHint(exitCode{exitError, fmt.Errorf("no request was answered")},
			"does msgbusd bench --serve run at the Redis of %s?", twinList(p.Destinations))
	default:
		return exitCode{code: exitError} // the result says it
	}
}

// newPlan reads what to ask.
func newPlan(c *cli.Context) (load.Plan, error) {
	p := load.Plan{
		Prefix: c.String("redis-prefix"), Command: c.String("cmd"), Apps: load.Apps(c.String("apps")),
		Outstanding: c.Int("outstanding"), Size: c.Int("size"), Rate: c.Float64("rate"), Duration: c.Duration("duration"), Life: c.Duration("exp"),
	}
	var err error
	if !c.Bool("serve") {
		p.Destinations, err = twinIDs("dst", c.UintSlice("dst")...)
	}
	switch {
	case c.Args().Present():
		return p, usageError("bench takes no arguments")
	case err != nil:
		return p, withHint(err, "%s", "msgbusd bench --serve is the other side")
	case c.Bool("serve") && c.IsSet("dst"):
		return p, usageError("--serve answers whoever asks: it takes no --dst")
	case p.Apps != load.Ordinary && p.Apps != load.Batching:
		return p, usageError("--apps %q is neither ordinary nor batching", p.Apps)
	case p.Command == "" || msgbus.ReservedCommand(p.Command):
		return p, usageError("--cmd %q is no command of a service", p.Command)
	case p.Outstanding < 1 || p.Outstanding > mostOutstanding:
		return p, usageError("--outstanding must be 1 to %d", mostOutstanding)
	case p.Size < load.LeastSize || p.Size > mostAnswer:
		return p, usageError("--size must be %d to %d", load.LeastSize, mostAnswer)
	case !(p.Rate >= 0 && p.Rate <= mostRate): // nor NaN
		return p, usageError("--rate must be 0 to %d", mostRate)
	case p.Duration <= 0:
		return p, usageError("--duration must be more than 0")
	case p.Life < time.Second:
		return p, usageError("--exp must be 1s or more")
	}
	return p, nil
}

// progressTo returns what shows people, each second, how it goes.
func progressTo(w io.Writer) func(load.Interval) {
	if !writesToTerminal(w) {
		return func(load.Interval) {}
	}
	return func(i load.Interval) {
		fmt.Fprintf(w, "%4.0fs %8.0f round trips/s   p50 %s   p99 %s   %d wait\n",
			i.Since.Seconds(), i.RoundTrips, milliseconds(i.Latency.P50), milliseconds(i.Latency.P99), i.Waiting)
	}
}

func milliseconds(ms float64) string { return fmt.Sprintf("%.3g ms", ms) }

func printResult(w io.Writer, p load.Plan, r *load.Result) error {
	pace := fmt.Sprintf("%d outstanding", p.Outstanding)
	if p.Rate > 0 {
		pace = fmt.Sprintf("%g a second", p.Rate)
	}
	_, err := fmt.Fprintf(w, "%.0f round trips/s for %s: %s apps, %s, %d bytes, %s\n"+
		"latency     p50 %s   p90 %s   p99 %s   p99.9 %s   max %s\n"+
		"%d asked    %d answered   %d errors   %d without an answer   %d answered twice\n",
		r.RoundTrips, p.Duration, p.Apps, pace, p.Size, twinList(p.Destinations),
		milliseconds(r.Latency.P50), milliseconds(r.Latency.P90), milliseconds(r.Latency.P99), milliseconds(r.Latency.P999), milliseconds(r.Latency.Max),
		r.Asked, r.Answered, r.Failed, r.Unanswered, r.Twice)
	if err == nil && r.NotAsked > 0 {
		_, err = fmt.Fprintf(w, "%d not asked, though due: answers came too late\n", r.NotAsked)
	}
	for _, text := range slices.Sorted(maps.Keys(r.Errors)) {
		if err == nil {
			_, err = fmt.Fprintf(w, "%d times     %s\n", r.Errors[text], oneLine(text))
		}
	}
	return err
}

// printJSON prints the result with what was asked for.
func printJSON(w io.Writer, p load.Plan, r *load.Result) error {
	return json.NewEncoder(w).Encode(struct {
		Destinations []uint32  `json:"destinations"`
		Apps         load.Apps `json:"apps"`
		Outstanding  int       `json:"outstanding"`
		Size         int       `json:"size_bytes"`
		Rate         float64   `json:"rate"` // 0 for none
		Duration     float64   `json:"duration_seconds"`
		*load.Result
	}{p.Destinations, p.Apps, p.Outstanding, p.Size, p.Rate, p.Duration.Seconds(), r})
}

// redisConnections lets so many commands wait in Redis at once.
func redisConnections(n int) func(*redis.Options) {
	return func(o *redis.Options) { o.PoolSize, o.ReadTimeout = n, time.Minute }
}
