package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// An operator presses a button of a lane, is told that it is done, and nothing happens; or
// a try lifts the pause by which another keeps a twin from being called.
func TestLaneIsPausedResumedAndTried(t *testing.T) {
	r := start(t)
	r.inTrouble()
	v := r.signIn()
	v.wantDone(v.press("/lanes/1002/pause"), "The lane to twin 1002 is paused.")
	wantEqual(t, "the lane", string(r.lane(1002).State), "paused")
	wantEqual(t, "what is sent on it", len(r.fetch(1002).Parcels), 0)
	v.want(v.press("/lanes/1002/retry"), http.StatusConflict, "The lane to twin 1002 is paused.", "msgbusd lane resume 1002")
	wantEqual(t, "the lane that was to be tried", string(r.lane(1002).State), "paused")
	v.wantDone(v.press("/lanes/1002/resume"), "The lane to twin 1002 goes on: it is not paused any more.")
	wantEqual(t, "what is sent on it", len(r.fetch(1002).Parcels), 1)

	_, err := r.store.Fail(t.Context(), 1002, msgbus.Failure{Reason: msgbus.Unreachable, Detail: "still"})
	r.must(err)
	due, err := r.store.DueLanes(t.Context(), 10)
	r.must(err)
	wantEqual(t, "lanes that are due", fmt.Sprint(due.Failing), "[]")
	v.wantDone(v.press("/lanes/1002/retry"), "The lane to twin 1002 is due now.")
	wantEqual(t, "what is sent on it", len(r.fetch(1002).Parcels), 1)
}

// The same for the buttons of a request: it must go now, or end with an error to its app.
func TestRequestIsTriedAndDropped(t *testing.T) {
	r := start(t)
	w := r.inTrouble()
	v := r.signIn()
	v.wantDone(v.press("/backlog/"+w.failing+"/retry"), "The lane to twin 1002 is due now.")
	wantEqual(t, "what is sent", r.fetch(1002).Parcels[0].ID, w.failing)
	v.want(v.press("/backlog/"+w.paused+"/retry"), http.StatusConflict, "The lane to twin 1003 is paused.", "msgbusd lane resume 1003")
	wantEqual(t, "its lane", string(r.lane(1003).State), "paused")
	v.want(v.get("/backlog/"+w.paused), http.StatusOK, `action="/console/lanes/1003/resume"`)
	v.want(v.press("/backlog/"+w.sent+"/retry"), http.StatusConflict, "twin 1005 has it")

	v.wantDone(v.press("/backlog/"+w.putOff+"/drop"), "Request "+w.putOff+" has ended, with an error to its app.")
	if ret := r.list("app.ret"); !strings.Contains(ret, w.putOff) || !strings.Contains(ret, "dropped by an operator") {
		t.Errorf("the app is told %s", ret)
	}
	v.want(v.press("/backlog/"+w.putOff+"/drop"), http.StatusNotFound)
	v.want(v.get("/trace?uid="+w.putOff), http.StatusOK, "dropped")
}

// An operator ticks some dead letters, and others are dropped; or he tries all of a
// reason, and one that cannot be tried keeps the rest from it.
func TestDeadLettersAreTriedAndDropped(t *testing.T) {
	r := start(t)
	w := r.inTrouble()
	v := r.signIn()
	var ids []string
	for n := range 60 { // more than a page
		ids = append(ids, r.bury(fmt.Sprint("letter ", n), msgbus.BadVersion, "ver is 9"))
	}
	left := func(what string, n int64) {
		t.Helper()
		wantEqual(t, "dead letters after "+what, r.rdb.XLen(t.Context(), "msgbus.system.dead").Val(), n)
	}
	left("nothing", 62)
	v.wantDone(v.press("/dead/retry", "id", ids[0]), "1 of 1 dead letters were put back.")
	wantEqual(t, "the queue", r.list("msgbus.system.local"), "[letter 0]")
	left("a try", 61)
	v.want(v.press("/dead/retry", "id", ids[0]), http.StatusNotFound)

	v.wantDone(v.press("/dead/retry", "which", "ticked", "id", ids[3], "id", ids[2], "id", ids[1], "id", ids[0]), "3 of 4 dead letters were put back.")
	wantEqual(t, "the queue: the oldest first", r.list("msgbus.system.local"), "[letter 0 letter 1 letter 2 letter 3]")
	v.wantDone(v.press("/dead/drop", "which", "ticked", "id", ids[4], "id", ids[0], "id", ids[5]), "2 of 3 dead letters were dropped.")
	left("a drop", 56)

	v.want(v.press("/dead/retry", "id", w.ofLane), http.StatusConflict, "came from no list")
	v.wantDone(v.press("/dead/drop", "which", "all", "reason", "bad_version"), "54 of 54 dead letters were dropped.")
	left("a drop of all of a reason", 2)
	v.wantDone(v.press("/dead/retry", "which", "all"), "1 of 2 dead letters were put back.")
	left("a try of all", 1)
	v.wantDone(v.press("/dead/drop", "which", "all", "reason", ""), "1 of 1 dead letters were dropped.")
	left("a drop of all", 0)
	v.want(v.press("/dead/drop", "which", "all"), http.StatusBadRequest, "No dead letter")
}

// The list that an answer was for is no list any more: the other dead letters of the
// same form are tried all the same, and Redis is not said to be away.
func TestDeadLetterForWhatIsNoListKeepsNoOtherBack(t *testing.T) {
	r := start(t)
	v := r.signIn()
	uid := r.admit(1002, "x")
	r.must(r.rdb.Set(t.Context(), "app.ret", "text", 0).Err())
	entry, err := r.store.Entry(t.Context(), uid)
	r.must(err)
	other := r.bury("other", msgbus.Malformed, "no JSON")
	_, err = r.store.Answer(t.Context(), nil, []msgbus.Answer{{Entry: entry, Position: -1, Body: []byte("the answer")}})
	r.must(err)
	letters, _, err := r.store.DeadLetters(t.Context(), "", "", 1, 0)
	r.must(err)
	v.want(v.press("/dead/retry", "id", letters[0].ID), http.StatusConflict, "app.ret is not a list")
	v.wantDone(v.press("/dead/retry", "id", letters[0].ID, "id", other), "1 of 2 dead letters were put back.")
	wantEqual(t, "the queue", r.list("msgbus.system.local"), "[other]")
}

// A link in a mail leads to the real console, which says in green what the mail wants
// the operator to believe.
func TestLinkFromElsewhereCannotSayWhatWasDone(t *testing.T) {
	r := start(t)
	v := r.signIn()
	for _, query := range []string{"?done=All+is+lost", "?done=All+is+lost&done=x", "?error=All+is+lost", "?hint=All+is+lost"} {
		for _, path := range []string{"/", "/lanes", "/dead", "/trace", "/login", "/lanes/0"} {
			for _, who := range []*visitor{v, r.visit()} {
				a := who.get(path + query)
				who.wantNone(a, "All is lost", `role="status"`)
			}
		}
	}
	// What one has done is said to him, and to nobody else.
	other := r.signIn()
	v.want(v.press("/lanes/1002/pause"), http.StatusSeeOther)
	other.wantNone(other.get("/lanes/1002"), `role="status"`)
	v.want(v.get("/lanes/1002?x="+url.QueryEscape("y")), http.StatusOK, `role="status"`)
}
