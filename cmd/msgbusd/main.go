// Command msgbusd is a relay daemon: programs on different machines call each
// other through nothing but their own local Redis.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() { os.Exit(process()) }

// process is run with what only a whole process has. The tests run it too,
// in processes of their own.
func process() int {
	redis.SetLogger(silence{})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2) // neither may be missed
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		soon := time.After(together)
		for next := false; !next; {
			select {
			case <-signals:
			case <-soon:
				next = true
			}
		}
		<-signals
		fmt.Fprintln(os.Stderr, "msgbusd: ended at once by a second signal")
		os.Exit(exitError)
	}()
	return run(ctx, os.Args, streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
}

// together is how close two signals are one: some tools signal a process and
// then its group.
const together = 100 * time.Millisecond

// silence takes the log of go-redis, which the library keeps in one variable
// for all clients: what it says there, its errors say again, and are reported.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}
