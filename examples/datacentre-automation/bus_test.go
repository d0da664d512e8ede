package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// A runner takes an SNMP command for a task that it shall do, and a poller the answers for
// another graph.
func TestWordsInPatternsStandForOneWordEach(t *testing.T) {
	r := newRig(t)
	ctx := r.patient()
	heard := make(map[string]*recorder)
	for _, pattern := range []string{
		"task/run.*", "task/ipmi.command.*.*", "task/ipmi.command.*.result.g1", "task/#.g1", "events/task.finished.t1",
	} {
		s, err := r.rack.client.Subscribe(ctx, pattern, client.From(r.a.ID))
		r.must(err)
		heard[pattern] = r.recordOf(s)
	}
	all := heard["task/#.g1"]
	r.must(r.control.Publish(ctx, RunATask, RunTask{TaskID: "t1", TaskName: "x", GraphID: "g1", NodeID: "n1"}, "t1"))
	r.must(r.control.Publish(ctx, AskSnmp, SnmpCommand{GraphID: "g1", NodeID: "n1", Oids: []string{"sysUpTime"}}, "g1"))
	r.must(r.control.Publish(ctx, AskIpmi, IpmiCommand{GraphID: "g1", Command: "sel", NodeID: "n1"}, "sel", "g1"))
	r.must(r.control.Publish(ctx, IpmiAnswered, IpmiResult{GraphID: "g2", Command: "sel", NodeID: "n1"}, "sel", "g2"))
	r.must(r.control.Publish(ctx, TaskHasFinished, TaskFinished{TaskID: "t1", GraphID: "g1", State: Failed, Runner: "x"}, "t1"))
	r.must(r.control.Publish(ctx, IpmiAnswered, IpmiResult{GraphID: "g1", Command: "sel", NodeID: "n1"}, "sel", "g1"))
	// The last one is heard last, and events of a twin come in their order.
	_, err := all.await(ctx, "the last", func(e *client.Event) bool { return e.Topic == "task/ipmi.command.sel.result.g1" })
	r.must(err)
	for pattern, want := range map[string][]string{
		"task/run.*":                    {"task/run.t1"},
		"task/ipmi.command.*.*":         {"task/ipmi.command.sel.g1"},
		"task/ipmi.command.*.result.g1": {"task/ipmi.command.sel.result.g1"},
		"task/#.g1":                     {"task/run.snmp.command.g1", "task/ipmi.command.sel.g1", "task/ipmi.command.sel.result.g1"},
		"events/task.finished.t1":       {"events/task.finished.t1"},
	} {
		_, err := heard[pattern].await(ctx, want[len(want)-1], func(e *client.Event) bool { return e.Topic == want[len(want)-1] })
		r.must(err)
		if got := heard[pattern].topics(); !slices.Equal(got, want) {
			t.Errorf("%s hears %q, want %q", pattern, got, want)
		}
	}
}

// One service is slow, or ends, and the others no longer hear what they wait for.
func TestEachSubscriptionIsItsOwn(t *testing.T) {
	r := newRig(t)
	ctx := r.patient()
	slow, err := listen[TftpSuccess](ctx, r.rack, TftpSucceeded) // it takes nothing until the end
	r.must(err)
	ends := hearing[TftpSuccess](r, r.rack, TftpSucceeded)
	stays := hearing[TftpSuccess](r, r.rack, TftpSucceeded, "node-1")
	there := hearing[TftpSuccess](r, r.control, TftpSucceeded)
	ours := TftpSuccess{NodeID: "node-1", File: "a", Bytes: 1}
	n, err := r.control.PublishCounted(ctx, TftpSucceeded, ours, "node-1")
	if err != nil || n != 3 { // the first two share what they hear of Redis
		t.Errorf("it is given to %d listeners, %v, want 3", n, err)
	}
	for _, x := range []*box[TftpSuccess]{ends, stays, there} {
		if got := x.next(); got != ours {
			t.Errorf("heard %+v", got)
		}
	}
	ends.stop()
	again := TftpSuccess{NodeID: "node-1", File: "b", Bytes: 1}
	r.must(r.control.Publish(ctx, TftpSucceeded, again, "node-1"))
	if got := stays.next(); got != again {
		t.Errorf("heard %+v", got)
	}
	late := boxed(r, slow)
	for _, want := range []TftpSuccess{ours, again} {
		if got := late.next(); got != want {
			t.Errorf("the slow one heard %+v, want %+v", got, want)
		}
	}
	stays.wantNoMore()
	late.wantNoMore()
}

