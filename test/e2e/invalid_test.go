package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/internal/fleettest"
)

// An app's author makes one of the four mistakes that the specification names
// and waits for an hour, because nothing tells him.
func TestTheFourInvalidMessagesOfTheSpecificationAreToldToTheirApp(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	good := fleettest.Request("echo", "x", b.ID)
	for _, c := range []struct {
		bad  fleettest.Message
		text string
	}{
		{good.With("ver", 2), "received invalid message: protocol version mismatch"},
		{good.With("cmd", ""), "received invalid message: missing command request"},
		{good.With("dst", []uint32{}), "received invalid message: missing twin destination"},
	} {
		reply := a.Call(c.bad)
		if got := reply.Text("err"); got != c.text {
			t.Errorf("err is %q, want %q", got, c.text)
		}
		for _, key := range []string{"cmd", "dat", "ret"} {
			if reply.Text(key) != c.bad.Text(key) {
				t.Errorf("%s of the error is %q, want the request's own %q", key, reply.Text(key), c.bad.Text(key))
			}
		}
		a.WantAnswer(b.ID)
	}

	// The fourth cannot be told to anybody, and is kept for the operator.
	lost := good.With("ret", "").With("dat", fleettest.Encode("find me"))
	a.Push(lost)
	got := a.NextDead()
	if got.Reason != "missing_return_queue" || got.Detail != "received invalid message: return queue not defined" || got.Message != lost.String() {
		t.Errorf("the dead letter is %+v", got)
	}
	a.WantAnswer(b.ID)
	a.WantNoDead()
}

// Someone copies the example of the specification, and its `now` of 2021 makes
// it expire before it is sent.
func TestTheExampleOfTheSpecificationIsAnswered(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	asked := b.Serve("wallet.stellar.balance.tft", func(fleettest.Message) (string, error) { return "18024884.1393419", nil })
	const example = `{
    "ver": 1,
    "uid": "",
    "cmd": "wallet.stellar.balance.tft",
    "exp": 3600,
    "try": 4,
    "dat": "R0E3...2WUwzTzdOQzNQUlkN=",
    "src": 0,
    "dst": [1002],
    "ret": "5bf6bc...0c7-e87d799fbc73",
    "shm": "",
    "now": 1621944461,
    "err": ""
}`
	a.PushRaw("local", example)
	reply := a.Pop("5bf6bc...0c7-e87d799fbc73")
	if reply.Text("err") != "" || reply.Text("dat") != "MTgwMjQ4ODQuMTM5MzQxOQ==" || reply.Text("src") != "1002" {
		t.Errorf("the answer is %s", reply)
	}
	// The specification leaves out a part of dat, so that it is not base64.
	if got := asked.Next(t).Data(); got != "R0E3...2WUwzTzdOQzNQUlkN=" {
		t.Errorf("the service is asked with %q", got)
	}
}

// Apps and services whose base64 has line breaks (Python's encodebytes), or no
// padding, worked with other relays, and are refused by the strict other side.
func TestDataThatIsNotStrictBase64IsCarried(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.ServeMessages("raw", func(m fleettest.Message) fleettest.Message {
		return m.With("src", b.ID).With("dst", []any{m["src"]}).With("dat", "YW5z\nd2Vy\n")
	})
	asked := b.Echo()
	for _, c := range []struct{ dat, want string }{
		{"aGVs\nbG8=\n", "hello"}, {"aGVsbG8", "hello"}, {"plain text: here", "plain text: here"}, {"", ""},
	} {
		if reply := a.Call(fleettest.Request("echo", "", b.ID).With("dat", c.dat)); reply.Text("err") != "" || reply.Data() != c.want {
			t.Errorf("dat %q: the answer is %s", c.dat, reply)
		}
		if got := asked.Next(t).Data(); got != c.want {
			t.Errorf("dat %q: the service is asked with %q", c.dat, got)
		}
	}
	if reply := a.Call(fleettest.Request("raw", "", b.ID)); reply.Text("err") != "" || reply.Data() != "answer" {
		t.Errorf("the answer is %s", reply)
	}
}

