package backlog_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

const (
	localQueue = "msgbus.system.local"
	replyQueue = "msgbus.system.reply"
)

func numbered(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprint("message ", i))
	}
	return out
}

// Two messages to one twin arrive there in the wrong order.
func TestTakeIsFirstInFirstOut(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, numbered(20)...)
		wantEqual(r, "claim", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), fmt.Sprint(numbered(20)))
		wantEqual(r, "left in the queue", len(r.list(localQueue)), 0)
	})
}

// A worker that stumbled over a claim leaves its messages lying until the
// relay is started again.
func TestClaimThatWasNotDroppedIsHandedOutAgain(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, "one", "two")
		first := r.take(s, msgbus.LocalQueue)
		r.push(localQueue, "three")
		again := r.take(s, msgbus.LocalQueue)
		wantEqual(r, "claim", fmt.Sprint(again.Messages), fmt.Sprint(append(first.Messages, "three")))

		r.must(s.Drop(r.Context(), again))
		r.push(localQueue, "four")
		wantEqual(r, "claim after drop", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), "[four]")
	})
}

// An app gets the same refusal twice, because its message was handed out again
// after it had been dealt with.
func TestMessagesThatWereDealtWithComeBackEmpty(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, "one", "bad", "three")
		c := r.take(s, msgbus.LocalQueue)
		r.must(s.Refuse(r.Context(), c, 1, refusal(), "app.ret", []byte("error"), false))
		wantEqual(r, "claim", fmt.Sprintf("%q", r.take(s, msgbus.LocalQueue).Messages), `["one" "\x00dealt with" "three"]`)
		r.must(s.Refuse(r.Context(), c, 1, refusal(), "app.ret", []byte("error"), false))
		r.wantList("app.ret", "error")
	})
}

// One huge backlog of an app that was left alone for a night makes the relay
// read all of it into memory.
func TestTakeIsBounded(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, numbered(300)...)
		c := r.take(s, msgbus.LocalQueue)
		wantEqual(r, "messages in a claim", len(c.Messages), 256)
		r.must(s.Drop(r.Context(), c))
		wantEqual(r, "rest", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), fmt.Sprint(numbered(300)[256:]))

		small := r.join(instance("b"), func(o *backlog.Options) { o.MaxTakeBytes = 100 })
		body := strings.Repeat("x", 60)
		r.push(replyQueue, body, body, body, body)
		wantEqual(r, "messages of 60 bytes in a claim of 100", len(r.take(small, msgbus.ReplyQueue).Messages), 2)
	})
}

// With a full backlog the relay either fills Redis to the brim or stops
// delivering the replies that would empty it.
func TestFullBacklogHoldsBackTheLocalQueueOnly(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.MaxBacklog = 2 })
		uids := r.admit(s, request(1002, 1003))
		r.push(localQueue, "waits")
		r.push(replyQueue, "reply")
		r.push("msgbus.system.remote", "remote")

		_, err := s.Take(r.Context(), msgbus.LocalQueue)
		r.wantErr(err, msgbus.ErrBacklogFull)
		wantEqual(r, "replies", fmt.Sprint(r.take(s, msgbus.ReplyQueue).Messages), "[reply]")
		wantEqual(r, "remote", fmt.Sprint(r.take(s, msgbus.RemoteQueue).Messages), "[remote]")
		r.wantList(localQueue, "waits")

		_, err = s.Answer(r.Context(), nil, []msgbus.Answer{{Entry: r.entry(s, uids[0]), Position: -1, Body: []byte("a")}})
		r.must(err)
		wantEqual(r, "local when there is room", fmt.Sprint(r.take(s, msgbus.LocalQueue).Messages), "[waits]")
	})
}

// A lone message waits for the next poll instead of arriving at once, or a
// relay without work asks Redis in a tight loop.
func TestTakeWaitsForTheFirstMessage(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		taken := make(chan string, 1)
		go func() {
			c, err := s.Take(r.Context(), msgbus.LocalQueue)
			for err == nil && len(c.Messages) == 0 {
				c, err = s.Take(r.Context(), msgbus.LocalQueue)
			}
			taken <- fmt.Sprint(c.Messages, err)
		}()
		r.waitForTaker()
		r.push(localQueue, "late")
		wantEqual(r, "claim", <-taken, "[late] <nil>")

		c, err := s.Take(r.Context(), msgbus.ReplyQueue)
		r.must(err)
		wantEqual(r, "messages when none came", len(c.Messages), 0)
	})
}