// An operator waits for ever for a service that hangs, or for a second for one that is not
// there at all.
func TestQuestionsHaveASecond(t *testing.T) {
	r := newRig(t)
	if RequestTimeout != time.Second {
		t.Errorf("the default is %v", RequestTimeout)
	}
	hung := make(chan struct{})
	r.serve(r.rack, func(s *client.Server) {
		handle(s, PeekLeaseTable, func(ctx context.Context, _ Nothing) ([]Lease, error) {
			<-ctx.Done() // which it does when nobody waits any more
			close(hung)
			return nil, ctx.Err()
		})
	}, PeekLeaseTable.Command())
	asks := r.open(r.a, 0)
	began := time.Now()
	_, err := request[[]Lease](r.patient(), asks, PeekLeaseTable, Nothing{})
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took < RequestTimeout {
		t.Errorf("after %v it says %v", took, err)
	}
	select {
	case <-hung:
	case <-r.patient().Done():
		t.Error("the service works on for nobody")
	}
	if _, err = request[bool](r.patient(), r.control, IPInRange, IPAddress{"10.1.1.1"}); !IsNoService(err) {
		t.Errorf("a method that nobody serves: %v", err)
	}
	if is, err := IsTaskActive(r.patient(), r.control, "node-7"); is || err != nil {
		t.Errorf("a node without a task has one: %v, %v", is, err)
	}
}

