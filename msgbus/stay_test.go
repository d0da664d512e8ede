package msgbus_test

import (
	"testing"
	"time"

	"github.com/msgbusd/msgbusd/msgbus"
)

// A trace shows times that the other relay told: those, and nothing that a stranger can
// make of them.
func TestStayIsReadAsItWasWritten(t *testing.T) {
	accepted, left := time.UnixMilli(1795732704338), time.UnixMilli(1795732705000)
	for _, want := range []msgbus.Stay{{Accepted: accepted, Left: left}, {Left: left}} {
		if got := msgbus.ParseStay(want.AppendNote(nil)); !got.Accepted.Equal(want.Accepted) || !got.Left.Equal(want.Left) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	for _, note := range []string{"", "{}", `{"accepted":1}`, `{"accepted":-1,"left":2}`, `{"accepted":1,"left":0}`, `{"accepted":1,"left":99999999999999999}`,
		`{"accepted":"1","left":2}`, `{"accepted":1,"left":2,"x":3}`, `{"left":2,"accepted":1}`} {
		if got := msgbus.ParseStay([]byte(note)); got != (msgbus.Stay{}) {
			t.Errorf("%s is %v", note, got)
		}
	}
}

// Only a relay of this project gets the note: a published one gets what it always got.
func TestNoteIsInNoMessageOfVersion1(t *testing.T) {
	m := &msgbus.Message{Version: 1, UID: "1002.1", Command: "x", Source: 1002, Destinations: []uint32{1001}, Note: []byte(`{"accepted":1,"left":2}`)}
	plain := string(m.AppendWire(nil))
	noted := string(m.AppendNoted(nil))
	if want := plain[:len(plain)-1] + `,"msgbusd":{"accepted":1,"left":2}}`; noted != want {
		t.Errorf("%s, want %s", noted, want)
	}
	read, err := msgbus.Decode(noted)
	if err != nil || string(read.Note) != string(m.Note) || string(read.AppendWire(nil)) != plain {
		t.Errorf("read as %+v (%v)", read, err)
	}
}
