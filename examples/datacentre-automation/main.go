// Datacentre-automation shows the bus of a data-centre automation system on two relays: nine
// exchanges, over which services give nodes their addresses and what they boot, and run
// graphs of tasks on them. README.md tells more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit is when the example ends, whatever happens.
const limit = 20 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := start(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "datacentre-automation: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "datacentre-automation:", err)
		fmt.Fprintln(os.Stderr, "hint: it needs two relays; sh examples/run.sh datacentre-automation starts them, too")
		os.Exit(1)
	}
}

func start(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("datacentre-automation", flag.ContinueOnError)
	flags.SetOutput(stderr)
	a := flags.String("a", "127.0.0.1:7001", "Redis of twin 1001, where the control services are")
	b := flags.String("b", "127.0.0.1:7002", "Redis of twin 1002, where the services of the rack are")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return tell(ctx, *a, *b, stdout)
}
