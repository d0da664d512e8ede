package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// refRequest is what an app of the newer dialect sends (WIRE section 6).
func refRequest(cmd, data string, dst ...uint32) fleettest.Message {
	return fleettest.Message{
		"ver": 1, "ref": "", "cmd": cmd, "exp": 60, "dat": fleettest.Encode(data), "dst": dst, "con": nil,
		"ret": uuid.NewString(), "shm": "application/json", "now": 0,
	}
}

// serveRef starts a service of the newer dialect: it knows the request by ref,
// and answers without uid, cmd and src.
func serveRef(s *fleettest.Site, cmd string) *fleettest.Service {
	return s.ServeMessages(cmd, func(m fleettest.Message) fleettest.Message {
		reply := fleettest.Message{
			"ver": 1, "ref": m["ref"], "dat": m["dat"], "dst": m["src"], "shm": "application/json", "now": time.Now().Unix(),
		}
		if m.Data() == "fail" {
			reply["dat"], reply["err"] = "", fleettest.Message{"code": 255, "message": "it failed"}
		}
		return reply
	})
}

// An app of either dialect asks a service of either dialect: its library drops a
// reply of another form, and waits for ever.
func TestAppsOfBothDialectsAreAnsweredInTheirOwn(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	for _, s := range []*fleettest.Site{a, b} {
		s.Launch("--ref-services", "newer.*", "--ref-services", "other-newer")
	}
	for _, s := range []*fleettest.Site{a, b} {
		s.Daemon.AwaitReady()
		s.Serve("classic.echo", func(m fleettest.Message) (string, error) {
			if m.Data() == "fail" {
				return "", errors.New("it failed")
			}
			return m.Data(), nil
		})
		serveRef(s, "newer.echo")
	}
	for _, cmd := range []string{"classic.echo", "newer.echo"} {
		for _, dst := range []uint32{b.ID, a.ID} { // another twin, and the own one
			t.Run(fmt.Sprintf("%s of %d", cmd, dst), func(t *testing.T) {
				m := refRequest(cmd, `{"n":1}`, dst)
				wantRefReply(t, a.Call(m), m, dst, `{"n":1}`, "")
				m = refRequest(cmd, "fail", dst).With("ref", "my-own-name")
				wantRefReply(t, a.Call(m), m, dst, "", "it failed")

				m = fleettest.Request(cmd, `{"n":1}`, dst)
				wantClassicReply(t, a.Call(m), m, dst, `{"n":1}`, "")
				m = fleettest.Request(cmd, "fail", dst)
				wantClassicReply(t, a.Call(m), m, dst, "", "it failed")
			})
		}
	}

	// Errors of the bus have the same forms.
	m := refRequest("newer.echo", "x", 4711).With("ref", "r")
	reply := a.Call(m)
	wantRefReply(t, reply, m, 4711, "x", "destination not found")
	m = refRequest("", "x", b.ID)
	wantRefReply(t, a.Call(m), m, a.ID, "x", "received invalid message: missing command request")
	m = refRequest("nobody.serves.this", "x", b.ID).With("exp", 1)
	wantRefReply(t, a.Call(m), m, b.ID, "x", "request timeout (expiration reached, 1)")
}

// One published client of the family sends an absolute time as exp; all send
// dst in one of three forms.
func TestSpellingsOfTheNewerDialectAreUnderstood(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	for _, dst := range []any{[]int{1002}, 1002, "1002", "1002:session", []string{"1002"}} {
		m := refRequest("echo", "x").With("dst", dst)
		wantRefReply(t, a.Call(m), m, b.ID, "x", "")
	}
	m := refRequest("echo", "x", b.ID).With("exp", time.Now().Unix()+60)
	wantRefReply(t, a.Call(m), m, b.ID, "x", "")
	// Without ref, uid, src and try it is of the newer dialect too.
	m = refRequest("echo", "x", b.ID).Without("ref", "con")
	wantRefReply(t, a.Call(m), m, b.ID, "x", "")
	// With line breaks between the members, as Python's json.dumps(indent) writes.
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	a.PushRaw("local", string(text))
	wantRefReply(t, a.Pop(m.Text("ret")), m, b.ID, "x", "")
}

