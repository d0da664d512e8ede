// Function-platform shows a function platform's control bus on two relays: a tron that
// knows what is where, runners that run functions, and front ends that take requests of
// the web to them. README.md tells more.
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
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "function-platform: interrupted")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "function-platform:", err)
		fmt.Fprintln(os.Stderr, "hint: it needs two relays; sh examples/run.sh function-platform starts them, too")
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("function-platform", flag.ContinueOnError)
	flags.SetOutput(stderr)
	a := flags.String("a", "127.0.0.1:7001", "Redis of twin 1001")
	b := flags.String("b", "127.0.0.1:7002", "Redis of twin 1002")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return tell(ctx, *a, *b, stdout)
}
