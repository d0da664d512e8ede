// Game-notifications is the notification bus of a browser game: a back end of several
// services on two machines tells clients what has changed. README.md says what is what.
//
//	sh examples/run.sh game-notifications
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit is when the story counts as stuck.
const limit = 20 * time.Second

func main() {
	a := flag.String("a", "127.0.0.1:7001", "Redis of twin 1001")
	b := flag.String("b", "127.0.0.1:7002", "Redis of twin 1002")
	flag.Parse()
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(interrupted, limit)
	defer cancel()
	switch err := run(ctx, *a, *b, os.Stdout); {
	case interrupted.Err() != nil:
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "game-notifications:", err)
		fmt.Fprintln(os.Stderr, "hint: two relays must run; sh examples/run.sh game-notifications starts them")
		os.Exit(1)
	}
}
