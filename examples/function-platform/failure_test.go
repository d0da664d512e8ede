package main

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// The relay of either machine is killed in the middle, by the kernel or by an impatient
// operator. A browser would get an error, a customer would pay twice, a bundle would be
// enabled at half of the runners, or a front end would use old routes for ever.
//
// What may be lost is heartbeats: each says the same as the one before, so one that has no
// answer when the next is due is dropped, and its sender tells so.
func TestKilledRelaysLoseNoRequestAndDoNoneTwice(t *testing.T) {
	p := newPlatform(t)
	work := newCounter()
	tron, _ := p.tron(hello)
	runner, _ := p.runner(p.b.ID, map[string]Function{hello.SHA: work.do, shop.SHA: echo})
	asks, _ := p.frontEnd(p.a.ID, "nginx-1")
	hears, _ := p.frontEnd(p.b.ID, "nginx-2")
	p.awaitRoutes(asks, "/hello 1002/func-4f1ab2")
	p.awaitRoutes(hears, "/hello 1002/func-4f1ab2")

	var browsers sync.WaitGroup
	const requests, each = 120, 40
	answered := make(chan struct{}, requests)
	browse := func(from, to int) { // four at a time
		left := make(chan string, requests)
		for n := from; n < to; n++ {
			left <- fmt.Sprintf("/hello/%d", n)
		}
		close(left)
		for range 4 {
			browsers.Go(func() {
				for path := range left {
					p.wantGet(asks, path, 200, path)
					answered <- struct{}{}
				}
			})
		}
	}
	await := func(n int) {
		t.Helper()
		for range n {
			select {
			case <-answered:
			case <-p.patient().Done():
				t.Fatal("requests are not answered")
			}
		}
	}

	// The runner's relay dies while a function works, and is away when the tron orders.
	held := make(chan string, 1)
	browsers.Go(func() { held <- get(p.patient(), asks, "/hello/held").Body.String() })
	<-work.begun
	browse(0, each)
	await(each / 4)
	p.b.Daemon.Kill()
	work.release()
	enabled := make(chan error, 1)
	go func() { enabled <- tron.Enable(p.patient(), shop) }()
	p.seenB.awaitSaid(t, runner.queue, "no word from the tron")
	p.b.Start()
	if got := <-held; got != "/hello/held" {
		t.Errorf("what was worked on is answered %q", got)
	}
	if err := <-enabled; err != nil {
		t.Errorf("the order is lost: %v", err)
	}
	both := []string{"/hello/shop 1002/func-c93d07", "/hello 1002/func-4f1ab2"}
	p.awaitRoutes(asks, both...)
	p.awaitRoutes(hears, both...)
	await(each - each/4)

	// The front end's and the tron's relay dies, with requests and answers on their way.
	browse(each, requests)
	await(each / 2)
	p.a.Daemon.Kill()
	p.a.Start()
	await(requests - each - each/2)
	browsers.Wait()

	for n := range requests {
		if got := work.times(fmt.Sprintf("/hello/%d", n)); got != 1 {
			t.Errorf("request %d was worked on %d times", n, got)
		}
	}
	if got := work.times("/hello/held"); got != 1 {
		t.Errorf("the request that was worked on during the kill was worked on %d times", got)
	}
	orders := 0
	for _, m := range p.seenB.all() {
		if e, err := parse[Enable](m.Raw, ActionEnable); err == nil && e.SHA == shop.SHA {
			orders++
		}
	}
	if orders != 1 {
		t.Errorf("the order came %d times", orders)
	}
	if got := tron.Runners(); len(got) != 1 {
		t.Errorf("lost heartbeats have cost the tron its runner: it knows %q", got)
	}
}

// A counter is a function that counts, and holds /hello/held until it is released.
type counter struct {
	begun chan struct{}
	hold  chan struct{}

	mu   sync.Mutex
	done map[string]int // by path; guarded by mu
}

func newCounter() *counter {
	return &counter{begun: make(chan struct{}, 10), hold: make(chan struct{}), done: make(map[string]int)}
}

func (c *counter) do(ctx context.Context, r *ServiceRequest) (Result, error) {
	c.mu.Lock()
	c.done[r.URI]++
	c.mu.Unlock()
	if r.URI == "/hello/held" {
		c.begun <- struct{}{}
		select {
		case <-c.hold:
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
	return text(r.URI), nil
}

func (c *counter) release() { close(c.hold) }

func (c *counter) times(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done[path]
}