// A service of the newer dialect gets what its library can decode, and nothing
// that it cannot.
func TestServiceOfTheNewerDialectGetsItsForm(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	a.Start()
	b.Start("--ref-services", "newer")
	asked := serveRef(b, "newer")
	m := fleettest.Request("newer", "x", b.ID)
	a.Call(m)
	got := asked.Next(t)
	if got["src"] != "1001" || got.Text("ref") == "" || got.Text("ret") != "msgbus.system.reply" || got.Text("cmd") != "newer" ||
		got.Data() != "x" || got.Text("ver") != "1" || got["exp"] == nil || got["now"] == nil {
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
func wantRefReply(t testing.TB, reply, asked fleettest.Message, src uint32, data, failure string) {
	t.Helper()
	if reply["src"] != fmt.Sprint(src) || reply.Text("ref") != asked.Text("ref") || reply.Text("ver") != "1" ||
		reply.Text("shm") != "application/json" || reply.Text("now") == "" || reply.Text("now") == "0" {
		t.Errorf("the reply is %s", reply)
	}
	for _, key := range []string{"uid", "cmd", "try", "sig", "epoch", "pxy", "msgbusd"} {
		if _, there := reply[key]; there {
			t.Errorf("the reply has %s: %s", key, reply)
		}
	}
	if got := reply.Data(); got != data {
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
func wantClassicReply(t testing.TB, reply, asked fleettest.Message, src uint32, data, failure string) {
	t.Helper()
	number, isNumber := reply["src"].(json.Number)
	if !isNumber || number.String() != fmt.Sprint(src) || fmt.Sprint(reply["dst"]) != "[1001]" || reply.Data() != data {
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
		if got := reply.Text(key); got != asked.Text(key) && !(key == "exp" && aSecondLess(got, asked.Text(key))) {
			t.Errorf("%s is %s, the request said %s", key, reply.Text(key), asked.Text(key))
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
	f := fleettest.New(t)
	a := f.Site(1001)
	a.Without("--allow-network") // nothing is dialled
	a.Start("--expose", "nothing")
	asked := a.Echo()
	m := fleettest.Request("echo", "to myself", a.ID)
	reply := a.Call(m)
	wantClassicReply(t, reply, m, a.ID, "to myself", "")
	got := asked.Next(t)
	if got.Text("src") != "1001" || got.Text("ret") != "msgbus.system.reply" || fmt.Sprint(got["dst"]) != "[1001]" {
		t.Errorf("the service gets %s", got)
	}
	fleettest.WantErrorText(t, a.Call(fleettest.Request("nobody", "x", a.ID).With("exp", 1)), "request timeout (expiration reached, 1)")
	a.Serve("fails", func(fleettest.Message) (string, error) { return "", errors.New("it failed") })
	fleettest.WantErrorText(t, a.Call(fleettest.Request("fails", "x", a.ID)), "it failed")
	a.AwaitQuiet()
}

// One old service sets src and dst both to itself on an error. The relay knows
// by the uid who asked.
func TestReplyAddressedToItsOwnTwinFindsItsWay(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.ServeMessages("old", func(m fleettest.Message) fleettest.Message {
		return m.With("src", b.ID).With("dst", []uint32{b.ID}).With("err", "it failed").With("dat", "")
	})
	fleettest.WantErrorText(t, a.Call(fleettest.Request("old", "x", b.ID)), "it failed")
}

// A new field between two programs must survive two relays, and carry no rights.
func TestUnknownKeysAreKept(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	asked := b.Echo()
	m := fleettest.Request("echo", "x", b.ID).With("trace", map[string]any{"id": "abc", "deep": []int{1, 2}})
	reply := a.Call(m)
	const want = `{"deep":[1,2],"id":"abc"}`
	for who, got := range map[string]fleettest.Message{"service": asked.Next(t), "app": reply} {
		if text, _ := json.Marshal(got["trace"]); string(text) != want {
			t.Errorf("the %s gets trace as %s", who, text)
		}
	}
}

// aSecondLess tells of a life that a second has passed of on the way.
func aSecondLess(got, asked string) bool {
	a, err := strconv.Atoi(asked)
	return err == nil && got == strconv.Itoa(a-1)
}
