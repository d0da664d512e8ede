package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// send posts a command and returns its queue.
func (s *site) send(m message) string {
	s.t.Helper()
	status, answer := post(s.t, s.url("/zbus-cmd"), m.String())
	queue := answer.text("retqueue")
	if id, err := uuid.Parse(queue); status != http.StatusOK || err != nil || id.Version() != 4 {
		s.t.Fatalf("/zbus-cmd answers %d %s", status, answer)
	}
	return queue
}

// wantResult waits for the one result of a queue, and wants it to be signed.
func (s *site) wantResult(asker *person, queue, data, failure string) message {
	s.t.Helper()
	var list []message
	for len(list) == 0 {
		list = s.results(queue, "?wait=10s")
	}
	m := list[0]
	if len(list) != 1 || m.text("dat") != data || m.text("err") != failure {
		s.t.Errorf("the results are %s, want one that says %q, err %q", list, data, failure)
	}
	if err := s.signed(m); err != nil {
		s.t.Errorf("the signature of %s: %v", m, err)
	}
	if m.text("src") != fmt.Sprint(s.id) || fmt.Sprint(m["dst"]) != fmt.Sprintf("[%d]", asker.id) || m.text("ret") != queue {
		s.t.Errorf("the result is %s", m)
	}
	var now int64
	if _, err := fmt.Sscan(m.text("now"), &now); err != nil || time.Now().Unix()-now > 30 {
		s.t.Errorf("now is %s, which is not fresh", m.text("now"))
	}
	return m
}

// A web page asks a service without a Redis and a relay of its own.
func TestCommandOverHTTPIsAnswered(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	b := f.site(1002)
	b.start()
	client := f.stranger(7001, "")
	asked := b.echo()

	m := client.command("echo", "over HTTP: ä", b.id)
	queue := b.send(m)
	b.wantResult(client, queue, "over HTTP: ä", "")
	b.wantResult(client, queue, "over HTTP: ä", "") // reading does not remove
	got := asked.next(t)
	if got.text("ret") != queue || got.text("pxy") != "true" || got.text("src") != "7001" {
		t.Errorf("the service gets %s", got)
	}

	// A client that got no answer posts the same again.
	if again := b.send(m); again != queue {
		t.Errorf("the repeat gets queue %s, the first got %s", again, queue)
	}
	if other := b.send(client.command("echo", "another", b.id)); other == queue {
		t.Error("another message gets the same queue")
	}
	asked.next(t)
	if n := asked.times()["over HTTP: ä"]; n != 1 {
		t.Errorf("the service is asked %d times", n)
	}
	if n := b.length(queue); n != 1 {
		t.Errorf("the queue holds %d results", n)
	}
}

// Until there is an answer a result is an empty list, and a long poll hears of
// it when it comes.
func TestResultIsEmptyUntilTheServiceAnswers(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	b := f.site(1002)
	b.start()
	client := f.stranger(7001, "")
	release := make(chan struct{})
	b.serve("slow", func(m message) (string, error) { <-release; return "done", nil })

	queue := b.send(client.command("slow", "x", b.id))
	if list := b.results(queue, ""); len(list) != 0 {
		t.Errorf("the results are %s before there is one", list)
	}
	if list := b.results(queue, "?wait=100ms"); len(list) != 0 {
		t.Errorf("the results are %s before there is one", list)
	}
	done := make(chan []message)
	go func() { done <- b.results(queue, "?wait=30s") }()
	close(release)
	if list := <-done; len(list) != 1 || list[0].text("dat") != "done" {
		t.Errorf("the long poll hears %s", list)
	}
}

// Services answer commands in two ways: over the relay, or straight to the
// queue. Neither may be followed by an error, and a service that fails or is
// silent must be told.
func TestEachWayToAnswerACommandGivesOneResult(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	b := f.site(1002)
	b.start()
	client := f.stranger(7001, "")
	b.echo()
	answer := func(m message) message {
		return m.with("src", b.id).with("dst", []uint32{7001}).with("dat", encode("answer to "+m.data()))
	}
	b.serveMessages("straight", answer) // to ret, as serveMessages does
	asked := b.serveMessages("over", func(message) message { return nil })
	b.serve("fails", func(message) (string, error) { return "", errors.New("it failed") })
	send := func(cmd string) string {
		return b.send(client.sign(client.command(cmd, cmd, b.id).with("exp", 2)))
	}

	straight, over, fails, silent := send("straight"), send("over"), send("fails"), send("nobody.serves.this")
	b.pushRaw("reply", answer(asked.next(t)).String())
	b.wantResult(client, straight, "answer to straight", "")
	b.wantResult(client, over, "answer to over", "")
	b.wantResult(client, fails, "", "it failed")
	b.wantResult(client, silent, "nobody.serves.this", "request timeout (expiration reached, 2)")

	// The last deadline has passed: whatever would follow has come.
	b.awaitQuiet()
	for what, queue := range map[string]string{"straight": straight, "over": over, "fails": fails, "silent": silent} {
		if n := b.length(queue); n != 1 {
			t.Errorf("%s: there are %d results", what, n)
		}
	}
	b.wantNoDead()
}

