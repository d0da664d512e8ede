package e2e

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/msgbus"
)

// openClient opens the Go client on a site.
func openClient(s *fleettest.Site) *client.Client {
	s.T.Helper()
	c, err := client.Open(client.Options{Redis: s.Redis.URL()})
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { _ = c.Close() })
	return c
}

// serveWith runs a server of the Go client on a site, until stop or the end of the test.
func serveWith(s *fleettest.Site, register func(client.Mux)) (stop func()) {
	s.T.Helper()
	server := client.NewServer(openClient(s), client.ServerOptions{})
	register(server)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.T.Errorf("the service of %d stops with %v", s.ID, err)
		}
	})
	s.T.Cleanup(stop)
	return stop
}

func calculator(m client.Mux) {
	client.Handle(m, "calculator.add", func(_ context.Context, in []int) (int, error) {
		sum := 0
		for _, n := range in {
			sum += n
		}
		return sum, nil
	})
	client.Handle(m, "calculator.divide", func(_ context.Context, in []int) (int, error) {
		if in[1] == 0 {
			return 0, &client.Error{Code: 33, Class: "ZeroDivision", Message: "division by zero", Data: []byte(`{"dividend":1}`)}
		}
		return in[0] / in[1], nil
	})
}

// An app and a service in Go, with what the library brings: if this fails, nobody can use
// it.
func TestTheGoClientAsksAndServes(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	serveWith(b, calculator)
	c := openClient(a)
	var calling sync.WaitGroup
	for i := range 20 {
		calling.Go(func() {
			for n := range 10 {
				sum, err := client.Call[int](patient(t), c, b.ID, "calculator.add", []int{i, n})
				if err != nil || sum != i+n {
					t.Errorf("%d + %d is %d, %v", i, n, sum, err)
				}
			}
		})
	}
	calling.Wait()

	var e *client.Error
	err := c.Call(patient(t), b.ID, "calculator.divide", []int{1, 0}, nil)
	if !errors.As(err, &e) || fmt.Sprintf("%+v", *e) != fmt.Sprintf("%+v", client.Error{
		Twin: b.ID, Code: 33, Class: "ZeroDivision", Message: "division by zero", Data: []byte(`{"dividend":1}`),
	}) {
		t.Errorf("the error is %v", err)
	}
	err = c.Call(patient(t), 1009, "calculator.add", nil, nil, client.Tag("mine"))
	if !errors.As(err, &e) || e.Reason() != msgbus.TwinNotFound {
		t.Errorf("an unknown twin: %v", err)
	}
	err = c.Call(patient(t), b.ID, "system.local", nil, nil)
	if !errors.As(err, &e) || e.Reason() != msgbus.ReservedName {
		t.Errorf("a reserved command: %v", err)
	}
	err = c.Call(patient(t), b.ID, "nobody", nil, nil, client.Expire(time.Second))
	if !errors.As(err, &e) || e.Reason() != msgbus.Expired {
		t.Errorf("a service that is not there: %v", err)
	}
	if replies := countReplies(c.CallAll(patient(t), []uint32{b.ID, 1009, b.ID}, "calculator.add", []int{1})); replies != "1002: 1, 1009: twin_not_found" {
		t.Errorf("many twins: %s", replies)
	}
	a.AwaitQuiet()
	b.AwaitQuiet()
}

func countReplies(all iter.Seq[*client.Reply]) string {
	var said []string
	for reply := range all {
		var e *client.Error
		line := fmt.Sprintf("%d: %s", reply.Twin, reply.Data)
		if errors.As(reply.Err, &e) {
			line += string(e.Reason())
		}
		said = append(said, line)
	}
	slices.Sort(said)
	return strings.Join(said, ", ")
}

// Somebody waits for minutes and is told nothing meanwhile, or is told by hand what nobody
// serves.
func TestTheGoClientKnowsWhatBecomesOfItsRequests(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	logged := make(chan string, 10)
	serveWith(b, func(m client.Mux) {
		client.Handle(m, "bake", func(ctx context.Context, cakes int64) (string, error) {
			for i := range cakes {
				if err := client.RequestFrom(ctx).Progress(ctx, cakes, i+1, nil); err != nil {
					return "", err
				}
			}
			return "baked", nil
		})
		client.Handle(m, "log", func(ctx context.Context, line string) (any, error) {
			logged <- line
			return nil, nil
		})
	})
	c := openClient(a)
	var told []string
	baked, err := client.Call[string](patient(t), c, b.ID, "bake", 3, client.OnProgress(func(p client.Progress) {
		told = append(told, fmt.Sprintf("%s %d/%d", p.Status, p.Completed, p.Total))
	}))
	if want := "[accepted 0/0 started 0/0 progress 1/3 progress 2/3 progress 3/3]"; err != nil || baked != "baked" || fmt.Sprint(told) != want {
		t.Errorf("%q, %v; told %v, want %s", baked, err, told, want)
	}

	if err := c.Notify(patient(t), b.ID, "log", "it happened"); err != nil {
		t.Fatal(err)
	}
	if line := <-logged; line != "it happened" {
		t.Errorf("the service was told %q", line)
	}
	var e *client.Error
	err = c.Call(patient(t), b.ID, "nobody", nil, nil, client.Mandatory())
	if !errors.As(err, &e) || e.Reason() != "no_service" {
		t.Errorf("what nobody serves: %v", err)
	}
	a.AwaitQuiet()
	b.AwaitQuiet()
}

// A service crashes with a request in its hands, and another one of the same command does
// nothing about it.
func TestTheGoClientTakesOverFromAServiceThatCrashed(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	c := openClient(a)
	asked := c.Go(patient(t), b.ID, "calculator.add", []int{20, 22})
	const crashed = "crashed"
	b.RDB.ZAdd(t.Context(), "msgbus.system.consumers", redis.Z{Member: crashed + " calculator.add"})
	b.RDB.Set(t.Context(), "msgbus.system.consumer."+crashed, "{}", time.Second)
	taken := "msgbus.system.taken." + crashed + ".calculator.add"
	if err := b.RDB.BLMove(t.Context(), "msgbus.calculator.add", taken, "left", "right", fleettest.Patience).Err(); err != nil {
		t.Fatal(err)
	}
	stop := serveWith(b, calculator)
	var sum int
	if err := asked.Reply().Decode(&sum); err != nil || sum != 42 {
		t.Errorf("the sum is %d, %v", sum, err)
	}
	stop()
	// The relay remembers the one that crashed for a while: a request may still come to its list.
	left := b.RDB.ZRange(t.Context(), "msgbus.system.consumers", 0, -1).Val()
	if others := slices.DeleteFunc(left, func(m string) bool { return strings.HasPrefix(m, crashed+" ") }); len(others) > 0 {
		t.Errorf("still registered: %v", others)
	}
	a.AwaitQuiet()
	b.AwaitQuiet()
}
