package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// An app's author makes one of the four mistakes that the specification names
// and waits for an hour, because nothing tells him.
func TestTheFourInvalidMessagesOfTheSpecificationAreToldToTheirApp(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	good := request("echo", "x", b.id)
	for _, c := range []struct {
		bad  message
		text string
	}{
		{good.with("ver", 2), "received invalid message: protocol version mismatch"},
		{good.with("cmd", ""), "received invalid message: missing command request"},
		{good.with("dst", []uint32{}), "received invalid message: missing twin destination"},
	} {
		reply := a.call(c.bad)
		if got := reply.text("err"); got != c.text {
			t.Errorf("err is %q, want %q", got, c.text)
		}
		for _, key := range []string{"cmd", "dat", "ret"} {
			if reply.text(key) != c.bad.text(key) {
				t.Errorf("%s of the error is %q, want the request's own %q", key, reply.text(key), c.bad.text(key))
			}
		}
		a.wantAnswer(b.id)
	}

	// The fourth cannot be told to anybody, and is kept for the operator.
	lost := good.with("ret", "").with("dat", encode("find me"))
	a.push(lost)
	got := a.nextDead()
	if got.reason != "missing_return_queue" || got.detail != "received invalid message: return queue not defined" || got.message != lost.String() {
		t.Errorf("the dead letter is %+v", got)
	}
	a.wantAnswer(b.id)
	a.wantNoDead()
}

// Someone copies the example of the specification, and its `now` of 2021 makes
// it expire before it is sent.
func TestTheExampleOfTheSpecificationIsAnswered(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	asked := b.serve("wallet.stellar.balance.tft", func(message) (string, error) { return "18024884.1393419", nil })
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
	a.pushRaw("local", example)
	reply := a.pop("5bf6bc...0c7-e87d799fbc73")
	if reply.text("err") != "" || reply.text("dat") != "MTgwMjQ4ODQuMTM5MzQxOQ==" || reply.text("src") != "1002" {
		t.Errorf("the answer is %s", reply)
	}
	// The specification leaves out a part of dat, so that it is not base64.
	if got := asked.next(t).data(); got != "R0E3...2WUwzTzdOQzNQUlkN=" {
		t.Errorf("the service is asked with %q", got)
	}
}

// Apps and services whose base64 has line breaks (Python's encodebytes), or no
// padding, worked with other relays, and are refused by the strict other side.
func TestDataThatIsNotStrictBase64IsCarried(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.serveMessages("raw", func(m message) message {
		return m.with("src", b.id).with("dst", []any{m["src"]}).with("dat", "YW5z\nd2Vy\n")
	})
	asked := b.echo()
	for _, c := range []struct{ dat, want string }{
		{"aGVs\nbG8=\n", "hello"}, {"aGVsbG8", "hello"}, {"plain text: here", "plain text: here"}, {"", ""},
	} {
		if reply := a.call(request("echo", "", b.id).with("dat", c.dat)); reply.text("err") != "" || reply.data() != c.want {
			t.Errorf("dat %q: the answer is %s", c.dat, reply)
		}
		if got := asked.next(t).data(); got != c.want {
			t.Errorf("dat %q: the service is asked with %q", c.dat, got)
		}
	}
	if reply := a.call(request("raw", "", b.id)); reply.text("err") != "" || reply.data() != "answer" {
		t.Errorf("the answer is %s", reply)
	}
}

// A clock that is wrong, or that counts milliseconds, must not end a request
// before it is sent, nor keep it for ever.
func TestOddTimesOfAppsDoNotExpireTheirRequests(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	now := time.Now().Unix()
	for _, odd := range []any{0, -1, now - 100_000, now + 100_000, now * 1000, "1621944461", 1621944461.5, nil} {
		m := request("echo", "odd", b.id).with("now", odd)
		if reply := a.call(m); reply.text("err") != "" || reply.data() != "odd" {
			t.Errorf("now %v: the answer is %s", odd, reply)
		}
	}
}

// One entry that is not a message stops a queue, or is lost without a trace.
func TestWhatIsNoMessageGoesToTheDeadLettersOfEveryQueue(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	a.echo()
	for _, queue := range []string{"local", "remote", "reply"} {
		for i, raw := range []string{
			"not JSON", "[]", "17", `"text"`, "null", "{", "{}}", "\x00\xff", `{"ver":`,
			`{"ver":1,"ver":1,"cmd":"echo"}`, `{"ver":1,"CMD":"echo","cmd":"echo"}`, `{"ver":1,"dst":{"a":1},"cmd":"echo"}`,
			`{"ver":1,"cmd":17}`, `{"ver":1,"dst":[-1]}`, `{"ver":1,"dst":[4294967296]}`, `{"ver":1,"dst":[1.5]}`,
			strings.Repeat("[", 10_000),
		} {
			a.pushRaw(queue, raw)
			got := a.nextDead()
			if got.queue != queue || got.reason != "malformed" || got.message != raw || got.detail == "" {
				t.Errorf("pushed %q to %s: the dead letter is %+v", tail(raw, 60), queue, got)
			}

			if strings.HasSuffix(raw, "}") {
				ret := fmt.Sprintf("told-%s-%d", queue, i)
				raw = strings.Replace(raw, "{", `{"ret":"`+ret+`",`, 1)
				a.pushRaw(queue, raw)
				if got := a.nextDead(); got.reason != "malformed" || got.message != raw {
					t.Errorf("pushed %q to %s: the dead letter is %+v", raw, queue, got)
				}
				wantErrorText(t, a.pop(ret), "received invalid message: ")
			}
		}
		a.wantAnswer(b.id)
		b.wantAnswer(a.id)
	}
	a.wantNoDead()
}