// What an app of the site waits for is nobody else's to read, though its queue
// is a UUID as well.
func TestResultReadsOnlyQueuesOfCommands(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	m := request("echo", "private", b.id)
	a.push(m)
	eventually(t, "the reply is there", func() error {
		if a.length(m.text("ret")) == 0 {
			return errors.New("no reply")
		}
		return nil
	})
	if list := a.results(m.text("ret"), ""); len(list) != 0 {
		t.Errorf("a stranger reads %s", list)
	}
	if list := a.results(uuid.NewString(), ""); len(list) != 0 {
		t.Errorf("a queue that never was holds %s", list)
	}
	for _, bad := range []string{
		"", "x", "msgbus.system.local", "00000000-0000-0000-0000-000000000000", // version 0
		"{" + uuid.NewString() + "}", "urn:uuid:" + uuid.NewString(), strings.ReplaceAll(uuid.NewString(), "-", ""),
	} {
		status, answer := post(t, a.url("/zbus-result"), fmt.Sprintf(`{"retqueue":%q}`, bad))
		if status != http.StatusBadRequest || answer.text("Message") != "Invalid Retqueue, it should be a valid UUID" {
			t.Errorf("retqueue %q: %d %s", bad, status, answer)
		}
	}
	for _, body := range []string{"", "[]", "null", "not JSON", `{"retqueue":17}`, strings.Repeat(" ", 5000)} {
		if status, answer := post(t, a.url("/zbus-result"), body); status/100 != 4 {
			t.Errorf("body %q: %d %s", tail(body, 40), status, answer)
		}
	}
	if status, answer := post(t, a.url("/zbus-result?wait=soon"), `{"retqueue":"`+uuid.NewString()+`"}`); status != http.StatusBadRequest {
		t.Errorf("wait=soon: %d %s", status, answer)
	}
	if reply := a.pop(m.text("ret")); reply.data() != "private" {
		t.Errorf("the app reads %s", reply)
	}
}

// A command that cannot be accepted must say why, in the words and statuses
// that clients show.
func TestBadCommandIsRefusedWithItsReason(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	b := f.site(1002)
	b.start("--expose", "ec*", "--max-exp", "1h")
	client := f.stranger(7001, "")
	asked := b.echo()
	good := client.command("echo", "x", b.id)
	resign := func(key string, v any) message { return client.sign(good.with(key, v)) }
	nobody := newPerson(t, 7002)
	for what, c := range map[string]struct {
		m      message
		status int
		reason string
	}{
		"no signature":           {good.without("sig"), 400, "bad_signature"},
		"signature of another":   {good.with("sig", nobody.sign(good).text("sig")), 400, "bad_signature"},
		"long signature":         {good.with("sig", good.text("sig")+"00"), 400, "bad_signature"},
		"data changed":           {good.with("dat", encode("y")), 400, "bad_signature"},
		"source not registered":  {nobody.command("echo", "x", b.id), 400, "twin_not_found"},
		"another twin's":         {client.command("echo", "x", 1003), 400, "wrong_destination"},
		"two destinations":       {resign("dst", []uint32{1002, 1003}), 400, "wrong_destination"},
		"no destination":         {resign("dst", []uint32{}), 400, "wrong_destination"},
		"no source":              {resign("src", 0), 400, "wrong_source"},
		"the relay's own twin":   {b.command("echo", "x", b.id), 400, "wrong_source"},
		"old":                    {resign("now", time.Now().Unix()-61), 400, "clock_skew"},
		"of the future":          {resign("now", time.Now().Unix()+90), 400, "clock_skew"},
		"no command":             {resign("cmd", ""), 400, "bad_command"},
		"odd command":            {resign("cmd", "ec ho"), 400, "bad_command"},
		"reserved":               {resign("cmd", "system.local"), 400, "reserved_name"},
		"not exposed":            {resign("cmd", "other"), 403, "not_exposed"},
		"version 2":              {resign("ver", 2), 400, "bad_version"},
		"ret of its choice":      {resign("ret", "my-list"), 400, "malformed"},
		"data that is no base64": {resign("dat", "???"), 400, "malformed"},
		"too long a life":        {resign("exp", 3601), 400, "exp_too_long"},
		"no life":                {resign("exp", -5), 400, "expired"},
	} {
		status, answer := post(t, b.url("/zbus-cmd"), c.m.String())
		if status != c.status || answer.text("Reason") != c.reason || answer.text("Message") == "" || answer.text("Status") != "error" {
			t.Errorf("%s: %d %s, want %d %s", what, status, answer, c.status, c.reason)
		}
	}
	for _, body := range []string{"", "not JSON", "[]", "null", `{"ver":1`} {
		if status, answer := post(t, b.url("/zbus-cmd"), body); status != 400 || answer.text("Reason") != "malformed" {
			t.Errorf("body %q: %d %s", body, status, answer)
		}
	}
	b.wantResult(client, b.send(good), "x", "")
	asked.next(t)
	if n := len(asked.times()); n != 1 {
		t.Errorf("the service is asked for %v", asked.times())
	}
}
