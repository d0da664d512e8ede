package backlog_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/backlog"
	"github.com/msgbusd/msgbusd/msgbus"
)

const resultQueue = "0b7d7b63-8fd6-4b0b-9b0f-3f3b8b0e8f11"

func (r *rig) proxied(digest, command string) (msgbus.Acceptance, []byte) {
	m := request(self)
	m.Command, m.ReturnQueue, m.Proxied = command, resultQueue, true
	return msgbus.Acceptance{
		Digest: digest, Now: r.now().Unix(), Command: command, Life: time.Minute, Body: []byte("for the service"),
	}, m.AppendEntryTail(nil)
}

func (r *rig) proxy(s *backlog.Store, queue, digest, command string) string {
	r.Helper()
	a, tail := r.proxied(digest, command)
	got, outcome, err := s.Proxy(r.Context(), 1003, queue, a, tail)
	r.must(err)
	return fmt.Sprintf("%s %s", outcome, got)
}

// A client that repeats its POST gets another queue, in which its result never
// appears, and the service is called twice.
func TestProxiedRequestThatIsRepeatedHasTheSameQueue(t *testing.T) {
	onBoth(t, func(r *rig) {
		a, b := r.join(instance("a")), r.join(instance("b"))
		wantEqual(r, "first", r.proxy(a, resultQueue, "d", "calc.add"), "accepted "+resultQueue)
		wantEqual(r, "again", r.proxy(b, "another", "d", "calc.add"), "repeat "+resultQueue)
		r.wantList("msgbus.calc.add", "for the service")
		e := r.entry(a, resultQueue)
		wantEqual(r, "entry", fmt.Sprint(e.Message.Source, e.Message.Destinations, e.Message.Proxied, e.Message.ReturnQueue), fmt.Sprint(1003, []uint32{self}, true, resultQueue))
		wantEqual(r, "life", e.Deadline.Sub(e.Admitted), time.Minute)
	})
}

// Anybody can read any list of the machine over `/zbus-result`.
func TestResultsAreThoseOfProxiedRequestsOnly(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		r.push("secret", "x")
		_, _, err := s.Results(r.Context(), "secret")
		r.wantErr(err, msgbus.ErrNotFound)

		r.proxy(s, resultQueue, "d", "calc.add")
		source, messages, err := s.Results(r.Context(), resultQueue)
		r.must(err)
		wantEqual(r, "before the answer", fmt.Sprint(source, len(messages)), "1003 0")
		r.push(resultQueue, "one", "two")
		for range 2 {
			_, messages, err = s.Results(r.Context(), resultQueue)
			r.must(err)
			wantEqual(r, "results, which stay", fmt.Sprint(messages), "[one two]")
		}
		r.advance(time.Minute + 29*time.Minute)
		_, _, err = s.Results(r.Context(), resultQueue)
		r.must(err)
		r.advance(2 * time.Minute)
		_, _, err = s.Results(r.Context(), resultQueue)
		r.wantErr(err, msgbus.ErrNotFound)
	})
}

// A proxied request that no service answers has no result for ever; one that
// was answered gets an error behind its answer.
func TestProxiedRequestEndsWithAnErrorUnlessTheServiceAnswered(t *testing.T) {
	onMovingClocks(t, func(r *rig) {
		s := r.join()
		r.proxy(s, resultQueue, "d1", "calc.add")
		r.proxy(s, "answered", "d2", "calc.add")
		r.advance(time.Minute + time.Second)
		due, err := s.Due(r.Context())
		r.must(err)
		wantEqual(r, "due", len(due), 2)
		r.push(due[1].Message.UID, "result of the service")
		due[1].Message.ReturnQueue = due[1].Message.UID
		out := r.answer(s, failure(due[0], "expired"), failure(due[1], "expired"))
		wantEqual(r, "outcomes", out, "[failed kept]")
		r.wantList(due[0].Message.UID, "expired")
		r.wantList(due[1].Message.UID, "result of the service")
		r.wantEnd(due[1].Message.UID, 30*time.Minute)
		r.wantStats(s, backlog.Stats{Accepted: 2, Answered: 1, Failed: 1})
	})
}

// `/zbus-cmd` is the way around the bounds that hold for other requests.
func TestProxiedRequestsAreBounded(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.MaxQueue, o.MaxUnread = 4, 2 })
		r.must(r.rdb.Set(r.Context(), "msgbus.wrong", "text", 0).Err())
		wantEqual(r, "a", r.proxy(s, "q1", "d1", "a"), "accepted q1")
		wantEqual(r, "a", r.proxy(s, "q2", "d2", "a"), "accepted q2")
		r.unchanged("what is over the bounds", func() {
			wantEqual(r, "a, half full", r.proxy(s, "q3", "d3", "a"), "queue_full ")
			wantEqual(r, "wrong", r.proxy(s, "q3", "d3", "wrong"), "wrong_type ")
		})
		wantEqual(r, "b", r.proxy(s, "q4", "d4", "b"), "accepted q4")
		wantEqual(r, "c, one list too many", r.proxy(s, "q5", "d5", "c"), "queue_full ")
		r.wantEnd("msgbus.a", time.Minute)
		r.serve("a")
		r.takeStock(s)
		wantEqual(r, "c, now that a is served", r.proxy(s, "q5", "d5", "c"), "accepted q5")
		wantEqual(r, "a", r.proxy(s, "q6", "d6", "a"), "accepted q6")
		r.wantEnd("msgbus.a", -1)
	})
}

// Strangers with long-lived commands fill the backlog, and this machine's own
// apps wait.
func TestProxiedRequestsTakeHalfTheBacklogAtMost(t *testing.T) {
	onBoth(t, func(r *rig) {
		s := r.join(func(o *backlog.Options) { o.MaxBacklog = 4 })
		wantEqual(r, "first", r.proxy(s, "q1", "d1", "calc.add"), "accepted q1")
		wantEqual(r, "second", r.proxy(s, "q2", "d2", "calc.add"), "accepted q2")
		wantEqual(r, "third", r.proxy(s, "q3", "d3", "calc.add"), "queue_full ")
		wantEqual(r, "an own app's", len(r.admit(s, request(1002))), 1)
	})
}