// One of two services hangs, and the system with it.
func TestTheFirstAnswerWins(t *testing.T) {
	r := newRig(t)
	answer := func(b *Bus, f func(context.Context, Nothing) ([]Lease, error)) {
		r.serve(b, func(s *client.Server) { handle(s, PeekLeaseTable, f) })
		fleettest.Eventually(t, "it is served", func() error {
			got, err := served(r.patient(), b, b.twin)
			if err == nil && !slices.Contains(got, PeekLeaseTable.Command()) {
				err = errors.New("not yet")
			}
			return err
		})
	}
	answer(r.control, func(ctx context.Context, _ Nothing) ([]Lease, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	answer(r.rack, func(context.Context, Nothing) ([]Lease, error) { return []Lease{{NodeID: "quick"}}, nil })
	got, err := request[[]Lease](r.patient(), r.open(r.a, 2*time.Second), PeekLeaseTable, Nothing{})
	if err != nil || len(got) != 1 || got[0].NodeID != "quick" {
		t.Errorf("the answer is %v, %v", got, err)
	}
}

// A caller cannot tell a lease that is not there from a service that is broken.
func TestErrorsAndResultsHaveTypes(t *testing.T) {
	r := newRig(t)
	d := r.dhcp()
	ctx := r.patient()
	lease, err := d.Bind(ctx, "node-1", "52:54:00:00:00:01")
	r.must(err)
	_, err = request[Lease](ctx, r.control, PinMAC, MACAddress{lease.MAC})
	r.must(err)
	_, err = request[Lease](ctx, r.control, RemoveLease, MACAddress{lease.MAC})
	if classOf(err) != ConflictError {
		t.Errorf("removing what is pinned: %v", err)
	}
	_, err = request[Lease](ctx, r.control, LookupIPLease, IPAddress{"10.9.9.9"})
	if classOf(err) != NotFoundError {
		t.Errorf("a lease that is not there: %v", err)
	}
	_, err = request[[]string](ctx, r.control, LookupIPLease, IPAddress{lease.IP})
	if classOf(err) != "" || err == nil {
		t.Errorf("a lease is taken for a list: %v", err)
	}
	_, err = request[Lease](ctx, r.control, LookupIPLease, IPAddress{"not an address"})
	if err == nil {
		t.Error("what is not valid leaves")
	}
	// Programs that check nothing are told by the service.
	for what, send := range map[string]struct {
		schema string
		data   string
	}{
		"another type": {"MACAddress", `{"value":"10.1.1.10"}`}, "no address": {"IPAddress", `{"value":"x"}`},
		"no JSON": {"", `{`}, "no field": {"IPAddress", `{}`},
	} {
		err := r.control.client.Call(ctx, r.b.ID, LookupIPLease.Command(), json.RawMessage(send.data), nil, client.Schema(send.schema))
		if classOf(err) != ValidationError {
			t.Errorf("%s is answered with %v", what, err)
		}
	}
}

// A program of another release publishes what nobody can read, and the services stumble.
func TestEventsThatAreNotAsTheyMustBeAreDropped(t *testing.T) {
	r := newRig(t)
	ctx := r.patient()
	heard := hearing[Lease](r, r.rack, DhcpBound)
	topic := DhcpBound.Topic("node-1")
	good := Lease{NodeID: "node-1", IP: "10.1.1.10", MAC: "52:54:00:00:00:01"}
	r.must(r.control.client.Publish(ctx, topic, json.RawMessage(`{"nodeId":"node-1"}`)))
	r.must(r.control.client.Publish(ctx, topic, good, client.Schema("TftpSuccess")))
	r.must(r.control.client.Publish(ctx, topic, []byte("\x00")))
	if err := r.control.Publish(ctx, DhcpBound, Lease{NodeID: "node-1"}, "node-1"); err == nil {
		t.Error("what is not valid is published")
	}
	if err := r.control.Publish(ctx, DhcpBound, good); err == nil {
		t.Error("a key without its word is published")
	}
	r.must(r.control.Publish(ctx, DhcpBound, good, "node-1"))
	if got := heard.next(); got != good {
		t.Errorf("heard %+v", got)
	}
	heard.wantNoMore()
}

// An operator looks into the log after an incident, and finds nothing.
func TestTheLogIsKeptForThoseWhoComeLater(t *testing.T) {
	r := newRig(t)
	ctx := r.patient()
	begin := func(b *Bus, level Level) *box[LogEvent] {
		reader, err := NewLogReader(ctx, b, level)
		r.must(err)
		return boxed(r, reader.entries)
	}
	first := begin(r.control, "*")
	for _, level := range Levels() {
		r.must(NewLogger(r.rack, "dhcp").Log(ctx, level, "node-1", "it is "+string(level)))
	}
	for _, level := range Levels() {
		if got := first.next(); got.Level != level || got.Message != "it is "+string(level) || got.Timestamp.IsZero() {
			t.Errorf("the log has %+v, want the one of level %s", got, level)
		}
	}
	for machine, b := range map[string]*Bus{"where it was written": r.rack, "at the other machine": r.control} {
		late := begin(b, Failure)
		if got := late.next(); got.Level != Failure {
			t.Errorf("%s: the log has %+v", machine, got)
		}
		late.wantNoMore()
	}
	if err := NewLogger(r.rack, "dhcp").Log(ctx, "crit", "node-1", "no such level"); err == nil {
		t.Error("there is a level crit")
	}
}

// An operator is told that a process lives that has ended, or the other way round.
func TestProcessesTellThatTheyLive(t *testing.T) {
	r := newRig(t)
	if HeartbeatEvery != 10*time.Second || NewHeart(r.rack, "x", 0).every != HeartbeatEvery {
		t.Error("it is not every ten seconds")
	}
	rec := r.record(r.control)
	beats := hearing[Heartbeat](r, r.control, HeartBeat)
	const every = 100 * time.Millisecond
	stop := r.run(NewHeart(r.rack, "dhcp", every).Run)
	first := beats.next()
	if first.Name != "dhcp" || first.PID == 0 || first.MemoryUsage == 0 || first.Host == "" {
		t.Errorf("the heartbeat says %+v", first)
	}
	if second := beats.next(); !second.NextUpdate.After(first.NextUpdate) {
		t.Errorf("the next update is %v, then %v", first.NextUpdate, second.NextUpdate)
	}
	await := func(topic string) {
		_, err := rec.await(r.patient(), topic, func(e *client.Event) bool { return e.Topic == topic && e.Source == r.b.ID })
		r.must(err)
	}
	await("msgbus/presence.up.dhcp")
	if _, there, err := r.rack.client.Present(r.patient(), "dhcp"); err != nil || !there {
		t.Errorf("it is not there: %v", err)
	}
	stop()
	await("msgbus/presence.down.dhcp")
}

// dhcp runs a DHCP service on the rack's machine.
func (r *rig) dhcp() *DHCPService {
	r.Helper()
	d := NewDHCPService(r.rack, addr("10.1.1.10"), addr("10.1.1.11"))
	r.run(d.Run)
	r.must(r.control.awaitMethods(r.patient(), LookupIPLease.Command(), RemoveLease.Command(), PinMAC.Command()))
	return d
}

// A node gets the address that another one has.
func TestAddressesAreGivenOutOnce(t *testing.T) {
	d := NewDHCPService(nil, addr("10.1.1.10"), addr("10.1.1.11"))
	one, err1 := d.bind("node-1", "52:54:00:00:00:01")
	two, err2 := d.bind("node-2", "52:54:00:00:00:02")
	again, err3 := d.bind("node-1", "52:54:00:00:00:01")
	if err := errors.Join(err1, err2, err3); err != nil || one.IP == two.IP || again != one {
		t.Errorf("leases %v, %v, %v (%v)", one, two, again, err)
	}
	if _, err := d.bind("node-3", "52:54:00:00:00:03"); err == nil {
		t.Error("there is a third address of two")
	}
}