// A clock that is wrong, or that counts milliseconds, must not end a request
// before it is sent, nor keep it for ever.
func TestOddTimesOfAppsDoNotExpireTheirRequests(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	now := time.Now().Unix()
	for _, odd := range []any{0, -1, now - 100_000, now + 100_000, now * 1000, "1621944461", 1621944461.5, nil} {
		m := fleettest.Request("echo", "odd", b.ID).With("now", odd)
		if reply := a.Call(m); reply.Text("err") != "" || reply.Data() != "odd" {
			t.Errorf("now %v: the answer is %s", odd, reply)
		}
	}
}

// One entry that is not a message stops a queue, or is lost without a trace.
func TestWhatIsNoMessageGoesToTheDeadLettersOfEveryQueue(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	a.Echo()
	for _, queue := range []string{"local", "remote", "reply"} {
		for i, raw := range []string{
			"not JSON", "[]", "17", `"text"`, "null", "{", "{}}", "\x00\xff", `{"ver":`,
			`{"ver":1,"ver":1,"cmd":"echo"}`, `{"ver":1,"CMD":"echo","cmd":"echo"}`, `{"ver":1,"dst":{"a":1},"cmd":"echo"}`,
			`{"ver":1,"cmd":17}`, `{"ver":1,"dst":[-1]}`, `{"ver":1,"dst":[4294967296]}`, `{"ver":1,"dst":[1.5]}`,
			strings.Repeat("[", 10_000),
		} {
			a.PushRaw(queue, raw)
			got := a.NextDead()
			if got.Queue != queue || got.Reason != "malformed" || got.Message != raw || got.Detail == "" {
				t.Errorf("pushed %q to %s: the dead letter is %+v", fleettest.Tail(raw, 60), queue, got)
			}

			if strings.HasSuffix(raw, "}") {
				ret := fmt.Sprintf("told-%s-%d", queue, i)
				raw = strings.Replace(raw, "{", `{"ret":"`+ret+`",`, 1)
				a.PushRaw(queue, raw)
				if got := a.NextDead(); got.Reason != "malformed" || got.Message != raw {
					t.Errorf("pushed %q to %s: the dead letter is %+v", raw, queue, got)
				}
				fleettest.WantErrorText(t, a.Pop(ret), "received invalid message: ")
			}
		}
		a.WantAnswer(b.ID)
		b.WantAnswer(a.ID)
	}
	a.WantNoDead()
}

// The scripts mark what a claim is done with by an empty text. One that somebody
// pushes must not pass for that and vanish without a trace.
func TestAnEmptyEntryGoesToTheDeadLettersToo(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	for _, queue := range []string{"local", "remote", "reply"} {
		a.PushRaw(queue, "")
		a.WantAnswer(b.ID)
		if got := a.NextDead(); got.Queue != queue || got.Reason != "malformed" || got.Message != "" {
			t.Errorf("pushed nothing to %s: the dead letter is %+v", queue, got)
		}
	}
}

// Messages that are JSON, and of which nobody can say what they want, must not
// stop the queue either, nor write where a stranger's message says.
func TestMessagesThatBelongNowhereAreKeptWithAReason(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	a.Echo()
	for _, c := range []struct {
		queue string
		m     fleettest.Message
		want  string // reason; "" for nothing kept
	}{
		{"remote", fleettest.Request("echo", "x", a.ID), "wrong_source"},
		{"remote", fleettest.Request("echo", "x", a.ID).With("src", 1002), "malformed"}, // no uid
		{"reply", fleettest.Request("echo", "x", a.ID), "malformed"},                    // no uid
		{"reply", fleettest.Request("echo", "x", b.ID).With("uid", "1002.99"), ""},      // of no request: late
		{"local", fleettest.Request("system.local", "x", b.ID).With("ret", ""), "missing_return_queue"},
	} {
		a.PushRaw(c.queue, c.m.String())
		if c.want != "" {
			if got := a.NextDead(); got.Reason != c.want || got.Message != c.m.String() {
				t.Errorf("%s in %s: the dead letter is %+v, want reason %s", c.m, c.queue, got, c.want)
			}
		}
		a.WantAnswer(b.ID)
		b.WantAnswer(a.ID)
		if n := a.Length(c.m.Text("ret")); c.m.Text("ret") != "" && n > 0 && c.want != "malformed" {
			t.Errorf("%s in %s: %d messages were written where it says", c.m, c.queue, n)
		}
	}
	a.WantNoDead()
}

