package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// send posts a command and returns its queue.
func send(s *fleettest.Site, m fleettest.Message) string {
	s.T.Helper()
	status, answer := fleettest.Post(s.T, s.URL("/zbus-cmd"), m.String())
	queue := answer.Text("retqueue")
	if id, err := uuid.Parse(queue); status != http.StatusOK || err != nil || id.Version() != 4 {
		s.T.Fatalf("/zbus-cmd answers %d %s", status, answer)
	}
	return queue
}

// wantResult waits for the one result of a queue, and wants it to be signed.
func wantResult(s *fleettest.Site, asker *fleettest.Person, queue, data, failure string) fleettest.Message {
	s.T.Helper()
	var list []fleettest.Message
	for len(list) == 0 {
		list = s.Results(queue, "?wait=10s")
	}
	m := list[0]
	if len(list) != 1 || m.Text("dat") != data || m.Text("err") != failure {
		s.T.Errorf("the results are %s, want one that says %q, err %q", list, data, failure)
	}
	if err := s.Signed(m); err != nil {
		s.T.Errorf("the signature of %s: %v", m, err)
	}
	if m.Text("src") != fmt.Sprint(s.ID) || fmt.Sprint(m["dst"]) != fmt.Sprintf("[%d]", asker.ID) || m.Text("ret") != queue {
		s.T.Errorf("the result is %s", m)
	}
	var now int64
	if _, err := fmt.Sscan(m.Text("now"), &now); err != nil || time.Now().Unix()-now > 30 {
		s.T.Errorf("now is %s, which is not fresh", m.Text("now"))
	}
	return m
}

// A web page asks a service without a Redis and a relay of its own.
func TestCommandOverHTTPIsAnswered(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	b := f.Site(1002)
	b.Start()
	client := f.Stranger(7001, "")
	asked := b.Echo()

	m := client.Command("echo", "over HTTP: ä", b.ID)
	queue := send(b, m)
	wantResult(b, client, queue, "over HTTP: ä", "")
	wantResult(b, client, queue, "over HTTP: ä", "") // reading does not remove
	got := asked.Next(t)
	if got.Text("ret") != queue || got.Text("pxy") != "true" || got.Text("src") != "7001" {
		t.Errorf("the service gets %s", got)
	}

	// A client that got no answer posts the same again.
	if again := send(b, m); again != queue {
		t.Errorf("the repeat gets queue %s, the first got %s", again, queue)
	}
	if other := send(b, client.Command("echo", "another", b.ID)); other == queue {
		t.Error("another message gets the same queue")
	}
	asked.Next(t)
	if n := asked.Times()["over HTTP: ä"]; n != 1 {
		t.Errorf("the service is asked %d times", n)
	}
	if n := b.Length(queue); n != 1 {
		t.Errorf("the queue holds %d results", n)
	}
}

// Until there is an answer a result is an empty list, and a long poll hears of
// it when it comes.
func TestResultIsEmptyUntilTheServiceAnswers(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	b := f.Site(1002)
	b.Start()
	client := f.Stranger(7001, "")
	release := make(chan struct{})
	b.Serve("slow", func(m fleettest.Message) (string, error) { <-release; return "done", nil })

	queue := send(b, client.Command("slow", "x", b.ID))
	if list := b.Results(queue, ""); len(list) != 0 {
		t.Errorf("the results are %s before there is one", list)
	}
	if list := b.Results(queue, "?wait=100ms"); len(list) != 0 {
		t.Errorf("the results are %s before there is one", list)
	}
	done := make(chan []fleettest.Message)
	go func() { done <- b.Results(queue, "?wait=30s") }()
	close(release)
	if list := <-done; len(list) != 1 || list[0].Text("dat") != "done" {
		t.Errorf("the long poll hears %s", list)
	}
}

// Services answer commands in two ways: over the relay, or straight to the
// queue. Neither may be followed by an error, and a service that fails or is
// silent must be told.
func TestEachWayToAnswerACommandGivesOneResult(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	b := f.Site(1002)
	b.Start()
	client := f.Stranger(7001, "")
	b.Echo()
	answer := func(m fleettest.Message) fleettest.Message {
		return m.With("src", b.ID).With("dst", []uint32{7001}).With("dat", fleettest.Encode("answer to "+m.Data()))
	}
	b.ServeMessages("straight", answer) // to ret, as serveMessages does
	asked := b.ServeMessages("over", func(fleettest.Message) fleettest.Message { return nil })
	b.Serve("fails", func(fleettest.Message) (string, error) { return "", errors.New("it failed") })
	send := func(cmd string) string {
		return send(b, client.Sign(client.Command(cmd, cmd, b.ID).With("exp", 2)))
	}

	straight, over, fails, silent := send("straight"), send("over"), send("fails"), send("nobody.serves.this")
	b.PushRaw("reply", answer(asked.Next(t)).String())
	wantResult(b, client, straight, "answer to straight", "")
	wantResult(b, client, over, "answer to over", "")
	wantResult(b, client, fails, "", "it failed")
	wantResult(b, client, silent, "nobody.serves.this", "request timeout (expiration reached, 2)")

	// The last deadline has passed: whatever would follow has come.
	b.AwaitQuiet()
	for what, queue := range map[string]string{"straight": straight, "over": over, "fails": fails, "silent": silent} {
		if n := b.Length(queue); n != 1 {
			t.Errorf("%s: there are %d results", what, n)
		}
	}
	b.WantNoDead()
}

