package msgbus_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

const full = `{"ver":1,"uid":"1002.117","src":1001,"dst":[1002,1003],"cmd":"a.b","exp":30,"try":4,"dat":"WzEw\u003d","ret":"q\"\n",` +
	`"shm":"s","now":1621944461,"pxy":true,"err":"e","sig":"65ff","epoch":"ab12","x":{"y":[1, 2.50,"\u00e9"]},"trace-id":null}`

// sameJSON fails the test when two texts do not hold the same values.
func sameJSON(t testing.TB, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What one relay takes apart and the next puts together must be the same
// message, the members that neither knows included.
func TestAMessageComesThroughARelayUnchanged(t *testing.T) {
	m := decode(t, full)
	out := m.AppendWire(nil)
	sameJSON(t, out, full)
	if again := decode(t, string(out)); !reflect.DeepEqual(again, m) {
		t.Errorf("got  %+v\nwant %+v", again, m)
	}
	if got := string(m.AppendWire([]byte("before"))); got != "before"+string(out) {
		t.Errorf("AppendWire does not append: %s", got)
	}
}

// Apps put trace ids and the like beside our fields, and miss them at the other
// end when one of the forms drops them. Unknown values keep their own spelling:
// 2.50 stays 2.50.
func TestUnknownKeysAreKeptInEveryForm(t *testing.T) {
	m := decode(t, full)
	const kept = `,"x":{"y":[1, 2.50,"\u00e9"]},"trace-id":null}`
	for name, out := range map[string][]byte{
		"wire":            m.AppendWire(nil),
		"entry":           m.AppendEntryTail([]byte(`{`)),
		"classic request": m.AppendRequest(nil, msgbus.Classic),
		"newer request":   m.AppendRequest(nil, msgbus.Ref),
		"classic reply":   m.AppendReply(nil, msgbus.Classic),
		"newer reply":     m.AppendReply(nil, msgbus.Ref),
		"of a clone":      m.Clone().AppendWire(nil),
	} {
		if !strings.HasSuffix(string(out), kept) {
			t.Errorf("%s lost or changed the unknown keys: %s", name, out)
		}
		if _, err := msgbus.Decode(out); err != nil {
			t.Errorf("%s cannot be read: %v", name, err)
		}
	}
}

// The key `msgbusd` is a relay's note to itself. One that comes from outside and
// is written into an entry would set that entry's deadline and epoch.
func TestTheRelaysNoteIsReadAndNeverWritten(t *testing.T) {
	m := decode(t, `{"uid":"1.1","msgbusd":{"deadline":1},"ref":"r"}`)
	if string(m.Note) != `{"deadline":1}` {
		t.Errorf("the note is read as %q", m.Note)
	}
	for name, out := range map[string][]byte{
		"wire": m.AppendWire(nil), "entry": m.AppendEntryTail(nil),
		"request": m.AppendRequest(nil, msgbus.Ref), "reply": m.AppendReply(nil, msgbus.Ref),
		"classic request": m.AppendRequest(nil, msgbus.Classic), "classic reply": m.AppendReply(nil, msgbus.Classic),
	} {
		if strings.Contains(string(out), "msgbusd") {
			t.Errorf("%s repeats the note: %s", name, out)
		}
	}
}

// An app or service of the newer family drops what has not exactly this shape:
// src as text, err absent or an object, no uid, a schema.
func TestTheNewerDialectIsWrittenAsItsLibrariesExpect(t *testing.T) {
	request := msgbus.Message{Version: 1, UID: "2.1", Source: 2, Destinations: []uint32{1}, Command: "calculator.add", Expiration: 29, Retry: 3,
		Data: "WzEwLDIwXQ==", ReturnQueue: "msgbus.system.reply", Now: 7, Epoch: "ab", Signature: "65"}
	sameJSON(t, request.AppendRequest(nil, msgbus.Ref),
		`{"ver":1,"ref":"2.1","src":"2","cmd":"calculator.add","exp":29,"dat":"WzEwLDIwXQ==","ret":"msgbus.system.reply","shm":"application/json","now":7}`)

	reply := msgbus.Message{Version: 1, Ref: "app-ref", UID: "2.1", Source: 2, Destinations: []uint32{1}, Data: "MzA=", Schema: "text/plain", Now: 8}
	sameJSON(t, reply.AppendReply(nil, msgbus.Ref), `{"ver":1,"ref":"app-ref","src":"2","dat":"MzA=","shm":"text/plain","now":8}`)

	reply.Error = "broken"
	sameJSON(t, reply.AppendReply(nil, msgbus.Ref),
		`{"ver":1,"ref":"app-ref","src":"2","dat":"MzA=","shm":"text/plain","now":8,"err":{"code":255,"message":"broken"}}`)
}

// An app that asked in the newer dialect loses its own ref when the entry does.
func TestABacklogEntryIsAHeadAndATail(t *testing.T) {
	const head = `{"ver":1,"uid":"2.7","src":1,"dst":[2],"msgbusd":{"epoch":"ab","deadline":5},`
	asked := decode(t, `{"ver":1,"ref":"r","cmd":"c","exp":29,"dat":"ZA==","dst":[2,3],"con":"s","ret":"q","shm":"x","now":5,"mine":1}`)
	got := decode(t, string(asked.AppendEntryTail([]byte(head))))
	if got.UID != "2.7" || got.Source != 1 || !reflect.DeepEqual(got.Destinations, []uint32{2}) || string(got.Note) != `{"epoch":"ab","deadline":5}` {
		t.Errorf("the head was not kept: %+v", got)
	}
	if got.Ref != "r" || got.Dialect != msgbus.Ref || got.ReturnQueue != "q" || got.Command != "c" || got.Expiration != 29 {
		t.Errorf("the tail was not kept: %+v", got)
	}
	classic := decode(t, `{"uid":"","cmd":"c","dst":[2],"ret":"q"}`)
	if got := decode(t, string(classic.AppendEntryTail([]byte(head)))); got.Dialect != msgbus.Classic {
		t.Error("a classic app's entry is read as one of the newer dialect")
	}
}

// Two destinations of one message are sent at the same time: changing one copy
// must not change the other.
func TestAClonesFieldsAreItsOwn(t *testing.T) {
	m := decode(t, full)
	before := string(m.AppendWire(nil))
	c := m.Clone()
	c.Destinations[0], c.UID, c.Data = 9, "9.9", ""
	if got := string(m.AppendWire(nil)); got != before {
		t.Errorf("the original changed with its clone:\n%s\n%s", before, got)
	}
}

// Text that is not UTF-8 (set by code, not read) must not make the rest unreadable.
func TestInvalidUTF8IsReplacedOnTheWayOut(t *testing.T) {
	m := msgbus.Message{UID: "1.1", Error: "bad \xff byte"}
	if got := decode(t, string(m.AppendWire(nil))).Error; got != "bad \ufffd byte" {
		t.Errorf("err is %q", got)
	}
}
