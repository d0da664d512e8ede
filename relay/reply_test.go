package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/relay"
)

// asked has several twins' requests with one uid open on relay 1002.
func asked(t *testing.T, w *wire, settings ...setting) *site {
	t.Helper()
	w.to(1001, accepting)
	w.to(1003, accepting)
	return run(t, w, 1002, settings...)
}

// take accepts a request of a twin and gives it to the service.
func take(t *testing.T, b *site, source uint32, uid string) map[string]any {
	t.Helper()
	m := incoming(uid, "x")
	m.Source, m.Signature = source, fmt.Sprintf("65%0128d", source)
	if err := b.relay.AcceptRequest(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return b.service("x")
}

// Twins number their requests each for itself, so a uid alone tells nothing.
func TestReplyGoesToTheTwinThatItNames(t *testing.T) {
	t.Parallel()
	w := newWire()
	b := asked(t, w)
	first, second := take(t, b, 1001, "1002.5"), take(t, b, 1003, "1002.5")
	b.reply(second, map[string]any{"dat": "Mw==", "sig": "stale", "epoch": nil})
	b.reply(first, map[string]any{"dat": "MQ==", "epoch": nil})
	expect(t, "to 1003", parse(t, w.awaitSendings(t, 1003, 1)[0].message), map[string]any{"uid": "1002.5", "dst": []int{1003}, "dat": "Mw==", "sig": nil, "epoch": epochOf1001})
	expect(t, "to 1001", parse(t, w.awaitSendings(t, 1001, 1)[0].message), map[string]any{"uid": "1002.5", "dst": []int{1001}, "dat": "MQ==", "src": 1002, "ret": "msgbus.system.reply"})
}

// An old service addresses its errors to itself. With one request open it is
// clear whose error that is.
func TestErrorThatAServiceAddressesToItselfIsMatchedByUID(t *testing.T) {
	t.Parallel()
	w := newWire()
	b := asked(t, w)
	b.reply(take(t, b, 1003, "1002.5"), map[string]any{"dst": []int{1002}, "err": "cannot", "epoch": nil})
	expect(t, "to 1003", parse(t, w.awaitSendings(t, 1003, 1)[0].message), map[string]any{"uid": "1002.5", "dst": []int{1003}, "err": "cannot"})
}

// With two open nobody can tell, and a guess would answer a stranger's request.
func TestErrorThatFitsTwoRequestsIsADeadLetter(t *testing.T) {
	t.Parallel()
	w := newWire()
	b := asked(t, w)
	first, second := take(t, b, 1001, "1002.5"), take(t, b, 1003, "1002.5")
	b.reply(first, map[string]any{"dst": []int{1002}, "err": "cannot", "epoch": nil})
	eventually(t, "the error is a dead letter", func() bool { return len(b.letters()) == 1 })
	expect(t, "the dead letter", b.letters()[0], map[string]any{"reason": "ambiguous", "queue": "reply"})
	// Both are still open, and answered by what names them.
	b.reply(first, nil)
	b.reply(second, nil)
	w.awaitSendings(t, 1001, 1)
	w.awaitSendings(t, 1003, 1)
}

// This twin's own request with the same uid is one of the two.
func TestErrorOfAnotherTwinsRequestIsNotTakenForTheOwnTwins(t *testing.T) {
	t.Parallel()
	w := newWire()
	b := asked(t, w)
	theirs := take(t, b, 1001, "1002.1")
	b.request(ask("x", "app.1", 1002))
	ours := b.service("x")
	expect(t, "the own request", ours, map[string]any{"uid": "1002.1", "src": 1002})
	b.reply(theirs, map[string]any{"dst": []int{1002}, "err": "cannot", "epoch": nil})
	eventually(t, "the error is a dead letter", func() bool { return len(b.letters()) == 1 })
	if n := b.length("app.1"); n != 0 {
		t.Error("the own request was answered with another twin's error")
	}
	b.reply(ours, map[string]any{"dat": "Mw==", "epoch": nil})
	expect(t, "the app got", b.pop("app.1"), map[string]any{"dat": "Mw==", "err": ""})
}

// The record of a request may be lost with Redis. Its reply still says where it
// belongs.
func TestReplyWithoutARecordGoesWhereItSays(t *testing.T) {
	t.Parallel()
	w := newWire()
	b := asked(t, w)
	req := take(t, b, 1001, "1002.5")
	b.rdb.Del(t.Context(), "msgbus.system.open")
	b.reply(req, map[string]any{"dat": "Mw=="})
	expect(t, "to 1001", parse(t, w.awaitSendings(t, 1001, 1)[0].message), map[string]any{"uid": "1002.5", "dat": "Mw==", "epoch": epochOf1001})
}

// What no relay would carry must not become silence: the app would wait for its
// deadline.
func TestReplyThatCannotTravelBecomesOneThatCan(t *testing.T) {
	t.Parallel()
	w := newWire()
	b := asked(t, w, withRelay(func(o *relay.Options) { o.MaxMessage = 2000 }))
	for i, c := range []struct {
		name    string
		changes map[string]any
		want    map[string]any
	}{
		{"data that is not base64", map[string]any{"dat": "plain text!"}, map[string]any{"dat": "cGxhaW4gdGV4dCE=", "err": ""}},
		{"base64 on two lines, unpadded", map[string]any{"dat": "TW\nc"}, map[string]any{"dat": "TWc=", "err": ""}},
		{"too large", map[string]any{"dat": strings.Repeat("AAAA", 600)}, map[string]any{"dat": "", "err": "the service's answer is too large"}},
		{"a stale error is an error", map[string]any{"err": "failed"}, map[string]any{"err": "failed"}},
		{"an error as an object", map[string]any{"err": map[string]any{"code": 1, "message": "failed"}}, map[string]any{"err": "failed"}},
		{"another command and version", map[string]any{"cmd": "y", "ver": 9}, map[string]any{"cmd": "x", "ver": 1}},
		{"another's source", map[string]any{"src": 77, "pxy": true, "ret": "victim"}, map[string]any{"src": 1002, "pxy": false, "ret": "msgbus.system.reply"}},
	} {
		uid := fmt.Sprintf("1002.%d", i+1)
		m := incoming(uid, "x")
		m.Error = "stale" // services echo what they do not know
		if err := b.relay.AcceptRequest(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		b.reply(b.service("x"), c.changes)
		expect(t, c.name, parse(t, w.awaitSendings(t, 1001, i+1)[i].message), with(c.want, map[string]any{"uid": uid}))
	}
}

// A reply that nobody can place is kept where an operator finds it, and those
// behind it go on.
func TestReplyThatIsNoMessageIsADeadLetter(t *testing.T) {
	t.Parallel()
	w := newWire()
	b := asked(t, w)
	req := take(t, b, 1001, "1002.5")
	for i, raw := range []string{"ping", `{"ver":1,"dat":"Mw=="}`, `{"uid":"1002.5","dst":{}}`} {
		b.push("msgbus.system.reply", raw)
		eventually(t, raw+" is a dead letter", func() bool { return len(b.letters()) == i+1 })
		expect(t, raw, b.letters()[i], map[string]any{"reason": "malformed", "queue": "reply", "message": raw})
	}
	b.push("msgbus.system.reply", `{"uid":"never.was","dst":[1002]}`) // late: dropped
	b.reply(req, nil)
	w.awaitSendings(t, 1001, 1)
	if n := len(b.letters()); n != 3 {
		t.Errorf("%d dead letters, want 3: a late reply is none", n)
	}
}

// A reply must not answer a request of this relay's own that went elsewhere.
func TestServiceCannotAnswerWhatAnotherTwinWasAsked(t *testing.T) {
	t.Parallel()
	w := newWire()
	b := asked(t, w)
	b.request(ask("x", "app.1", 1003))
	uid := w.awaitSendings(t, 1003, 1)[0].uid
	b.push("msgbus.system.reply", map[string]any{"ver": 1, "uid": uid, "dst": []int{1002}, "dat": "Mw=="})
	eventually(t, "it is a dead letter", func() bool { return len(b.letters()) == 1 })
	expect(t, "the dead letter", b.letters()[0], map[string]any{"reason": "wrong_source"})
	if n := b.length("app.1"); n != 0 {
		t.Error("it reached the app")
	}
}

// A request that was answered a moment ago, in the same claim, is no longer open:
// what comes behind can only be meant for the other.
func TestReplyInTheSameClaimCountsForTheNext(t *testing.T) {
	t.Parallel()
	w := newWire()
	b := asked(t, w)
	first, second := take(t, b, 1001, "1002.5"), take(t, b, 1003, "1002.5")
	b.stop()
	b.reply(first, map[string]any{"dat": "MQ==", "epoch": nil})
	b.reply(second, map[string]any{"dst": []int{1002}, "err": "cannot", "epoch": nil})
	b.start()
	expect(t, "to 1001", parse(t, w.awaitSendings(t, 1001, 1)[0].message), map[string]any{"dat": "MQ==", "err": ""})
	expect(t, "to 1003", parse(t, w.awaitSendings(t, 1003, 1)[0].message), map[string]any{"err": "cannot"})
}
