package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
)

// refRequest is what an app of the newer dialect sends (WIRE section 6).
func refRequest(cmd, data string, dst ...uint32) message {
	return message{
		"ver": 1, "ref": "", "cmd": cmd, "exp": 60, "dat": encode(data), "dst": dst, "con": nil,
		"ret": uuid.NewString(), "shm": "application/json", "now": 0,
	}
}

// serveRef starts a service of the newer dialect: it knows the request by ref,
// and answers without uid, cmd and src.
func (s *site) serveRef(cmd string) *service {
	return s.serveMessages(cmd, func(m message) message {
		reply := message{
			"ver": 1, "ref": m["ref"], "dat": m["dat"], "dst": m["src"], "shm": "application/json", "now": time.Now().Unix(),
		}
		if m.data() == "fail" {
			reply["dat"], reply["err"] = "", message{"code": 255, "message": "it failed"}
		}
		return reply
	})
}

// An app of either dialect asks a service of either dialect: its library drops a
// reply of another form, and waits for ever.
func TestAppsOfBothDialectsAreAnsweredInTheirOwn(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001), f.site(1002)
	for _, s := range []*site{a, b} {
		s.launch("--ref-services", "newer.*", "--ref-services", "other-newer")
	}
	for _, s := range []*site{a, b} {
		s.daemon.awaitReady()
		s.serve("classic.echo", func(m message) (string, error) {
			if m.data() == "fail" {
				return "", errors.New("it failed")
			}
			return m.data(), nil
		})
		s.serveRef("newer.echo")
	}
	for _, cmd := range []string{"classic.echo", "newer.echo"} {
		for _, dst := range []uint32{b.id, a.id} { // another twin, and the own one
			t.Run(fmt.Sprintf("%s of %d", cmd, dst), func(t *testing.T) {
				m := refRequest(cmd, `{"n":1}`, dst)
				wantRefReply(t, a.call(m), m, dst, `{"n":1}`, "")
				m = refRequest(cmd, "fail", dst).with("ref", "my-own-name")
				wantRefReply(t, a.call(m), m, dst, "", "it failed")

				m = request(cmd, `{"n":1}`, dst)
				wantClassicReply(t, a.call(m), m, dst, `{"n":1}`, "")
				m = request(cmd, "fail", dst)
				wantClassicReply(t, a.call(m), m, dst, "", "it failed")
			})
		}
	}

	// Errors of the bus have the same forms.
	m := refRequest("newer.echo", "x", 4711).with("ref", "r")
	reply := a.call(m)
	wantRefReply(t, reply, m, 4711, "x", "destination not found")
	m = refRequest("", "x", b.id)
	wantRefReply(t, a.call(m), m, a.id, "x", "received invalid message: missing command request")
	m = refRequest("nobody.serves.this", "x", b.id).with("exp", 1)
	wantRefReply(t, a.call(m), m, b.id, "x", "request timeout (expiration reached, 1)")
}

// One published client of the family sends an absolute time as exp; all send
// dst in one of three forms.
func TestSpellingsOfTheNewerDialectAreUnderstood(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	for _, dst := range []any{[]int{1002}, 1002, "1002", "1002:session", []string{"1002"}} {
		m := refRequest("echo", "x").with("dst", dst)
		wantRefReply(t, a.call(m), m, b.id, "x", "")
	}
	m := refRequest("echo", "x", b.id).with("exp", time.Now().Unix()+60)
	wantRefReply(t, a.call(m), m, b.id, "x", "")
	// Without ref, uid, src and try it is of the newer dialect too.
	m = refRequest("echo", "x", b.id).without("ref", "con")
	wantRefReply(t, a.call(m), m, b.id, "x", "")
	// With line breaks between the members, as Python's json.dumps(indent) writes.
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	a.pushRaw("local", string(text))
	wantRefReply(t, a.pop(m.text("ret")), m, b.id, "x", "")
}

// A service of the newer dialect gets what its library can decode, and nothing
// that it cannot.
func TestServiceOfTheNewerDialectGetsItsForm(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001), f.site(1002)
	a.start()
	b.start("--ref-services", "newer")
	asked := b.serveRef("newer")
	m := request("newer", "x", b.id)
	a.call(m)
	got := asked.next(t)
	if got["src"] != "1001" || got.text("ref") == "" || got.text("ret") != "msgbus.system.reply" || got.text("cmd") != "newer" ||
		got.data() != "x" || got.text("ver") != "1" || got["exp"] == nil || got["now"] == nil {
		t.Errorf("the service gets %s", got)
	}
	for _, key := range []string{"uid", "dst", "try", "err", "sig", "epoch", "pxy"} {
		if _, there := got[key]; there {
			t.Errorf("the service gets %s: %s", key, got)
		}
	}
}

