package msgbus_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/msgbusd/msgbusd/msgbus"
)

// What is accepted re-encodes to itself: a message that changes on its way
// through a relay has a signature that fits no longer, or two meanings.
func FuzzWhatIsAcceptedReencodesToItself(f *testing.F) {
	for _, text := range []string{specRequest, specForwarded, specReply, full, extended, `{}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		given := bytes.Clone(data)
		m, err := msgbus.Decode(data)
		if m == nil {
			t.Fatal("no message")
		}
		if !bytes.Equal(data, given) {
			t.Fatal("Decode wrote to its input")
		}
		if err != nil {
			reasonOf(t, err)
			return
		}
		wire := m.AppendWire(nil)
		again, err := msgbus.Decode(wire)
		if err != nil {
			t.Fatalf("%s cannot be read again: %v", wire, err)
		}
		if second := again.AppendWire(nil); !bytes.Equal(second, wire) {
			t.Fatalf("the second encoding differs:\n%s\n%s", wire, second)
		}
		if again.Challenge() != m.Challenge() {
			t.Fatal("the signed bytes changed")
		}
		want := m.Clone()
		want.Dialect, want.Ref, want.Note = msgbus.Classic, "", nil // stay behind
		if want.Ext == nil {
			want.TypedError = nil // is in `ext`
		}
		if len(want.Destinations) == 0 {
			want.Destinations = again.Destinations // [] and nil are the same
		}
		if !reflect.DeepEqual(again, want) {
			t.Fatalf("got  %+v\nwant %+v", again, want)
		}
		for _, out := range [][]byte{m.AppendRequest(nil, msgbus.Ref), m.AppendReply(nil, msgbus.Ref)} {
			if _, err := msgbus.Decode(out); err != nil {
				t.Fatalf("%s cannot be read: %v", out, err)
			}
		}
	})
}

// A backlog entry that cannot be read is a request that nobody answers.
func FuzzABacklogEntryIsReadAsItWasWritten(f *testing.F) {
	for _, text := range []string{specRequest, full, `{"ref":"r","dst":1}`, `{"msgbusd":{"deadline":1},"err":{}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := msgbus.Decode(data)
		if err != nil {
			return
		}
		const note = `{"epoch":"ab","deadline":5}`
		entry := m.AppendEntryTail([]byte(`{"ver":1,"uid":"2.7","src":1,"dst":[2],"msgbusd":` + note + `,`))
		again, err := msgbus.Decode(entry)
		if err != nil {
			t.Fatalf("%s cannot be read: %v", entry, err)
		}
		want := m.Clone()
		want.Version, want.UID, want.Source, want.Destinations = 1, "2.7", 1, []uint32{2}
		want.Note, want.Signature, want.Epoch = []byte(note), "", ""
		if want.Ext == nil {
			want.TypedError = nil // is in `ext`
		}
		if m.Dialect == msgbus.Classic {
			want.Ref = ""
		}
		if !reflect.DeepEqual(again, want) {
			t.Fatalf("got  %+v\nwant %+v", again, want)
		}
	})
}

// A uid has one text, and a text one uid.
func FuzzAUIDHasOneText(f *testing.F) {
	for _, text := range []string{"1002.117", "0.1", "1.9007199254740992", "01.1", "1.1.1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		dst, n, ok := msgbus.ParseUID(text)
		if ok && msgbus.FormatUID(dst, n) != text {
			t.Errorf("%q is read as %d and %d", text, dst, n)
		}
		if !ok && (dst != 0 || n != 0) {
			t.Errorf("%q is refused and gives %d, %d", text, dst, n)
		}
	})
}
