// Command bench measures msgbusd on this machine: two real relays, each with a real
// Redis server, and apps that ask across them. In the same minutes it measures what
// people would choose instead, a pair of NATS servers, plain and with apps that sign
// and verify each message; so that ratios say something where machines differ. Other
// rows show what becomes of it when there are many twins, of which some are dead, when
// many requests wait for those, when several relays share a Redis, and when there is
// nothing to do.
//
//	make bench
//	make bench ARGS='-only "128 × 64 B, sr25519$$" -rounds 5'
//	make bench ARGS='-only destination'
//	make bench ARGS='-only waiting'
//	make bench ARGS='-only v1'
//	make bench ARGS='-only relays:'
//	make bench ARGS='-only idle -idle 1m'
//
// Everything stays on loopback, and ends with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	do, args := run, os.Args[1:]
	if len(args) > 0 && args[0] == fleetMode {
		do, args = runFleet, args[1:]
	}
	err := do(ctx, args)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	program  string // msgbusd
	only     *regexp.Regexp
	rounds   int
	duration time.Duration
	idle     time.Duration
	settle   time.Duration
	nats     bool
}

func readOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.program, "msgbusd", "../bin/msgbusd", "the `program`")
	only := flags.String("only", "", "`pattern` of the rows to measure, such as '128 × 64 B.*everysec'")
	flags.IntVar(&o.rounds, "rounds", 3, "`times` that each row is measured, in turn; the table has medians")
	flags.DurationVar(&o.duration, "duration", 3*time.Second, "`time` of one measurement")
	flags.DurationVar(&o.idle, "idle", 30*time.Second, "`time` of the row that measures idle relays")
	flags.DurationVar(&o.settle, "settle", 30*time.Second, "`time` after dead twins are asked first, when relays try them more often than later")
	flags.BoolVar(&o.nats, "nats", true, "measure the NATS pair too")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.duration <= 0 || o.idle <= 0 || o.settle < 0 {
		return o, errors.New("there are no arguments; -rounds, -duration and -idle are more than 0, -settle is not less")
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("read -only: %w", err)
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := readOptions(args)
	if err != nil {
		return err
	}
	t := table{options: o}
	for _, s := range settings() {
		if ctx.Err() != nil {
			break
		}
		if err := t.measure(ctx, s); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	for _, group := range several() {
		if ctx.Err() != nil {
			break
		}
		if err := t.measureInTurn(ctx, group); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if o.only.MatchString("idle") && ctx.Err() == nil {
		if t.idle, err = measureIdle(ctx, o); err != nil && ctx.Err() == nil {
			return fmt.Errorf("idle: %w", err)
		}
	}
	if len(t.rows) == 0 && t.idle == nil && ctx.Err() == nil {
		return errors.New("-only fits no row")
	}
	fmt.Printf("\n%d CPUs, %s, medians of %d × %s\n\n", runtime.NumCPU(), runtime.Version(), o.rounds, o.duration)
	t.print(os.Stdout)
	return ctx.Err()
}
