package msgbus_test

import (
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// The specification's own examples, comments removed. Whoever copies them from
// its page must get an answer.
const (
	specRequest = `{
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
	specForwarded = `{
    "ver": 1,
    "uid": "1002.117",
    "cmd": "wallet.stellar.balance.tft",
    "exp": 3600,
    "try": 4,
    "dat": "R0E3...2WUwzTzdOQzNQUlkN=",
    "src": 1001,
    "dst": [1002],
    "ret": "5bf6bc...0c7-e87d799fbc73",
    "shm": "",
    "now": 1621944461,
    "err": ""
}`
	specReply = `{
    "ver": 1,
    "uid": "1002.117",
    "cmd": "wallet.stellar.balance.tft",
    "exp": 3600,
    "try": 4,
    "dat": "MTgwMjQ4ODQuMTM5MzQxOQ==",
    "src": 1002,
    "dst": [1001],
    "ret": "5bf6bc...0c7-e87d799fbc73",
    "shm": "",
    "now": 1621944462,
    "err": ""
}`
)

// An app that follows the specification to the letter gets "invalid message".
func TestTheSpecificationsExamplesDecode(t *testing.T) {
	request := msgbus.Message{Version: 1, Command: "wallet.stellar.balance.tft", Expiration: 3600, Retry: 4,
		Data: "R0E3...2WUwzTzdOQzNQUlkN=", Destinations: []uint32{1002}, ReturnQueue: "5bf6bc...0c7-e87d799fbc73", Now: 1621944461}
	forwarded := request
	forwarded.UID, forwarded.Source = "1002.117", 1001
	reply := forwarded
	reply.Data, reply.Source, reply.Destinations, reply.Now = "MTgwMjQ4ODQuMTM5MzQxOQ==", 1002, []uint32{1001}, 1621944462
	for _, c := range []struct {
		text string
		want msgbus.Message
	}{{specRequest, request}, {specForwarded, forwarded}, {specReply, reply}} {
		if got := decode(t, c.text); !reflect.DeepEqual(*got, c.want) {
			t.Errorf("got  %+v\nwant %+v", *got, c.want)
		}
	}
	if err := decode(t, specRequest).CheckLocal(1000); err != nil {
		t.Errorf("the specification's request cannot be admitted: %v", err)
	}
}

// Apps of the newer family see their requests vanish, or their answers dropped
// for a numeric src.
func TestTheNewerDialectsMessagesDecode(t *testing.T) {
	for _, c := range []struct {
		text string
		want msgbus.Message
	}{
		{
			`{"ver":1,"ref":"","cmd":"calculator.add","exp":29,"dat":"WzEwLDIwXQ==","dst":[2],"con":null,"ret":"q","shm":"application/json","now":0}`,
			msgbus.Message{Version: 1, Command: "calculator.add", Expiration: 29, Data: "WzEwLDIwXQ==", Destinations: []uint32{2},
				ReturnQueue: "q", Schema: "application/json", Dialect: msgbus.Ref},
		},
		{
			`{"ver":1,"ref":"2.1","dat":"MzA=","dst":"2","shm":"application/json","now":7}`,
			msgbus.Message{Version: 1, Ref: "2.1", Data: "MzA=", Destinations: []uint32{2}, Schema: "application/json", Now: 7, Dialect: msgbus.Ref},
		},
		{
			`{"ver":1,"ref":"x","src":"2","err":{"code":255,"message":"no such method"}}`,
			msgbus.Message{Version: 1, Ref: "x", Source: 2, Error: "no such method", Dialect: msgbus.Ref,
				TypedError: &msgbus.TypedError{Code: 255, Message: "no such method"}},
		},
	} {
		if got := decode(t, c.text); !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", c.text, *got, c.want)
		}
	}
}

// Published programs write one field in several ways; each that is refused is a
// program that stops working.
func TestDecodeTakesFieldsAsPublishedProgramsWriteThem(t *testing.T) {
	source := func(m *msgbus.Message) any { return m.Source }
	dst := func(m *msgbus.Message) any { return fmt.Sprint(m.Destinations) }
	errText := func(m *msgbus.Message) any { return m.Error }
	exp := func(m *msgbus.Message) any { return m.Expiration }
	now := func(m *msgbus.Message) any { return m.Now }
	try := func(m *msgbus.Message) any { return m.Retry }
	ver := func(m *msgbus.Message) any { return m.Version }
	for _, c := range []struct {
		member string
		field  func(*msgbus.Message) any
		want   any
	}{
		{`"src":2`, source, uint32(2)},
		{`"src":"2"`, source, uint32(2)},
		{`"src":"2:some-session"`, source, uint32(2)},
		{`"src":""`, source, uint32(0)},
		{`"src":null`, source, uint32(0)},
		{`"src":4294967295`, source, uint32(math.MaxUint32)},

		{`"dst":[2,3]`, dst, "[2 3]"},
		{`"dst":["2","3:abc"]`, dst, "[2 3]"},
		{`"dst":2`, dst, "[2]"},
		{`"dst":"2"`, dst, "[2]"},
		{`"dst":"2:session"`, dst, "[2]"},
		{`"dst":null`, dst, "[]"},
		{`"dst":[]`, dst, "[]"},
		{`"dst":""`, dst, "[]"},

		{`"err":""`, errText, ""},
		{`"err":null`, errText, ""},
		{`"err":"broken"`, errText, "broken"},
		{`"err":{"code":255,"message":"broken"}`, errText, "broken"},
		{`"err":{"code":255,"message":""}`, errText, `{"code":255,"message":""}`},
		{`"err":{}`, errText, `{}`},

		{`"exp":29`, exp, int64(29)},
		{`"exp":29.9`, exp, int64(29)},
		{`"exp":"29"`, exp, int64(29)},
		{`"exp":1.7e9`, exp, int64(1_700_000_000)},
		{`"exp":null`, exp, int64(0)},
		{`"exp":""`, exp, int64(0)},
		{`"exp":9223372036854775807`, exp, int64(math.MaxInt64)},
		{`"exp":9223372036854775808`, exp, int64(math.MaxInt64)},
		{`"exp":1e999`, exp, int64(math.MaxInt64)},
		{`"exp":-1e999`, exp, int64(math.MinInt64)},
		{`"exp":-9223372036854775809`, exp, int64(math.MinInt64)},

		{`"now":1621944461`, now, int64(1621944461)},
		{`"now":1621944461.5`, now, int64(1621944461)},
		{`"now":"1621944461"`, now, int64(1621944461)},
		{`"now":1621944461123`, now, int64(1621944461123)},
		{`"now":1e-999`, now, int64(0)},

		{`"try":4`, try, 4},
		{`"try":-1`, try, 0},
		{`"try":1e30`, try, math.MaxInt32},
		{`"try":null`, try, 0},
		{`"ver":"1"`, ver, 1},
		{`"ver":1.0`, ver, 1},
		{`"ver":4294967297`, ver, math.MaxInt32},
	} {
		m := decode(t, "{\n\t"+c.member+"\r\n}\n")
		if got := c.field(m); got != c.want {
			t.Errorf("%s is read as %v, want %v", c.member, got, c.want)
		}
	}
}

// A text field that is null, or holds escapes or NUL, is what some apps send.
func TestDecodeReadsTextAsItWasMeant(t *testing.T) {
	m := decode(t, `{"uid":null,"cmd":"a\u002eb","dat":"x\u0000y","ret":"\ud83d\ude00","shm":null,"sig":null,"err":"line\nbreak","src":1}`)
	if m.UID != "" || m.Command != "a.b" || m.Data != "x\x00y" || m.ReturnQueue != "😀" || m.Error != "line\nbreak" || m.Signature != "" {
		t.Errorf("got %+v", m)
	}
	if got := decode(t, `{"\u0073rc":7}`).Source; got != 7 {
		t.Errorf("an escaped key was not recognised: src is %d", got)
	}
}

// The dialect decides in which shape the answer comes; the wrong one is dropped
// by the app's library without a word.
func TestTheDialectIsToldByTheKeys(t *testing.T) {
	for text, want := range map[string]msgbus.Dialect{
		`{}`:                              msgbus.Ref,
		`{"ver":1,"cmd":"x"}`:             msgbus.Ref,
		`{"ref":""}`:                      msgbus.Ref,
		`{"ref":null,"uid":"1.1"}`:        msgbus.Ref,
		`{"con":null,"src":1,"try":2}`:    msgbus.Ref,
		`{"uid":""}`:                      msgbus.Classic,
		`{"src":0}`:                       msgbus.Classic,
		`{"try":null}`:                    msgbus.Classic,
		`{"uid":"","src":0,"try":3}`:      msgbus.Classic,
		`{"refs":1,"conn":2,"uid":"1.1"}`: msgbus.Classic,
	} {
		if got := decode(t, text).Dialect; got != want {
			t.Errorf("%s is read as %s, want %s", text, got, want)
		}
	}
}

// A request with a deadline as its exp must end at that deadline, and one with
// an absurd exp must not overflow into the past.
func TestLifetimeReadsRelativeAndAbsoluteExpirations(t *testing.T) {
	const start = 1_700_000_000
	const century = 100 * 365 * 24 * time.Hour
	for exp, want := range map[int64]time.Duration{
		0:                time.Hour,
		1:                time.Second,
		-5:               -5 * time.Second,
		1_000_000_000:    1_000_000_000 * time.Second,
		start + 30:       30 * time.Second,
		start - 30:       -30 * time.Second,
		math.MaxInt64:    century,
		math.MinInt64:    -century,
		start*1000 + 123: century, // milliseconds: far away, and cut by the relay's bound
	} {
		m := msgbus.Message{Expiration: exp}
		if got := m.Lifetime(start); got != want {
			t.Errorf("exp %d lives %s, want %s", exp, got, want)
		}
	}
}
