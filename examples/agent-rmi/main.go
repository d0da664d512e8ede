// Agent RMI: methods of agents are invoked over the bus, as agent-rmi's design document
// describes it. Callers are at the first of two relays, agents at the second. The README
// says what is shown.
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

// The twins of the two relays.
const (
	consoleTwin uint32 = 1001 // who calls
	agentTwin   uint32 = 1002 // whose methods are called
)

// storyTimeout bounds the whole program.
const storyTimeout = 20 * time.Second

func main() {
	a := flag.String("a", "127.0.0.1:7001", "the Redis of twin 1001, where the callers are")
	b := flag.String("b", "127.0.0.1:7002", "the Redis of twin 1002, where the agents are")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, storyTimeout)
	defer cancel()
	if err := tell(ctx, os.Stdout, *a, *b); err != nil {
		fmt.Fprintln(os.Stderr, "agent-rmi:", err)
		os.Exit(1)
	}
}