// waitForTaker returns when some client blocks, on a Redis that tells.
func (r *rig) waitForTaker() {
	r.Helper()
	if r.real == nil {
		return
	}
	eventually(r, "a taker blocks", func() bool {
		return strings.Contains(r.rdb.Info(r.Context(), "clients").Val(), "blocked_clients:1")
	})
}

// A relay that is told to stop hangs for as long as nobody sends a message.
func TestInterruptEndsTake(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		ended := make(chan error, 1)
		go func() {
			for {
				if _, err := s.Take(r.Context(), msgbus.LocalQueue); err != nil {
					ended <- err
					return
				}
			}
		}()
		r.waitForTaker()
		s.Interrupt()
		r.wantErr(<-ended, context.Canceled)
	})
}

// Scripts that Redis has forgotten (a restart, an operator's SCRIPT FLUSH) stop
// the relay.
func TestScriptFlushIsInvisible(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.push(localQueue, "one", "two")
		r.must(r.rdb.ScriptFlush(r.Context()).Err())
		c := r.take(s, msgbus.LocalQueue)
		wantEqual(r, "claim", fmt.Sprint(c.Messages), "[one two]")
		r.must(r.rdb.ScriptFlush(r.Context()).Err())
		uids, err := s.Admit(r.Context(), c, []msgbus.Admission{{Message: request(1002)}})
		r.must(err)
		r.must(r.rdb.ScriptFlush(r.Context()).Err())
		wantEqual(r, "batch", ids(r.fetch(s, 1002)), fmt.Sprint(uids))
	})
}

// What nobody can handle is lost without a trace, or its app waits in vain.
func TestRefuseTellsTheAppOrTheDeadLetters(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		r.must(r.rdb.Set(r.Context(), "app.string", "x", 0).Err())
		r.push(localQueue, "a", "b", "c", "d")
		c := r.take(s, msgbus.LocalQueue)
		r.must(s.Refuse(r.Context(), c, 0, refusal(), "app.ret", []byte("error"), false))
		r.must(s.Refuse(r.Context(), c, 1, refusal(), "app.ret", []byte("error"), true))
		r.must(s.Refuse(r.Context(), c, 2, refusal(), "app.string", []byte("error"), false))
		r.must(s.Refuse(r.Context(), c, 3, refusal(), "", nil, false))

		r.wantList("app.ret", "error", "error")
		wantEqual(r, "seconds that the queue is kept", r.rdb.TTL(r.Context(), "app.ret").Val().Seconds(), 1800)
		wantEqual(r, "dead letters", fmt.Sprint(r.dead()), "[local malformed b local malformed c local malformed d]")
		wantEqual(r, "the app's own key", r.rdb.Get(r.Context(), "app.string").Val(), "x")
	})
}

// dead returns queue, reason and message of each dead letter.
func (r *rig) dead() []string {
	r.Helper()
	letters, err := r.rdb.XRange(r.Context(), "msgbus.system.dead", "-", "+").Result()
	r.must(err)
	var out []string
	for _, l := range letters {
		out = append(out, fmt.Sprint(l.Values["queue"], " ", l.Values["reason"], " ", l.Values["message"]))
	}
	return out
}

// Redis serves a BLMOVE whose connection is gone on the relay's side only. What
// it adds to a claim that is being handled must not end with the claim.
func TestWhatIsAddedToAClaimUnseenStays(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join()
		for what, end := range map[string]func(c *msgbus.Claim) error{
			"Drop": func(c *msgbus.Claim) error { return s.Drop(r.Context(), c) },
			"Admit": func(c *msgbus.Claim) error {
				_, err := s.Admit(r.Context(), c, []msgbus.Admission{{Message: request(1002)}})
				return err
			},
			"Depart": func(c *msgbus.Claim) error {
				_, err := s.Depart(r.Context(), c, []msgbus.Departure{{Open: &msgbus.Open{UID: "1001.1", Source: 1003}, Body: []byte("reply")}})
				return err
			},
		} {
			q := msgbus.LocalQueue
			if what == "Depart" {
				q = msgbus.ReplyQueue
			}
			r.push("msgbus.system."+string(q), "seen")
			c := r.take(s, q)
			r.push("msgbus.system.claim."+c.Session+"."+string(q), "unseen")
			r.must(end(c))
			s.ForgetDrained()
			left := r.take(s, q)
			wantEqual(r, "after "+what, fmt.Sprint(left.Messages), "[unseen]")
			r.must(s.Drop(r.Context(), left))
		}
	})
}
