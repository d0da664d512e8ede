package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/msgbus"
)

// An app asks a service of twin 1002. Both are in one program here; on a real bus each is
// with the Redis and the relay of its own machine.
func Example() {
	url, stop := exampleBus()
	defer stop()
	c, err := client.Open(client.Options{Redis: url})
	if err != nil {
		panic(err)
	}
	defer c.Close()

	s := client.NewServer(c, client.ServerOptions{})
	client.Handle(s, "calculator.add", func(ctx context.Context, in []int) (int, error) {
		sum := 0
		for _, n := range in {
			sum += n
		}
		return sum, nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	stopped := make(chan error)
	go func() { stopped <- s.Run(ctx) }()

	sum, err := client.Call[int](ctx, c, 1002, "calculator.add", []int{20, 22})
	fmt.Println(sum, err)

	cancel() // the service stops in good order
	fmt.Println(<-stopped)
	// Output:
	// 42 <nil>
	// <nil>
}

// An app asks its twins, and shows each answer when it is there.
func ExampleClient_CallAll() {
	bus := client.NewFake()
	defer bus.Close()
	client.Handle(bus.Twin(1002), "uptime", func(context.Context, any) (string, error) { return "3 days", nil })
	c := bus.Client

	for reply := range c.CallAll(context.Background(), []uint32{1002, 1003}, "uptime", nil) {
		var uptime string
		if err := reply.Decode(&uptime); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("twin", reply.Twin, "is up for", uptime)
	}
	// Unordered output:
	// twin 1002 is up for 3 days
	// twin 1003: destination not found
}

// What a service says of its error, and what the bus does.
func ExampleError() {
	bus := client.NewFake()
	defer bus.Close()
	client.Handle(bus.Twin(1002), "pay", func(context.Context, int) (string, error) {
		return "", &client.Error{Code: 402, Class: "NoFunds", Message: "the wallet is empty"}
	})
	c := bus.Client

	for _, cmd := range []string{"pay", "fly"} {
		err := c.Call(context.Background(), 1002, cmd, 7, nil, client.Mandatory())
		var e *client.Error
		switch {
		case !errors.As(err, &e):
			fmt.Println("not an answer:", err)
		case e.Reason() == msgbus.Reason("no_service"):
			fmt.Println("nobody does that there")
		default:
			fmt.Println(e.Class, e.Code, e.Message)
		}
	}
	// Output:
	// NoFunds 402 the wallet is empty
	// nobody does that there
}

// A service says how far it is.
func ExampleOnProgress() {
	bus := client.NewFake()
	defer bus.Close()
	client.Handle(bus.Twin(1002), "render", func(ctx context.Context, frames int64) (string, error) {
		for i := range frames {
			// …
			_ = client.RequestFrom(ctx).Progress(ctx, frames, i+1, nil)
		}
		return "film.mp4", nil
	})
	c := bus.Client

	show := func(p client.Progress) {
		if p.Status == "progress" {
			fmt.Printf("%d of %d\n", p.Completed, p.Total)
		}
	}
	film, err := client.Call[string](context.Background(), c, 1002, "render", 3, client.OnProgress(show))
	fmt.Println(film, err)
	// Output:
	// 1 of 3
	// 2 of 3
	// 3 of 3
	// film.mp4 <nil>
}

// A test of an app, which needs no bus.
func ExampleNewFake() {
	bus := client.NewFake()
	defer bus.Close()
	client.Handle(bus.Twin(1002), "greet", func(_ context.Context, name string) (string, error) {
		return "hello " + name, nil
	})

	greeting, err := client.Call[string](context.Background(), bus.Client, 1002, "greet", "Ann")
	fmt.Println(greeting, err)
	for _, q := range bus.Requests() {
		fmt.Printf("twin %d was asked %s(%s)\n", q.Twin, q.Command, q.Data)
	}
	// Output:
	// hello Ann <nil>
	// twin 1002 was asked greet("Ann")
}

// exampleBus starts a Redis and what stands for two relays.
func exampleBus() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "client-example-")
	if err != nil {
		panic(err)
	}
	socket := filepath.Join(dir, "redis.sock")
	server := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
	if err := server.Start(); err != nil {
		panic(err)
	}
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for ; ; <-again.C {
		if conn, err := net.Dial("unix", socket); err == nil {
			_ = conn.Close()
			break
		}
	}
	stopRelay := startRelay(redis.NewClient(&redis.Options{Network: "unix", Addr: socket}))
	return "unix://" + socket, func() {
		stopRelay()
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = os.RemoveAll(dir)
	}
}