// The scripts mark what a claim is done with by an empty text. One that somebody
// pushes must not pass for that and vanish without a trace.
func TestAnEmptyEntryGoesToTheDeadLettersToo(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	for _, queue := range []string{"local", "remote", "reply"} {
		a.pushRaw(queue, "")
		a.wantAnswer(b.id)
		if got := a.nextDead(); got.queue != queue || got.reason != "malformed" || got.message != "" {
			t.Errorf("pushed nothing to %s: the dead letter is %+v", queue, got)
		}
	}
}

// Messages that are JSON, and of which nobody can say what they want, must not
// stop the queue either, nor write where a stranger's message says.
func TestMessagesThatBelongNowhereAreKeptWithAReason(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	a.echo()
	for _, c := range []struct {
		queue string
		m     message
		want  string // reason; "" for nothing kept
	}{
		{"remote", request("echo", "x", a.id), "wrong_source"},
		{"remote", request("echo", "x", a.id).with("src", 1002), "malformed"}, // no uid
		{"reply", request("echo", "x", a.id), "malformed"},                    // no uid
		{"reply", request("echo", "x", b.id).with("uid", "1002.99"), ""},      // of no request: late
		{"local", request("system.local", "x", b.id).with("ret", ""), "missing_return_queue"},
	} {
		a.pushRaw(c.queue, c.m.String())
		if c.want != "" {
			if got := a.nextDead(); got.reason != c.want || got.message != c.m.String() {
				t.Errorf("%s in %s: the dead letter is %+v, want reason %s", c.m, c.queue, got, c.want)
			}
		}
		a.wantAnswer(b.id)
		b.wantAnswer(a.id)
		if n := a.length(c.m.text("ret")); c.m.text("ret") != "" && n > 0 && c.want != "malformed" {
			t.Errorf("%s in %s: %d messages were written where it says", c.m, c.queue, n)
		}
	}
	a.wantNoDead()
}

// An app's return queue is a key that holds something else. Its reply must not
// be lost without a trace, and must not hold up those of others.
func TestReplyToAKeyOfAnotherTypeIsADeadLetter(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	ctx := t.Context()
	a.rdb.Set(ctx, "a-text", "mine", 0)
	a.rdb.HSet(ctx, "a-hash", "f", "mine")

	for _, key := range []string{"a-text", "a-hash"} {
		a.push(request("echo", "precious", b.id).with("ret", key))
		got := a.nextDead()
		if got.reason != "wrong_type" || parse(t, got.message).data() != "precious" {
			t.Errorf("ret %s: the dead letter is %+v", key, got)
		}
		a.wantAnswer(b.id)

		// An error goes the same way.
		a.push(request("echo", "precious", 4711).with("ret", key))
		if got := a.nextDead(); got.reason != "wrong_type" || parse(t, got.message).text("err") != "destination not found" {
			t.Errorf("ret %s: the dead letter of an error is %+v", key, got)
		}
		a.push(request("echo", "precious", b.id).with("ret", key).with("ver", 7))
		if got := a.nextDead(); got.reason != "bad_version" {
			t.Errorf("ret %s: the dead letter of an invalid message is %+v", key, got)
		}
		a.wantAnswer(b.id)
	}
	if got := a.rdb.Get(ctx, "a-text").Val() + a.rdb.HGet(ctx, "a-hash", "f").Val(); got != "minemine" {
		t.Errorf("the keys now hold %q", got)
	}
	a.wantNoDead()
}

// An app names a key of the relay as its return queue, by mistake or not, and
// breaks the relay of the whole site.
func TestReturnQueueMustNotBeAKeyOfTheRelay(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	b.echo()
	for _, key := range []string{"msgbus.system.local", "msgbus.system.backlog", "msgbus.counter.1002", "msgbus.system.dead", "msgbus.system"} {
		a.push(request("echo", "x", b.id).with("ret", key))
		if got := a.nextDead(); got.reason != "reserved_name" {
			t.Errorf("ret %s: the dead letter is %+v", key, got)
		}
		a.wantAnswer(b.id)
	}
	a.wantError(request("system.local", "x", b.id), "received invalid message: ", "reserved")
	a.wantError(request("counter.1002", "x", b.id), "received invalid message: ", "reserved")
	a.wantAnswer(b.id)
	a.wantNoDead()
}

// A body over the limit takes the memory of the machine.
func TestWhatIsTooLargeIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.site(1001), f.site(1002)
	a.start("--max-body", "100000")
	b.start("--max-body", "20000")
	b.echo()
	large := func(n int) string { return strings.Repeat("x", n) }

	a.wantError(request("echo", large(100_000), b.id), "received invalid message: ", "100000 are carried")
	a.wantAnswer(b.id)
	a.wantError(request("echo", large(20_000), b.id), "twin 1002 refused the message: status 413", "over 20000 bytes")
	a.wantAnswer(b.id)

	many := make([]uint32, 1001)
	for i := range many {
		many[i] = uint32(5000 + i)
	}
	a.wantError(request("echo", "x", many...), "received invalid message: 1001 destinations, at most 1000")
	a.wantAnswer(b.id)

	status, body := post(t, b.url("/zbus-remote"), large(20_001))
	if status != 413 || !strings.Contains(body.text("Message"), "over 20000 bytes") {
		t.Errorf("a body of 20,001 bytes: status %d, %s", status, body)
	}

	// A service that answers too much is an error, not silence.
	b.serve("much", func(message) (string, error) { return large(30_000), nil })
	a.wantError(request("much", "x", b.id), "the service's answer is too large")
	a.wantAnswer(b.id)
}