// An app's return queue is a key that holds something else. Its reply must not
// be lost without a trace, and must not hold up those of others.
func TestReplyToAKeyOfAnotherTypeIsADeadLetter(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	ctx := t.Context()
	a.RDB.Set(ctx, "a-text", "mine", 0)
	a.RDB.HSet(ctx, "a-hash", "f", "mine")

	for _, key := range []string{"a-text", "a-hash"} {
		a.Push(fleettest.Request("echo", "precious", b.ID).With("ret", key))
		got := a.NextDead()
		if got.Reason != "wrong_type" || fleettest.Parse(t, got.Message).Data() != "precious" {
			t.Errorf("ret %s: the dead letter is %+v", key, got)
		}
		a.WantAnswer(b.ID)

		// An error goes the same way.
		a.Push(fleettest.Request("echo", "precious", 4711).With("ret", key))
		if got := a.NextDead(); got.Reason != "wrong_type" || fleettest.Parse(t, got.Message).Text("err") != "destination not found" {
			t.Errorf("ret %s: the dead letter of an error is %+v", key, got)
		}
		a.Push(fleettest.Request("echo", "precious", b.ID).With("ret", key).With("ver", 7))
		if got := a.NextDead(); got.Reason != "bad_version" {
			t.Errorf("ret %s: the dead letter of an invalid message is %+v", key, got)
		}
		a.WantAnswer(b.ID)
	}
	if got := a.RDB.Get(ctx, "a-text").Val() + a.RDB.HGet(ctx, "a-hash", "f").Val(); got != "minemine" {
		t.Errorf("the keys now hold %q", got)
	}
	a.WantNoDead()
}

// An app names a key of the relay as its return queue, by mistake or not, and
// breaks the relay of the whole site.
func TestReturnQueueMustNotBeAKeyOfTheRelay(t *testing.T) {
	t.Parallel()
	_, a, b := fleettest.Pair(t)
	b.Echo()
	for _, key := range []string{"msgbus.system.local", "msgbus.system.backlog", "msgbus.counter.1002", "msgbus.system.dead", "msgbus.system"} {
		a.Push(fleettest.Request("echo", "x", b.ID).With("ret", key))
		if got := a.NextDead(); got.Reason != "reserved_name" {
			t.Errorf("ret %s: the dead letter is %+v", key, got)
		}
		a.WantAnswer(b.ID)
	}
	a.WantError(fleettest.Request("system.local", "x", b.ID), "received invalid message: ", "reserved")
	a.WantError(fleettest.Request("counter.1002", "x", b.ID), "received invalid message: ", "reserved")
	a.WantAnswer(b.ID)
	a.WantNoDead()
}

// A body over the limit takes the memory of the machine.
func TestWhatIsTooLargeIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	f := fleettest.New(t)
	a, b := f.Site(1001), f.Site(1002)
	a.Start("--max-body", "100000")
	b.Start("--max-body", "20000")
	b.Echo()
	large := func(n int) string { return strings.Repeat("x", n) }

	a.WantError(fleettest.Request("echo", large(100_000), b.ID), "received invalid message: ", "100000 are carried")
	a.WantAnswer(b.ID)
	a.WantError(fleettest.Request("echo", large(20_000), b.ID), "twin 1002 refused the message: too_large")
	a.WantAnswer(b.ID)

	many := make([]uint32, 1001)
	for i := range many {
		many[i] = uint32(5000 + i)
	}
	a.WantError(fleettest.Request("echo", "x", many...), "received invalid message: 1001 destinations, at most 1000")
	a.WantAnswer(b.ID)

	status, body := fleettest.Post(t, b.URL("/zbus-remote"), large(20_001))
	if status != 413 || !strings.Contains(body.Text("Message"), "over 20000 bytes") {
		t.Errorf("a body of 20,001 bytes: status %d, %s", status, body)
	}

	// A service that answers too much is an error, not silence.
	b.Serve("much", func(fleettest.Message) (string, error) { return large(30_000), nil })
	a.WantError(fleettest.Request("much", "x", b.ID), "the service's answer is too large")
	a.WantAnswer(b.ID)
}
