// Command zos is a requester and a service made with the published package
// github.com/threefoldtech/zos/pkg/rmb, unmodified. See ../README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/threefoldtech/zos/pkg/rmb"
)

const failure = "calculator.fail always fails"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "zos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("usage: zos requester|service --redis HOST:PORT …")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	redis := flags.String("redis", "127.0.0.1:6379", "host:port of Redis")
	switch args[0] {
	case "requester":
		dst := flags.Uint("dst", 0, "twin to ask")
		cmd := flags.String("cmd", "calculator.add", "command to call")
		count := flags.Int("count", 1, "calls to make, one after the other")
		timeout := flags.Int("timeout", 60, "seconds for all calls together")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Duration(*timeout)*time.Second)
		defer cancel()
		return request(ctx, "tcp://"+*redis, uint32(*dst), *cmd, *count, out)
	case "service":
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return serve(ctx, "tcp://"+*redis, out)
	default:
		return fmt.Errorf("no mode %q", args[0])
	}
}

// answer is one line of a requester's output.
type answer struct {
	N      int    `json:"n"`
	OK     bool   `json:"ok"`
	Result int    `json:"result"`
	Err    string `json:"err"`
}

func request(ctx context.Context, redis string, dst uint32, cmd string, count int, out io.Writer) error {
	client, err := rmb.NewClient(redis)
	if err != nil {
		return err
	}
	wrong := 0
	for n := range count {
		a, b := n, 2*n+1
		got := answer{N: n}
		if err := client.Call(ctx, dst, cmd, []int{a, b}, &got.Result); err != nil {
			got.Err = err.Error()
		}
		if cmd == "calculator.fail" {
			got.OK = strings.Contains(got.Err, failure)
		} else {
			got.OK = got.Err == "" && got.Result == a+b
		}
		if !got.OK {
			wrong++
		}
		if err := json.NewEncoder(out).Encode(got); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d answers are not as expected", wrong, count)
	}
	return nil
}

func serve(ctx context.Context, redis string, out io.Writer) error {
	bus, err := rmb.New(redis)
	if err != nil {
		return err
	}
	calculator := bus.Subroute("calculator")
	calculator.WithHandler("add", func(_ context.Context, payload []byte) (any, error) {
		var numbers []int
		if err := json.Unmarshal(payload, &numbers); err != nil {
			return nil, err
		}
		sum := 0
		for _, n := range numbers {
			sum += n
		}
		return sum, nil
	})
	calculator.WithHandler("fail", func(context.Context, []byte) (any, error) {
		return nil, errors.New(failure)
	})
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	if err := bus.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
