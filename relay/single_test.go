package relay

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A calm storage has nothing to say that matters before a step.
type calm struct{ Backlog }

func (calm) Hasten(context.Context, uint32) (bool, error) { return false, nil }
func (calm) Now() time.Time                               { return time.Now() }
func (calm) Prefix() string                               { return "msgbus" }

// A message that goes with others into a step which panics would be taken for one that
// Redis has, and its sender would forget it.
//
// Broken by: in AcceptRequest or AcceptReply, without errUntold.
func TestAStepThatPanicsWentWellForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Twin: 1002}, calm{}, nil)
		goOn := make(chan struct{})
		var steps int
		step := func() {
			if steps++; steps%2 == 0 {
				panic("boom")
			}
			<-goOn
		}
		r.requests.do = func(context.Context, lot, []*arrival) { step() }
		r.replies.do = func(context.Context, uint32, []*single) { step() }
		m := &msgbus.Message{Version: 1, UID: "1002.1", Source: 1001, Command: "x", Data: "", Now: time.Now().Unix()}
		for what, accept := range map[string]func(context.Context, *msgbus.Message) error{"requests": r.AcceptRequest, "replies": r.AcceptReply} {
			var callers sync.WaitGroup
			// Of the first step, of who leads the next one and panics, of who waits for it.
			errs := make([]error, 3)
			for i := range errs {
				callers.Go(func() {
					defer func() { _ = recover() }()
					errs[i] = accept(t.Context(), m.Clone())
				})
				synctest.Wait()
			}
			goOn <- struct{}{}
			callers.Wait()
			if !errors.Is(errs[2], errUntold) {
				t.Errorf("%s: the error is %v", what, errs[2])
			}
		}
	})
}
