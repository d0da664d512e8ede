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
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// deliver posts a message and wants it accepted.
func deliver(s *fleettest.Site, path string, m fleettest.Message) {
	s.T.Helper()
	if status, answer := fleettest.Post(s.T, s.URL(path), m.String()); status != http.StatusOK || answer.Text("status") != "accepted" {
		s.T.Errorf("%s of %s: %d %s", path, m, status, answer)
	}
}

// wantRefused posts a message and wants it refused.
func wantRefused(s *fleettest.Site, path string, m fleettest.Message, reason string) {
	s.T.Helper()
	status, answer := fleettest.Post(s.T, s.URL(path), m.String())
	if status != http.StatusBadRequest || answer.Text("Reason") != reason || answer.Text("Message") == "" {
		s.T.Errorf("%s of %s: %d %s, want 400 %s", path, m, status, answer, reason)
	}
}

// ours are the keys that a relay may write by itself.
var ours = regexp.MustCompile(`^msgbus\.system\.(local|remote|reply|backlog|sessions|instances|epoch|deadlines|stats|dead|lanes|replies|open|commands|served` +
	`|replies\.deadlines|open\.deadlines|claim\..*|lane\.[0-9].*|seen\.[0-9].*|signatures\.[0-9]+|result\..*|twin\.[0-9]+)$|^msgbus\.counter\.[0-9]+$`)

// passing are keys that go when their messages have gone on.
var passing = regexp.MustCompile(`^msgbus\.system\.(lanes|lane\.|claim\.|reply$|local$|remote$)`)

// contents is what Redis holds, as text, without what changes by itself.
func contents(s *fleettest.Site) map[string]string {
	s.T.Helper()
	ctx := s.T.Context()
	all := make(map[string]string)
	for _, key := range s.RDB.Keys(ctx, "*").Val() {
		kind := s.RDB.Type(ctx, key).Val()
		switch {
		case kind == "list":
			all[key] = fmt.Sprint(s.RDB.LRange(ctx, key, 0, -1).Val())
		case kind == "string" && !strings.HasPrefix(key, "msgbus.system.twin."): // those are looked up anew
			all[key] = s.RDB.Get(ctx, key).Val()
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
	f, a, b := fleettest.Pair(t)
	x := newForeign(t, f, 1003)
	f.Stranger(1004, "")
	b.Echo()
	a.WantAnswer(b.ID)
	victim := b.ServeMessages("victim", func(fleettest.Message) fleettest.Message { return nil })
	asked := fleettest.Request("victim", "x", b.ID).With("ret", "app-waits-here")
	a.Push(asked)
	uid := victim.Next(t).Text("uid")
	ctx := t.Context()
	a.RDB.RPush(ctx, "private-list", "mine")
	before := contents(a)

	// Commands that name keys of the relay: an error to the stranger, no more.
	reserved := []string{"system.local", "system.remote", "system.reply", "system.backlog", "system.dead", "system.sessions", "counter.1002", "counter", "system", "counter.x"}
	for i, cmd := range reserved {
		deliver(a, "/zbus-remote", x.Sign(x.Wire(cmd, "x", a.ID, i+1)))
		if reply := x.reply(a); !strings.Contains(reply.Text("err"), "reserved") {
			t.Errorf("cmd %s: the reply is %s", cmd, reply)
		}
	}
	request := x.Wire("echo", "x", a.ID, 100)
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
		wantRefused(a, "/zbus-remote", x.Sign(request.With(c.key, c.v)), c.reason)
	}
	wantRefused(a, "/zbus-remote", request, "bad_signature")
	wantRefused(a, "/zbus-remote", x.Sign(request).With("src", 1004), "bad_signature") // as another twin

	// Replies: from a twin that was not asked, to a request that is another's.
	reply := x.Wire("victim", "forged", a.ID, 1).With("uid", uid)
	wantRefused(a, "/zbus-reply", x.Sign(reply), "wrong_source")
	wantRefused(a, "/zbus-reply", x.Sign(reply.With("pxy", true)), "wrong_source")
	wantRefused(a, "/zbus-reply", x.Sign(reply.With("uid", "1003.1").With("pxy", true)), "malformed")
	wantRefused(a, "/zbus-reply", x.Sign(reply.With("uid", "1003.1").With("ret", "private-list")), "reserved_name")
	wantRefused(a, "/zbus-reply", x.Sign(reply).With("src", 1002), "bad_signature")
	deliver(a, "/zbus-reply", x.Sign(reply.With("uid", "1003.1"))) // of no request: dropped

	// What one relay was given is no message for another one.
	mine := x.Sign(x.Wire("echo", "x", b.ID, 500))
	deliver(b, "/zbus-remote", mine)
	x.reply(b)
	wantRefused(a, "/zbus-remote", mine, "wrong_destination")
	wantRefused(b, "/zbus-reply", mine, "wrong_source")

	a.Daemon.AwaitReady()
	after := contents(a)
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
	if n := a.Length("app-waits-here"); n != 0 {
		t.Errorf("%d forged replies reach the app", n)
	}
	a.WantAnswer(b.ID)
	b.PushRaw("reply", fleettest.Parse(t, victim.Asked[0].String()).With("src", 1002).With("dst", []uint32{1001}).With("dat", fleettest.Encode("genuine")).String())
	if got := a.Pop("app-waits-here"); got.Data() != "genuine" {
		t.Errorf("the app gets %s", got)
	}
	if got := slices.Sorted(maps.Keys(victim.Times())); len(got) != 1 {
		t.Errorf("the service is asked for %q", got)
	}
}