// What an app of the site waits for is nobody else's to read, though its queue
// is a UUID as well.
func TestResultReadsOnlyQueuesOfCommands(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	m := fleettest.Request("echo", "private", b.ID)
	a.Push(m)
	fleettest.Eventually(t, "the reply is there", func() error {
		if a.Length(m.Text("ret")) == 0 {
			return errors.New("no reply")
		}
		return nil
	})
	if list := a.Results(m.Text("ret"), ""); len(list) != 0 {
		t.Errorf("a stranger reads %s", list)
	}
	if list := a.Results(uuid.NewString(), ""); len(list) != 0 {
		t.Errorf("a queue that never was holds %s", list)
	}
	for _, bad := range []string{
		"", "x", "msgbus.system.local", "00000000-0000-0000-0000-000000000000", // version 0
		"{" + uuid.NewString() + "}", "urn:uuid:" + uuid.NewString(), strings.ReplaceAll(uuid.NewString(), "-", ""),
	} {
		status, answer := fleettest.Post(t, a.URL("/zbus-result"), fmt.Sprintf(`{"retqueue":%q}`, bad))
		if status != http.StatusBadRequest || answer.Text("Message") != "Invalid Retqueue, it should be a valid UUID" {
			t.Errorf("retqueue %q: %d %s", bad, status, answer)
		}
	}
	for _, body := range []string{"", "[]", "null", "not JSON", `{"retqueue":17}`, strings.Repeat(" ", 5000)} {
		if status, answer := fleettest.Post(t, a.URL("/zbus-result"), body); status/100 != 4 {
			t.Errorf("body %q: %d %s", fleettest.Tail(body, 40), status, answer)
		}
	}
	if status, answer := fleettest.Post(t, a.URL("/zbus-result?wait=soon"), `{"retqueue":"`+uuid.NewString()+`"}`); status != http.StatusBadRequest {
		t.Errorf("wait=soon: %d %s", status, answer)
	}
	if reply := a.Pop(m.Text("ret")); reply.Data() != "private" {
		t.Errorf("the app reads %s", reply)
	}
}

// A command that cannot be accepted must say why, in the words and statuses
// that clients show.
func TestBadCommandIsRefusedWithItsReason(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	b := f.Site(1002)
	b.Start("--expose", "ec*", "--max-exp", "1h")
	client := f.Stranger(7001, "")
	asked := b.Echo()
	good := client.Command("echo", "x", b.ID)
	resign := func(key string, v any) fleettest.Message { return client.Sign(good.With(key, v)) }
	nobody := fleettest.NewPerson(t, 7002)
	other := f.Stranger(7003, "") // twice within a minute, a key is uncertain
	for what, c := range map[string]struct {
		m      fleettest.Message
		status int
		reason string
	}{
		"no signature":           {good.Without("sig"), 400, "bad_signature"},
		"signature of another":   {good.With("sig", nobody.Sign(good).Text("sig")), 400, "bad_signature"},
		"long signature":         {good.With("sig", good.Text("sig")+"00"), 400, "bad_signature"},
		"data changed":           {other.Command("echo", "x", b.ID).With("dat", fleettest.Encode("y")), 400, "bad_signature"},
		"source not registered":  {nobody.Command("echo", "x", b.ID), 400, "twin_not_found"},
		"another twin's":         {client.Command("echo", "x", 1003), 400, "wrong_destination"},
		"two destinations":       {resign("dst", []uint32{1002, 1003}), 400, "wrong_destination"},
		"no destination":         {resign("dst", []uint32{}), 400, "wrong_destination"},
		"no source":              {resign("src", 0), 400, "wrong_source"},
		"the relay's own twin":   {b.Command("echo", "x", b.ID), 400, "wrong_source"},
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
		status, answer := fleettest.Post(t, b.URL("/zbus-cmd"), c.m.String())
		if status != c.status || answer.Text("Reason") != c.reason || answer.Text("Message") == "" || answer.Text("Status") != "error" {
			t.Errorf("%s: %d %s, want %d %s", what, status, answer, c.status, c.reason)
		}
	}
	for _, body := range []string{"", "not JSON", "[]", "null", `{"ver":1`} {
		if status, answer := fleettest.Post(t, b.URL("/zbus-cmd"), body); status != 400 || answer.Text("Reason") != "malformed" {
			t.Errorf("body %q: %d %s", body, status, answer)
		}
	}
	wantResult(b, client, send(b, good), "x", "")
	asked.Next(t)
	if n := len(asked.Times()); n != 1 {
		t.Errorf("the service is asked for %v", asked.Times())
	}
}
