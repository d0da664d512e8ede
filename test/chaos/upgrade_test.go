package chaos

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// The daemon is replaced in place, by a newer one or an older: whatever its
// queues hold goes on, with fields that nobody knows yet.
//
// Seen to fail it: Adopt of package backlog that does not call adoptRetries: what the
// archived daemon retried is never answered.
func TestQueuesOfOtherVersions(t *testing.T) {
	r := begin(t, 38, "queues of the archived daemon and of an earlier start")
	f := fleettest.New(r)
	a, b := f.Site(1001), f.Site(1002)
	n := r.of(20, 1000)
	ctx := r.Context()
	request := func(kind string, i int) fleettest.Message {
		return fleettest.Request("work", fmt.Sprintf("%s %d", kind, i), b.ID).With("ret", "app").With("exp", 3600).With("try", 1000).With("trace", map[string]any{"id": i})
	}
	// An entry of the backlog has been sent; b has it in one queue or another.
	sent := func(kind string, i, number int) fleettest.Message {
		m := request(kind, i).With("uid", fmt.Sprintf("%d.%d", b.ID, number)).With("src", a.ID)
		a.RDB.HSet(ctx, "msgbus.system.backlog", m.Text("uid"), m.String())
		return m.With("ret", "msgbus.system.reply")
	}
	kinds := []string{"answered", "taken", "queued", "retried", "pushed"}
	for i := range n {
		m := sent("answered", i, 1+i)
		b.PushRaw("reply", m.With("src", b.ID).With("dst", []uint32{a.ID}).String())
		b.PushRaw("remote", sent("taken", i, n+1+i).String())
		b.RDB.RPush(ctx, "msgbus.work", sent("queued", i, 2*n+1+i).String())
		a.RDB.HSet(ctx, "msgbus.system.retry", strconv.Itoa(i), request("retried", i).String())
		a.Push(request("pushed", i))
	}
	a.RDB.Set(ctx, "msgbus.counter.1002", 3*n, 0)
	a.Launch()
	b.Launch()
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()

	// And of ours: killed with requests under way, half of them not sent yet.
	kinds = append(kinds, "ours")
	b.Daemon.Kill()
	for i := range n {
		a.Push(request("ours", i))
	}
	a.Daemon.Kill()
	a.Launch()
	b.Launch()
	a.Daemon.AwaitReady()
	b.Daemon.AwaitReady()
	b.ServeMessages("work", func(m fleettest.Message) fleettest.Message {
		dst, _ := m["dst"].([]any)
		return m.With("src", dst[0]).With("dst", []any{m["src"]})
	})

	times := make(map[string]int)
	for range len(kinds) * n {
		reply := a.Pop("app")
		times[reply.Data()]++
		trace, _ := reply["trace"].(map[string]any)
		_, number, _ := strings.Cut(reply.Data(), " ")
		if reply.Text("err") != "" || fmt.Sprint(trace["id"]) != number {
			r.Errorf("the reply is %s", reply)
		}
	}
	a.AwaitQuiet()
	b.AwaitQuiet()
	for _, kind := range kinds {
		for i := range n {
			if got := times[fmt.Sprintf("%s %d", kind, i)]; got != 1 {
				r.Errorf("%s %d is answered %d times", kind, i, got)
			}
		}
	}
	if left := a.Length("app"); left != 0 {
		r.Errorf("%d more replies", left)
	}
	a.WantNoDead()
	b.WantNoDead()
	r.figure("%d messages in %d kinds of queues: 0 lost, unknown fields kept", len(kinds)*n, len(kinds))
}