// wantRefReply wants the form of WIRE section 6: src a text, err absent or an
// object.
func wantRefReply(t testing.TB, reply, asked message, src uint32, data, failure string) {
	t.Helper()
	if reply["src"] != fmt.Sprint(src) || reply.text("ref") != asked.text("ref") || reply.text("ver") != "1" ||
		reply.text("shm") != "application/json" || reply.text("now") == "" || reply.text("now") == "0" {
		t.Errorf("the reply is %s", reply)
	}
	for _, key := range []string{"uid", "cmd", "try", "sig", "epoch", "pxy", "msgbusd"} {
		if _, there := reply[key]; there {
			t.Errorf("the reply has %s: %s", key, reply)
		}
	}
	if got := reply.data(); got != data {
		t.Errorf("the reply says %q, want %q", got, data)
	}
	err, there := reply["err"]
	if failure == "" {
		if there {
			t.Errorf("the reply has err: %s", reply)
		}
		return
	}
	object, _ := err.(map[string]any)
	if object == nil || fmt.Sprint(object["code"]) != "255" || object["message"] != failure {
		t.Errorf("err is %v, want code 255 and %q", err, failure)
	}
}

// wantClassicReply wants the specification's form: src a number, dst a list, err
// a text, and every one of its keys.
func wantClassicReply(t testing.TB, reply, asked message, src uint32, data, failure string) {
	t.Helper()
	number, isNumber := reply["src"].(json.Number)
	if !isNumber || number.String() != fmt.Sprint(src) || fmt.Sprint(reply["dst"]) != "[1001]" || reply.data() != data {
		t.Errorf("the reply is %s", reply)
	}
	if err, isText := reply["err"].(string); !isText || err != failure {
		t.Errorf("err is %v, want %q", reply["err"], failure)
	}
	for _, key := range []string{"ver", "uid", "cmd", "exp", "try", "dat", "ret", "shm", "now", "pxy"} {
		if _, there := reply[key]; !there {
			t.Errorf("the reply lacks %s: %s", key, reply)
		}
	}
	for _, key := range []string{"cmd", "ret", "exp", "try"} {
		if reply.text(key) != asked.text(key) {
			t.Errorf("%s is %s, the request said %s", key, reply.text(key), asked.text(key))
		}
	}
	for _, key := range []string{"sig", "epoch", "msgbusd"} {
		if _, there := reply[key]; there {
			t.Errorf("the app gets %s, which is between relays: %s", key, reply)
		}
	}
}

// Two programs of one machine talk through their relay: without HTTP, and with
// all else.
func TestMessagesToTheOwnTwin(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a := f.site(1001)
	a.without("--allow-network") // nothing is dialled
	a.start("--expose", "nothing")
	asked := a.echo()
	m := request("echo", "to myself", a.id)
	reply := a.call(m)
	wantClassicReply(t, reply, m, a.id, "to myself", "")
	got := asked.next(t)
	if got.text("src") != "1001" || got.text("ret") != "msgbus.system.reply" || fmt.Sprint(got["dst"]) != "[1001]" {
		t.Errorf("the service gets %s", got)
	}
	wantErrorText(t, a.call(request("nobody", "x", a.id).with("exp", 1)), "request timeout (expiration reached, 1)")
	a.serve("fails", func(message) (string, error) { return "", errors.New("it failed") })
	wantErrorText(t, a.call(request("fails", "x", a.id)), "it failed")
	a.awaitQuiet()
}

// One old service sets src and dst both to itself on an error. The relay knows
// by the uid who asked.
func TestReplyAddressedToItsOwnTwinFindsItsWay(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.serveMessages("old", func(m message) message {
		return m.with("src", b.id).with("dst", []uint32{b.id}).with("err", "it failed").with("dat", "")
	})
	wantErrorText(t, a.call(request("old", "x", b.id)), "it failed")
}

// A new field between two programs must survive two relays, and carry no rights.
func TestUnknownKeysAreKept(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	asked := b.echo()
	m := request("echo", "x", b.id).with("trace", map[string]any{"id": "abc", "deep": []int{1, 2}})
	reply := a.call(m)
	const want = `{"deep":[1,2],"id":"abc"}`
	for who, got := range map[string]message{"service": asked.next(t), "app": reply} {
		if text, _ := json.Marshal(got["trace"]); string(text) != want {
			t.Errorf("the %s gets trace as %s", who, text)
		}
	}
}
