package msgbus

import (
	"reflect"
	"strings"
	"testing"
)

// The usual message is read by the quick reader, or it gains nothing.
func TestWhatRelaysAndAppsWriteIsPlain(t *testing.T) {
	m := Message{
		Version: 1, UID: "1002.7", Command: "echo", Expiration: 60, Retry: 3, Data: "aGVsbG8=", Source: 1001, Destinations: []uint32{1002, 1003},
		ReturnQueue: "app", Schema: "application/json", Now: 1621944461, Signature: "65ab", Epoch: "0a",
	}
	const note = `{"epoch":"5218","admitted":1621944461000,"deadline":1621944521000,"dialect":"classic"}`
	for name, text := range map[string]string{
		"a message on the wire": string(m.AppendWire(nil)),
		"a backlog entry":       string(m.AppendEntryTail([]byte(`{"ver":1,"uid":"1002.7","src":1001,"dst":[1002],"msgbusd":` + note + `,`))),
		"what Python writes":    `{"ver": 1, "ref": "", "cmd": "add", "exp": 29, "dat": "WzEwXQ==", "dst": [2], "ret": "r", "now": 0}`,
		"lines":                 "{\n\t\"ver\": 1,\r\n\t\"pxy\": true\n}\n",
	} {
		if _, ok := new(Message).decodePlain(text); !ok {
			t.Errorf("%s is not: %s", name, text)
		}
	}
}

// A message that the quick reader takes for another, or takes at all where the strict
// one refuses it, is a hole: signed bytes and bounds are those of the strict reader.
func FuzzThePlainReaderAgreesWithTheStrictOne(f *testing.F) {
	for _, text := range []string{
		`{"ver":1,"uid":"2.7","src":1,"dst":[2,3],"msgbusd":{"epoch":"ab","deadline":5},"cmd":"c","exp":0,"try":1,"dat":"","ret":"r","pxy":false,"err":""}`,
		`{ "ver" : 01 }`, `{"now":-1}`, `{"exp":1.5}`, `{"exp":123456789012345678}`, `{"dst":[]}`, `{"dst":[0]}`, `{"src":4294967296}`, `{"try":2147483648}`,
		`{"uid":"a","uid":"b"}`, `{"msgbusd":{"a":1,"a":2}}`, `{"msgbusd":{"a":{}}}`, `{"dat":"\u0041"}`, `{"dat":"é"}`, `{"ver":1,}`, `{"ver":1}{}`, `{}`, ``, `{"pxy":nul}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		quick, strict := &Message{}, &Message{}
		seen, ok := quick.decodePlain(text)
		if !ok {
			return
		}
		want, err := strict.decode([]byte(text))
		if err != nil {
			t.Fatalf("%q is refused by the strict reader: %v", text, err)
		}
		if seen != want || !reflect.DeepEqual(quick, strict) {
			t.Fatalf("%q is read as\n%+v, keys %b\nand by the strict reader as\n%+v, keys %b", text, quick, seen, strict, want)
		}
	})
}

// Each place of the eight bytes that are looked at together.
func TestPlainTextIsToldByteByByte(t *testing.T) {
	for c := range 256 {
		want := c >= ' ' && c < 0x80 && c != '"' && c != '\\'
		for place := range 20 {
			text := strings.Repeat("~", place) + string([]byte{byte(c)}) + strings.Repeat(" ", 19-place)
			if isPlain(text) != want {
				t.Errorf("byte %#x at %d: plain is %v, want %v", c, place, !want, want)
			}
		}
	}
}
