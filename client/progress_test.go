package client_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/msgbusd/msgbusd/client"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// interim is what the relay hands on of a service's interim reply.
func interim(m fleettest.Message, twin uint32, status string, seq int, data string) fleettest.Message {
	return with(with(replyFrom(m, twin, data), "status", status), "seq", seq)
}

// A bar of progress jumps back, or goes on when the work is done.
func TestProgressIsToldInOrderAndNeverAfterTheAnswer(t *testing.T) {
	r := newRig(t)
	var seen []string // only this goroutine's, which calls
	told := func(p client.Progress) {
		seen = append(seen, fmt.Sprintf("%d %s %d %d/%d %s %s", p.Twin, p.Status, p.Seq, p.Completed, p.Total, p.Details, p.Data))
	}
	var answering sync.WaitGroup
	answering.Go(func() {
		m := r.asked()
		list := extOf(m).text("progress")
		first := []fleettest.Message{
			interim(m, 1002, "accepted", 1, ""),
			interim(m, 1002, "progress", 2, `{"total":10,"completed":4,"details":{"file":"a"}}`),
			interim(m, 1002, "progress", 2, `{"total":10,"completed":4,"details":{"file":"a"}}`), // twice
			interim(m, 1003, "progress", 3, `{"total":10,"completed":5}`),                        // not asked
			interim(m, 1002, "baking", 3, `"hot"`),
			interim(m, 1002, "progress", 4, "not of the custom"),
			interim(m, 1002, "accepted", 1, ""), // another service has it
			interim(m, 1002, "progress", 2, `{"total":10,"completed":1}`),
		}
		r.push(list, first...)
		r.give(replyFrom(m, 1002, "42"))
		r.push(list, interim(m, 1002, "progress", 3, `{"total":10,"completed":2}`))
	})
	var got int
	r.must(r.c.Call(r.context(), 1002, "calc", nil, &got, client.OnProgress(told)))
	answering.Wait()
	wantEqual(t, "answer", got, 42)
	want := []string{
		"1002 accepted 1 0/0  ",
		`1002 progress 2 4/10 {"file":"a"} {"total":10,"completed":4,"details":{"file":"a"}}`,
		`1002 baking 3 0/0  "hot"`,
		"1002 progress 4 0/0  not of the custom",
		"1002 accepted 1 0/0  ",
		`1002 progress 2 1/10  {"total":10,"completed":1}`,
	}
	// The last one may have been there before the answer was read.
	if len(seen) > len(want) {
		seen = seen[:len(want)]
	}
	if got, want := fmt.Sprintf("%q", seen), fmt.Sprintf("%q", want); got != want {
		t.Errorf("told\n%s\nwant\n%s", got, want)
	}
}

// A service that tells without end fills the memory of an app that is slow to hear.
func TestOfTooMuchProgressTheLatestIsTold(t *testing.T) {
	r := newRig(t)
	var seen []int64
	block := make(chan struct{})
	entered := make(chan struct{}, 1)
	told := func(p client.Progress) {
		if len(seen) == 0 {
			entered <- struct{}{}
			<-block
		}
		seen = append(seen, p.Seq)
	}
	var answering sync.WaitGroup
	answering.Go(func() {
		m := r.asked()
		list := extOf(m).text("progress")
		r.push(list, interim(m, 1002, "progress", 1, ""))
		<-entered
		const all = 1500
		for seq := 2; seq <= all; seq++ {
			r.push(list, interim(m, 1002, "progress", seq, ""))
			r.must(r.rdb.LTrim(t.Context(), list, -1000, -1).Err()) // as the relay does
		}
		r.give(replyFrom(m, 1002, "1"))
		fleettest.Eventually(t, "the answer is read, and all before it", func() error {
			if n, _ := r.c.Waiting(); n > 0 {
				return fmt.Errorf("%d wait", n)
			}
			return nil
		})
		close(block)
	})
	r.must(r.c.Call(r.context(), 1002, "calc", nil, nil, client.OnProgress(told)))
	answering.Wait()
	if len(seen) > 1001 || seen[len(seen)-1] != 1500 || !slices.IsSorted(seen) {
		t.Errorf("told %d, the last of which is %d", len(seen), seen[len(seen)-1])
	}
}

// The service, the relay and the app, all of them.
func TestAServiceTellsHowFarItIs(t *testing.T) {
	r := newRig(t)
	r.runRelay()
	s := client.NewServer(r.c, client.ServerOptions{})
	client.Handle(s, "bake", func(ctx context.Context, cakes int64) (string, error) {
		q := client.RequestFrom(ctx)
		for i := range cakes {
			if err := q.Progress(ctx, cakes, i+1, map[string]int64{"cake": i}); err != nil {
				return "", err
			}
		}
		return "baked", q.Status(ctx, "cooling", "for a while")
	})
	r.serve(s)
	var seen []string
	told := client.OnProgress(func(p client.Progress) {
		seen = append(seen, strings.TrimSpace(fmt.Sprintf("%d %s %d %d %s", p.Seq, p.Status, p.Completed, p.Total, p.Details)))
	})
	got, err := client.Call[string](r.context(), r.c, 1002, "bake", 2, told)
	r.must(err)
	wantEqual(t, "answer", got, "baked")
	want := []string{"1 accepted 0 0", "2 started 0 0", `3 progress 1 2 {"cake":0}`, `4 progress 2 2 {"cake":1}`, "5 cooling 0 0"}
	if got, want := fmt.Sprintf("%q", seen), fmt.Sprintf("%q", want); got != want {
		t.Errorf("told %s, want %s", got, want)
	}

	r.must(r.c.Call(r.context(), 1002, "bake", 1, nil)) // nobody asks
	wantEqual(t, "told to nobody", r.length(r.c.List()), 0)
}

// A handler leaves something behind that goes on to tell, and the app hears of work that is
// done.
func TestNothingIsToldAfterTheAnswer(t *testing.T) {
	r := newRig(t)
	kept := make(chan *client.Request, 1)
	s := client.NewServer(r.c, client.ServerOptions{})
	s.HandleFunc("bake", func(_ context.Context, q *client.Request) (any, error) {
		kept <- q
		return nil, nil
	})
	r.serve(s)
	r.push("msgbus.bake", with(request("bake", "1"), "progress", "told"))
	r.pop("msgbus.system.reply")
	r.must((<-kept).Progress(t.Context(), 1, 1, nil))
	wantEqual(t, "accepted and started", r.length("told"), 2)
}
