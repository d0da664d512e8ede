package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// deliver posts a message and wants it accepted.
func (s *site) deliver(path string, m message) {
	s.t.Helper()
	if status, answer := post(s.t, s.url(path), m.String()); status != http.StatusOK || answer.text("status") != "accepted" {
		s.t.Errorf("%s of %s: %d %s", path, m, status, answer)
	}
}

// wantRefused posts a message and wants it refused.
func (s *site) wantRefused(path string, m message, reason string) {
	s.t.Helper()
	status, answer := post(s.t, s.url(path), m.String())
	if status != http.StatusBadRequest || answer.text("Reason") != reason || answer.text("Message") == "" {
		s.t.Errorf("%s of %s: %d %s, want 400 %s", path, m, status, answer, reason)
	}
}

// ours are the keys that a relay may write by itself.
var ours = regexp.MustCompile(`^msgbus\.system\.(local|remote|reply|backlog|sessions|instances|epoch|deadlines|stats|dead|lanes|replies|open|commands|served` +
	`|replies\.deadlines|open\.deadlines|claim\..*|lane\.[0-9].*|seen\.[0-9].*|signatures\.[0-9]+|result\..*|twin\.[0-9]+)$|^msgbus\.counter\.[0-9]+$`)

// passing are keys that go when their messages have gone on.
var passing = regexp.MustCompile(`^msgbus\.system\.(lanes|lane\.|claim\.|reply$|local$|remote$)`)

// contents is what Redis holds, as text, without what changes by itself.
func (s *site) contents() map[string]string {
	s.t.Helper()
	ctx := s.t.Context()
	all := make(map[string]string)
	for _, key := range s.rdb.Keys(ctx, "*").Val() {
		kind := s.rdb.Type(ctx, key).Val()
		switch {
		case kind == "list":
			all[key] = fmt.Sprint(s.rdb.LRange(ctx, key, 0, -1).Val())
		case kind == "string" && !strings.HasPrefix(key, "msgbus.system.twin."): // those are looked up anew
			all[key] = s.rdb.Get(ctx, key).Val()
		default:
			all[key] = kind
		}
	}
	return all
}

// Every twin of the network is a stranger. None may write, read or block what
// is not its own: each line here was open in the archived daemon.
func TestStrangersCannotReachWhatIsNotTheirs(t *testing.T) {
	t.Parallel()
	f, a, b := pair(t)
	x := newForeign(t, f, 1003)
	b.echo()
	a.wantAnswer(b.id)
	victim := b.serveMessages("victim", func(message) message { return nil })
	asked := request("victim", "x", b.id).with("ret", "app-waits-here")
	a.push(asked)
	uid := victim.next(t).text("uid")
	ctx := t.Context()
	a.rdb.RPush(ctx, "private-list", "mine")
	before := a.contents()

	// Commands that name keys of the relay: an error to the stranger, no more.
	reserved := []string{"system.local", "system.remote", "system.reply", "system.backlog", "system.dead", "system.sessions", "counter.1002", "counter", "system", "counter.x"}
	for i, cmd := range reserved {
		a.deliver("/zbus-remote", x.sign(x.wire(cmd, "x", a.id, i+1)))
		if reply := x.reply(a); !strings.Contains(reply.text("err"), "reserved") {
			t.Errorf("cmd %s: the reply is %s", cmd, reply)
		}
	}
	request := x.wire("echo", "x", a.id, 100)
	for _, c := range []struct {
		key    string
		v      any
		reason string
	}{
		{"ret", "private-list", "reserved_name"},
		{"ret", "msgbus.system.local", "reserved_name"},
		{"ret", "", "reserved_name"},
		{"ret", uuid.NewString(), "reserved_name"},
		{"pxy", true, "malformed"},
		{"dst", []uint32{1002}, "wrong_destination"},
		{"dst", []uint32{1001, 1002}, "wrong_destination"},
		{"dst", nil, "wrong_destination"},
		{"src", 0, "wrong_source"},
		{"src", 1001, "wrong_source"},
		{"uid", "1002.1", "malformed"},
		{"uid", "1001.01", "malformed"},
		{"uid", "1001.1e3", "malformed"},
		{"uid", "1001.9007199254740993", "malformed"},
		{"uid", "", "malformed"},
		{"cmd", "a b", "bad_command"},
		{"cmd", "a:b", "bad_command"},
		{"cmd", "../system.local", "bad_command"},
		{"cmd", strings.Repeat("a", 300), "bad_command"},
		{"dat", "not base64!", "malformed"},
		{"dat", "YQ==\n", "malformed"},
		{"epoch", "not hex", "malformed"},
	} {
		a.wantRefused("/zbus-remote", x.sign(request.with(c.key, c.v)), c.reason)
	}
	a.wantRefused("/zbus-remote", request, "bad_signature")
	a.wantRefused("/zbus-remote", x.sign(request).with("src", 1002), "bad_signature") // as another twin

	// Replies: from a twin that was not asked, to a request that is another's.
	reply := x.wire("victim", "forged", a.id, 1).with("uid", uid)
	a.wantRefused("/zbus-reply", x.sign(reply), "wrong_source")
	a.wantRefused("/zbus-reply", x.sign(reply.with("pxy", true)), "wrong_source")
	a.wantRefused("/zbus-reply", x.sign(reply.with("uid", "1003.1").with("pxy", true)), "malformed")
	a.wantRefused("/zbus-reply", x.sign(reply.with("uid", "1003.1").with("ret", "private-list")), "reserved_name")
	a.wantRefused("/zbus-reply", x.sign(reply).with("src", 1002), "bad_signature")
	a.deliver("/zbus-reply", x.sign(reply.with("uid", "1003.1"))) // of no request: dropped

	// What one relay was given is no message for another one.
	mine := x.sign(x.wire("echo", "x", b.id, 500))
	b.deliver("/zbus-remote", mine)
	x.reply(b)
	a.wantRefused("/zbus-remote", mine, "wrong_destination")
	b.wantRefused("/zbus-reply", mine, "wrong_source")

	a.daemon.awaitReady()
	after := a.contents()
	for key, value := range after {
		if old, there := before[key]; !there && !ours.MatchString(key) || there && old != value {
			t.Errorf("key %s held %q and now holds %q", key, old, value)
		}
	}
	for key := range before {
		if _, there := after[key]; !there && !passing.MatchString(key) {
			t.Errorf("key %s is gone", key)
		}
	}
	if n := a.length("app-waits-here"); n != 0 {
		t.Errorf("%d forged replies reach the app", n)
	}
	a.wantAnswer(b.id)
	b.pushRaw("reply", parse(t, victim.asked[0].String()).with("src", 1002).with("dst", []uint32{1001}).with("dat", encode("genuine")).String())
	if got := a.pop("app-waits-here"); got.data() != "genuine" {
		t.Errorf("the app gets %s", got)
	}
	if got := slices.Sorted(maps.Keys(victim.times())); len(got) != 1 {
		t.Errorf("the service is asked for %q", got)
	}
}
