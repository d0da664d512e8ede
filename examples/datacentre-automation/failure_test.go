package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
)

// The relay of either machine is killed in the middle, by the kernel or by an impatient
// operator. A graph would wait for ever for a task that is done, a disk would be wiped twice,
// or a lease be pinned long after the operator was told that it was not.
func TestKilledRelaysLoseNoWorkAndDoNoneTwice(t *testing.T) {
	r := newRig(t)
	job := newCounted()
	s := r.start(SystemOptions{Jobs: map[string]Job{"Task.Counted": job.do}})
	lease, err := s.DHCP.Bind(r.patient(), "node-1", "52:54:00:00:00:01")
	r.must(err)
	const n = 10
	var tasks []GraphTask
	for i := range n {
		tasks = append(tasks, GraphTask{Label: fmt.Sprint(i), TaskName: "Task.Counted"})
	}
	r.define("Graph.Many", tasks...)
	finished, ended := hearing[TaskFinished](r, r.control, TaskHasFinished), hearing[GraphFinished](r, r.rack, GraphHasEnded)

	// The rack's relay dies while two tasks are done, and others wait.
	first := r.runGraph("Graph.Many", "node-1")
	job.await(r)
	job.await(r)
	r.b.Daemon.Kill()
	job.let(n)

	// What is asked of the rack meanwhile is not done, and its caller knows.
	_, err = request[Lease](r.patient(), r.open(r.a, 0), PinMAC, MACAddress{lease.MAC})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a question to a dead relay is answered with %v", err)
	}
	err = r.control.client.Call(r.patient(), r.b.ID, PinMAC.Command(), MACAddress{lease.MAC}, nil, client.Expire(time.Second))
	if class := classOf(err); class != "msgbus.expired" {
		t.Errorf("the bus says of it %v (%s)", err, class)
	}
	// A second graph begins while the rack is away: the control machine has its own relay.
	second, err := request[Graph](r.patient(), r.control, RunTaskGraph, RunGraph{Name: "Graph.Many", Target: "node-2"})
	r.must(err)
	r.b.Start()
	job.let(n / 2)
	got := make(map[string]int)
	for range n + n/2 {
		got[finished.next().TaskID]++
	}

	// The control machine's relay dies with the second graph half done.
	r.a.Daemon.Kill()
	job.let(n / 2)
	r.a.Start()
	for range n / 2 {
		got[finished.next().TaskID]++
	}
	ends := map[string]State{}
	for range 2 {
		g := ended.next()
		ends[g.GraphID] = g.Status
	}
	if ends[first.GraphID] != Succeeded || ends[second.GraphID] != Succeeded {
		t.Errorf("the graphs end %v", ends)
	}
	for id, times := range got {
		if times != 1 {
			t.Errorf("task %s is told to have finished %d times", id, times)
		}
	}
	r.a.AwaitQuiet()
	r.b.AwaitQuiet()
	finished.wantNoMore()
	ended.wantNoMore()
	job.wantOnce(t, 2*n)
	now, err := request[Lease](r.patient(), r.control, LookupIPLease, IPAddress{lease.IP})
	if err != nil || now.Pinned {
		t.Errorf("the lease is %+v, %v: what its caller has given up is done", now, err)
	}
}

// A relay is away for longer than an event lives. Operators think that all have heard it.
func TestWhatIsLostIsTold(t *testing.T) {
	r := newRig(t)
	ctx := r.patient()
	news, ends := hearing[TftpSuccess](r, r.rack, TftpSucceeded), hearing[GraphFinished](r, r.rack, GraphHasEnded)
	r.b.Daemon.Kill()
	short := r.open(r.a, 0)
	lost := TftpSuccess{NodeID: "node-1", File: "lost", Bytes: 1}
	if n, err := short.PublishCounted(ctx, TftpSucceeded, lost, "node-1"); classOf(err) != "msgbus.expired" {
		t.Errorf("of news that twin 1002 does not get it says %d, %v", n, err)
	}
	// Nobody waits for the one that is durable: the operator finds it among the dead letters.
	end := GraphFinished{GraphID: "g1", Name: "lost", Target: "node-1", Status: Succeeded}
	r.must(r.control.client.Publish(ctx, GraphHasEnded.Topic("g1"), end, client.Durable(), client.Expire(time.Second)))
	if dead := r.a.NextDead(); dead.Reason != "expired" {
		t.Errorf("the dead letter is %+v", dead)
	}
	r.a.WantNoDead() // no news is among them
	r.b.Start()
	after := TftpSuccess{NodeID: "node-1", File: "after", Bytes: 1}
	n, err := r.control.PublishCounted(ctx, TftpSucceeded, after, "node-1")
	if err != nil || n != 1 {
		t.Errorf("when the relay is back: %d, %v", n, err)
	}
	if got := news.next(); got != after {
		t.Errorf("heard %+v", got)
	}
	kept := end
	kept.Name = "kept"
	r.must(r.control.Publish(ctx, GraphHasEnded, kept, "g1"))
	if got := ends.next(); got != kept {
		t.Errorf("heard %+v", got)
	}
}
