package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
	"github.com/msgbusd/msgbusd/internal/redistest/child"
)

// A relay is killed in the middle: by the kernel, or by an impatient operator. A call is
// lost, and its caller waits for ever; or its method is invoked twice. Events that are not
// durable may be lost, and then it is told; what comes later is heard again.
func TestNothingIsLostOrDoneTwiceWhenARelayIsKilled(t *testing.T) {
	t.Parallel()
	for _, whose := range []string{"callers", "agents"} {
		t.Run(whose, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			agent, _ := r.runWork(t)
			victim := r.a
			if whose == "agents" {
				victim = r.b
			}
			hears, err := r.stub.Listen(patient(t))
			if err != nil {
				t.Fatal(err)
			}

			held := begin(t, r.stub, "hold") // its method runs all the time
			next(t, r.work.begun, "the call that is held")
			var calls []*Pending
			var keys []string
			call := func(n int) {
				for range n {
					key := fmt.Sprintf("call %d", len(keys))
					calls, keys = append(calls, begin(t, r.stub, "count", key)), append(keys, key)
				}
				key := fmt.Sprintf("note %d", len(keys))
				if _, err := r.stub.Notify(t.Context(), "count", key); err != nil {
					t.Fatal(err)
				}
				keys = append(keys, key)
			}
			call(50)
			next(t, r.work.each, "the first of them") // others are on their way
			victim.Daemon.Kill()
			call(10) // nobody is there
			r.work.finish(t)
			victim.Start()
			call(10)

			for i, p := range append(calls, held) {
				if err := p.Result(nil); err != nil {
					t.Errorf("call %d ends with %v", i, err)
				}
			}
			for range len(keys) - 1 {
				next(t, r.work.each, "the next of them")
			}
			r.a.AwaitQuiet()
			r.b.AwaitQuiet()
			for _, key := range keys {
				wantEqual(t, key, r.work.times(key), 1)
			}
			r.a.WantNoDead()
			r.b.WantNoDead()
			nextEmitted(t, agent, hears)
			if err := hears.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// An agent dies, and what it had accepted is lost with it.
func TestWhatAnAgentHasAcceptedIsDoneByTheNextWhenItDies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), agentVariable+"="+r.b.Redis.URL())
	cmd.Stderr = os.Stderr
	first, err := child.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.Kill)
	started := make(chan struct{}, 2)
	s := r.stub
	s.TTL = fleettest.Patience
	s.OnStatus = func(got Status) {
		if got.Status == Started {
			started <- struct{}{}
		}
	}
	p := begin(t, s, "hold")
	next(t, started, "the start of the method")
	first.Kill()

	r.runWork(t)
	next(t, started, "the start of the method at the next agent")
	wantEqual(t, "serial number at the next agent", next(t, r.work.begun, "the call").SN, p.Envelope.SN)
	r.work.finish(t)
	var said string
	if err := p.Result(&said); err != nil || said != "done" {
		t.Errorf("the result is %q, %v", said, err)
	}
}

// runAgentUntilKilled is the agent that dies: its method never returns.
func runAgentUntilKilled(redis string) {
	err := func() error {
		bus, err := client.Open(client.Options{Redis: redis})
		if err != nil {
			return err
		}
		agent := NewAgent(bus, 1002, client.ServerOptions{Lease: 3 * time.Second})
		newWork().expose(agent)
		return agent.Run(context.Background())
	}()
	fmt.Fprintln(os.Stderr, "the agent that is to be killed has ended:", err)
	os.Exit(1)
}

// A time to live is for acceptance: an agent that comes too late does not do what was meant
// for that hour; one that comes in time does; and work may last longer than that.
func TestATimeToLiveIsForAcceptance(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	asRejected(t, r.stub.Call(patient(t), nil, "count", "without")) // nobody is there, and it is not to wait

	waits := r.stub
	waits.TTL = fleettest.Patience
	inTime := begin(t, waits, "count", "in time")

	late := r.stub
	late.TTL = time.Second
	if _, err := late.Notify(t.Context(), "count", "late note"); err != nil {
		t.Fatal(err)
	}
	why := asRejected(t, begin(t, late, "count", "late").Outcome().Err)
	wantEqual(t, "reason", why.Reason, "no agent has accepted Work.count@1 within 1s")

	_, stop := r.runWork(t)
	if err := inTime.Result(nil); err != nil {
		t.Errorf("the one that is accepted in time ends with %v", err)
	}
	// A second passes while a method runs that had to be accepted within it.
	long := begin(t, late, "hold")
	next(t, r.work.begun, "the call")
	nobody := late
	nobody.ClassName = "Nobody"
	asRejected(t, begin(t, nobody, "do").Outcome().Err)
	r.work.finish(t)
	if err := long.Result(nil); err != nil {
		t.Errorf("the one that lasts longer ends with %v", err)
	}
	stop() // it has looked at all that was there
	for key, want := range map[string]int{"without": 0, "in time": 1, "late": 0, "late note": 0} {
		wantEqual(t, key, r.work.times(key), want)
	}
}

// A caller cancels what waits for its agent, and the agent does it when it is there.
func TestWhatIsCancelledWhileItWaitsIsNotDone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bySN, byData, wanted := r.stub, r.stub, r.stub
	for i, s := range []*Stub{&bySN, &byData, &wanted} {
		s.TTL, s.Data = fleettest.Patience, map[string]int{"job": i}
	}
	calls := []*Pending{begin(t, bySN, "count", "by sn"), begin(t, byData, "count", "by data"), begin(t, wanted, "count", "wanted")}
	fleettest.Eventually(t, "they wait", func() error {
		if n := r.b.Length("msgbus.Work.count@1"); n != 3 {
			return fmt.Errorf("%d do", n)
		}
		return nil
	})
	ctx := patient(t)
	criteria := Eq(map[string]int{"job": 1})
	err := errors.Join(calls[0].Cancel(ctx), r.stub.Caller.Cancel(ctx, r.b.ID, Cancellation{Criteria: &criteria}))
	if err != nil {
		t.Fatal(err)
	}
	fleettest.Eventually(t, "the agent's relay knows", func() error {
		if n := r.b.RDB.XLen(ctx, "msgbus.system.stream.msgbus").Val(); n != 2 {
			return fmt.Errorf("of %d", n)
		}
		return nil
	})
	r.runWork(t)
	for i, p := range calls[:2] {
		if err := p.Result(nil); !errors.Is(err, ErrCancelled) {
			t.Errorf("call %d ends with %v", i, err)
		}
	}
	if err := calls[2].Result(nil); err != nil {
		t.Errorf("the one that is wanted ends with %v", err)
	}
}

// The network has a bad moment, and callers and agents have to be started anew.
func TestCallersAndAgentsReconnect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.runWork(t)
	must[echo](t, r.stub, "echo")
	for _, s := range []*fleettest.Site{r.a, r.b} {
		if err := s.RDB.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
			t.Fatal(err)
		}
	}
	waits := r.stub
	waits.TTL = fleettest.Patience
	must[echo](t, waits, "echo")
}
